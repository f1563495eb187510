"""Pipelines of diffusers, as denoisers and codecs: loading, encoding, caching, and the front door `MMGPipeline`.

May import `runs` and below, and `tuning`. What belongs to one family of pipelines alone stands in `pipelines.adapters`.
"""

from mmg_diffusers.pipelines.caching import EncodingCache
from mmg_diffusers.pipelines.drawing import Drawn, Switching, draw, switch_prompts
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.schedulers import convention_from_config

__all__ = [
    "Drawn",
    "EncodingCache",
    "MMGPipeline",
    "Switching",
    "convention_from_config",
    "draw",
    "switch_prompts",
]
