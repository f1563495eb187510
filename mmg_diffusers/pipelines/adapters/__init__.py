"""Families of pipelines: one file each, found by the class name of the pipeline.

May import whatever `pipelines` may; no family imports another.
"""

from mmg_diffusers.pipelines.adapters.base import Codec, Family, Origin, adapters, family_of, find_family, register
from mmg_diffusers.pipelines.adapters.stable_diffusion import StableDiffusion

__all__ = [
    "Codec",
    "Family",
    "Origin",
    "StableDiffusion",
    "adapters",
    "family_of",
    "find_family",
    "register",
]
