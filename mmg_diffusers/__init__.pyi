from .analysis.audit import Audit as Audit
from .analysis.classification import Calibration as Calibration
from .analysis.classification import Classification as Classification
from .analysis.records import load as load
from .arrays.estimate import estimate_mi as estimate_mi
from .denoisers.base import Adapted as Adapted
from .denoisers.base import Denoiser as Denoiser
from .denoisers.references import GaussianReference as GaussianReference
from .measure.density import Density as Density
from .measure.estimate import Estimate as Estimate
from .measure.estimators import MINDE as MINDE
from .measure.estimators import MMG as MMG
from .measure.measured import Measured as Measured
from .measure.tolerance import Tolerance as Tolerance
from .measure.value import Value as Value
from .pairs.likelihood import Likelihood as Likelihood
from .pairs.marginals import Candidates as Candidates
from .pairs.marginals import Negatives as Negatives
from .pairs.marginals import NullPrompt as NullPrompt
from .pairs.plan import Plan as Plan
from .pairs.prompts import Masked as Masked
from .pipelines.pipeline import MMGPipeline as MMGPipeline
from .pipelines.shipped import shapes_model as shapes_model
from .runs.shards import Outcome as Outcome

__version__: str
