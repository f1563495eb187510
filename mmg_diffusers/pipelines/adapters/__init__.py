"""Families of pipelines: one file each, found by the class name of the pipeline.

May import whatever `pipelines` may; no family imports another.
"""

from mmg_diffusers.pipelines.adapters.base import Codec, Family, Origin, adapters, family_of, find_family, register
from mmg_diffusers.pipelines.adapters.chroma import Chroma
from mmg_diffusers.pipelines.adapters.dit import DiT
from mmg_diffusers.pipelines.adapters.flux import Flux
from mmg_diffusers.pipelines.adapters.hidream import HiDream
from mmg_diffusers.pipelines.adapters.lumina import Lumina
from mmg_diffusers.pipelines.adapters.lumina2 import Lumina2
from mmg_diffusers.pipelines.adapters.pixart import PixArtAlpha, PixArtSigma
from mmg_diffusers.pipelines.adapters.qwen_image import QwenImage
from mmg_diffusers.pipelines.adapters.sana import Sana
from mmg_diffusers.pipelines.adapters.stable_diffusion import StableDiffusion
from mmg_diffusers.pipelines.adapters.stable_diffusion_3 import StableDiffusion3
from mmg_diffusers.pipelines.adapters.stable_diffusion_xl import StableDiffusionXL
from mmg_diffusers.pipelines.adapters.z_image import ZImage

__all__ = [
    "Chroma",
    "Codec",
    "DiT",
    "Family",
    "Flux",
    "HiDream",
    "Lumina",
    "Lumina2",
    "Origin",
    "PixArtAlpha",
    "PixArtSigma",
    "QwenImage",
    "Sana",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "ZImage",
    "adapters",
    "family_of",
    "find_family",
    "register",
]
