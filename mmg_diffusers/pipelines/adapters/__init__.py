"""Families of pipelines: one file each, found by the class name of the pipeline.

May import whatever `pipelines` may; no family imports another.
"""

from mmg_diffusers.pipelines.adapters import image_refusals as image_refusals
from mmg_diffusers.pipelines.adapters import video_refusals as video_refusals  # registers them
from mmg_diffusers.pipelines.adapters.auraflow import AuraFlow
from mmg_diffusers.pipelines.adapters.base import Codec, Family, Origin
from mmg_diffusers.pipelines.adapters.chroma import Chroma
from mmg_diffusers.pipelines.adapters.cogvideox import CogVideoX
from mmg_diffusers.pipelines.adapters.cogview4 import CogView4
from mmg_diffusers.pipelines.adapters.deepfloyd_if import DeepFloydIF
from mmg_diffusers.pipelines.adapters.dit import DiT
from mmg_diffusers.pipelines.adapters.flux import Flux
from mmg_diffusers.pipelines.adapters.hidream import HiDream
from mmg_diffusers.pipelines.adapters.hunyuandit import HunyuanDiT
from mmg_diffusers.pipelines.adapters.kandinsky3 import Kandinsky3
from mmg_diffusers.pipelines.adapters.kolors import Kolors
from mmg_diffusers.pipelines.adapters.ltx import LTX
from mmg_diffusers.pipelines.adapters.lumina import Lumina
from mmg_diffusers.pipelines.adapters.lumina2 import Lumina2
from mmg_diffusers.pipelines.adapters.pixart import PixArtAlpha, PixArtSigma
from mmg_diffusers.pipelines.adapters.qwen_image import QwenImage
from mmg_diffusers.pipelines.adapters.registry import adapters, family_of, find_family, register
from mmg_diffusers.pipelines.adapters.sana import Sana
from mmg_diffusers.pipelines.adapters.stable_diffusion import StableDiffusion
from mmg_diffusers.pipelines.adapters.stable_diffusion_3 import StableDiffusion3
from mmg_diffusers.pipelines.adapters.stable_diffusion_xl import StableDiffusionXL
from mmg_diffusers.pipelines.adapters.unet2d import UNet2D
from mmg_diffusers.pipelines.adapters.wan import SkyReels, Wan
from mmg_diffusers.pipelines.adapters.z_image import ZImage

__all__ = [
    "LTX",
    "AuraFlow",
    "Chroma",
    "Codec",
    "CogVideoX",
    "CogView4",
    "DeepFloydIF",
    "DiT",
    "Family",
    "Flux",
    "HiDream",
    "HunyuanDiT",
    "Kandinsky3",
    "Kolors",
    "Lumina",
    "Lumina2",
    "Origin",
    "PixArtAlpha",
    "PixArtSigma",
    "QwenImage",
    "Sana",
    "SkyReels",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "UNet2D",
    "Wan",
    "ZImage",
    "adapters",
    "family_of",
    "find_family",
    "register",
]
