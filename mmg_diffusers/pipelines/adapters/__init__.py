"""Adapters: one file a family of pipelines, found by the class name of the pipeline."""

from mmg_diffusers.pipelines.adapters.base import Codec, Origin, adapt, adapters, register
from mmg_diffusers.pipelines.adapters.stable_diffusion import adapt_stable_diffusion

register("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")(adapt_stable_diffusion)

__all__ = ["Codec", "Origin", "adapt", "adapters", "register"]
