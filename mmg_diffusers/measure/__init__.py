"""The measurement itself, on tensors: where to look, with which noise, what is summed, and the record that follows.

The only place with loops that call a network. May import `checks`, `files` and `denoisers`; must not know images,
prompts or pipelines.
"""

from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.control import Control
from mmg_diffusers.measure.cost import Cost
from mmg_diffusers.measure.density import Continuum, Density
from mmg_diffusers.measure.divergence import (
    Entropy,
    EntropyEstimator,
    Interaction,
    interaction_information,
    kl_divergence,
)
from mmg_diffusers.measure.ensemble import Ensemble
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG
from mmg_diffusers.measure.grid import Grid
from mmg_diffusers.measure.known import KnownLevels, known_range
from mmg_diffusers.measure.likelihood import LogLikelihood, LogLikelihoodRatio
from mmg_diffusers.measure.moments import Curve, OutsideNorm
from mmg_diffusers.measure.probability import LogProbability, LogProbabilityRatio
from mmg_diffusers.measure.proposals import gap_fitted, published_adaptive
from mmg_diffusers.measure.quadrature import (
    AtLevels,
    GaussLegendre,
    Logistic,
    Quadrature,
    Simpson,
    StratifiedLogistic,
    StratifiedProfile,
    StratifiedUniform,
    Trapezoid,
)
from mmg_diffusers.measure.reading import Boundary
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding, Verdict

__all__ = [
    "MINDE",
    "MMG",
    "AtLevels",
    "Boundary",
    "CandidateCurve",
    "Continuum",
    "Control",
    "Cost",
    "Curve",
    "Density",
    "Ensemble",
    "Entropy",
    "EntropyEstimator",
    "Estimate",
    "Finding",
    "GaussLegendre",
    "Grid",
    "Interaction",
    "KnownLevels",
    "LogLikelihood",
    "LogLikelihoodRatio",
    "LogProbability",
    "LogProbabilityRatio",
    "Logistic",
    "NoisePath",
    "OutsideNorm",
    "Pairs",
    "Quadrature",
    "Simpson",
    "StratifiedLogistic",
    "StratifiedProfile",
    "StratifiedUniform",
    "Tolerance",
    "Trapezoid",
    "Value",
    "Verdict",
    "gap_fitted",
    "interaction_information",
    "kl_divergence",
    "known_range",
    "mean_over_pairs",
    "measure_candidates",
    "published_adaptive",
]
