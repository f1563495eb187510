"""Mutual information with pretrained diffusion models.

from mmg_diffusers import MMGPipeline
pipe = MMGPipeline.from_pretrained("...")
pipe(images, prompts).mean()
"""

from importlib.resources import files
from pathlib import Path

from mmg_diffusers.analysis import Calibration, Classification
from mmg_diffusers.arrays import estimate_mi
from mmg_diffusers.denoiser import Adapted, Denoiser
from mmg_diffusers.estimators import MINDE, MMG
from mmg_diffusers.marginals import Candidates, Negatives, NullPrompt
from mmg_diffusers.pipeline import MMGPipeline
from mmg_diffusers.prompts import Masked
from mmg_diffusers.result import Estimate, Value
from mmg_diffusers.runs import Outcome
from mmg_diffusers.tolerance import Tolerance

__version__ = "0.1.0"


def shapes_model() -> Path:
    """Folder of the Stable Diffusion model of the Shapes world that ships with the package."""
    return Path(str(files("mmg_diffusers") / "models" / "shapes"))


__all__ = [
    "MINDE",
    "MMG",
    "Adapted",
    "Calibration",
    "Candidates",
    "Classification",
    "Denoiser",
    "Estimate",
    "MMGPipeline",
    "Masked",
    "Negatives",
    "NullPrompt",
    "Outcome",
    "Tolerance",
    "Value",
    "estimate_mi",
    "shapes_model",
]
