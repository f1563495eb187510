"""A model's own branches tuned to data: what of its networks is trained, the trainer's view of them, and the weights that follow.

May import `arrays`, `runs`, `measure` and below; must not know images, prompts or pipelines: these are encoded when they come here.
"""

from mmg_diffusers.tuning.adapters import Adapter, LowRank, Whole
from mmg_diffusers.tuning.branches import Branches, Encoded, OwnLevels
from mmg_diffusers.tuning.fitting import FitPlan, Part, fit_branches
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.soft import SoftPlan, SoftPrompts, soft_prompts
from mmg_diffusers.tuning.tuned import Tuned
from mmg_diffusers.tuning.tuner import tune

__all__ = [
    "Adapter",
    "Branches",
    "Encoded",
    "FitPlan",
    "LowRank",
    "OwnLevels",
    "Part",
    "SoftPlan",
    "SoftPrompts",
    "TunePlan",
    "Tuned",
    "Whole",
    "fit_branches",
    "soft_prompts",
    "tune",
]
