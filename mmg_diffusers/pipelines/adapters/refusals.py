"""Why a pipeline cannot be measured, and what still works: what families refuse alike."""

from __future__ import annotations

import os
import re
from typing import Any

from mmg_diffusers.internals import loaded_from

CANDIDATES = "compare candidate prompts with `measure_candidates`, which needs no unconditional branch"
"""What still works without one."""

# Words of names that mean nothing else, wherever they stand, and those that do so at a name's end.
_ANYWHERE = {"lcm", "tcd", "dmd", "dmd2", "animatelcm", "instaflow", "perflow", "sdxs"}
_AT_END = {"turbo", "lightning", "sprint", "schnell", "distilled", "distill"}
# Words after these are no part of a name's end: sizes, steps, versions, dtypes, formats and base models.
_QUALIFIER = re.compile(
    r"\d+(\.\d+)*(b|m|k|px|steps?)?|v\d+(\.\d+)*|steps?|fp\d+|bf16|int\d|nf4|gguf|diffusers|unet|transformer|lora|ms|"
    r"xl|sd|sdxl|sd15|sd21|sd3|alpha|sigma|base|large|medium|small|light|original|full|"
    r"onnx|openvino|safetensors|ckpt|checkpoint|main|inpaint|inpainting|img2img"
)
_PREFIXED = re.compile(r"(^|-)(hyper-?(sd\w*|flux)|hyper-lora|flash-(sd\w*|pixart\w*|flux))(-|$)")
# Endings of files and variants, which folders are called by too.
_ENDING = re.compile(r"\.(safetensors|ckpt|onnx|gguf|fp16|bf16|fp8)$")
_FEW_STEPS = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler", "SCMScheduler")


def model_name(place: str) -> str:
    """What a model is called, in lower case with hyphens: the last part of a path or hub id, without a hub cache's prefix and
    hash, or trailing slashes.
    """
    parts = [part for part in re.split(r"[/\\]+", place) if part not in ("", ".")]
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        parts = parts[:-2]
    last = parts[-1] if parts else ""
    if last.startswith("models--"):
        last = last.split("--")[-1]
    return _ENDING.sub("", re.sub(r"[\s_-]+", "-", last).lower())


def distilled_name(place: str) -> bool:
    """Whether a name says that its model is distilled: as one of its words, and as its last if the word means other things too.

    ``sd-turbo``, ``sdxl-lightning-4step`` and ``lcm-sdxl`` say so, ``lightning-strikes-photos`` and ``balcmodel`` do not.
    """
    name = model_name(place)
    words = [word for word in name.split("-") if word]
    if _ANYWHERE & set(words) or _PREFIXED.search(name):
        return True
    while words and _QUALIFIER.fullmatch(words[-1]):
        words.pop()
    return bool(words) and words[-1] in _AT_END


def sign_of_distillation(pipe: Any, network: Any, names: str | None = None) -> str | None:
    """What says that a network was guidance-distilled, or distilled to a few steps; ``None`` if nothing does.

    Args:
        pipe: the pipeline, whose scheduler and name are looked at.
        network: its network, whose config is.
        names: a pattern of names that say so in this family alone, such as "dev"; of `model_name`.
    """
    place = loaded_from(pipe)
    # A link may be called anything.
    places = [place, os.path.realpath(place)] if os.path.exists(place) else [place]
    config, scheduler = network.config, type(pipe.scheduler).__name__
    if config.get("time_cond_proj_dim") is not None:
        return "its network is told the guidance (time_cond_proj_dim)"
    if config.get("guidance_embeds"):
        return "its network is told the guidance (guidance_embeds)"
    if scheduler in _FEW_STEPS:
        return f"its scheduler, {scheduler}, is for networks that were distilled to a few steps"
    if any(distilled_name(each) or (names is not None and re.search(names, model_name(each))) for each in places):
        return "its name says so"
    return None


def distilled(pipe: Any, network: Any, names: str | None = None) -> str | None:
    """Why a pipeline has no honest unconditional branch; ``None`` if nothing says that it has none.

    Args:
        pipe, network, names: as in `sign_of_distillation`.
    """
    place, scheduler = loaded_from(pipe), type(pipe.scheduler).__name__
    reason = sign_of_distillation(pipe, network, names)
    if reason is None:
        return None
    remedy = "; with a network that is not, replace the scheduler" if scheduler in _FEW_STEPS else ""
    return (
        f"{model_name(place) or 'this model'} is guidance-distilled ({reason}{remedy}): it was never trained without a "
        f"prompt, so its empty prompt is no marginal. Measure the model that it was distilled from, or {CANDIDATES}."
    )


def other_input(network: Any, channels: int) -> str | None:
    """Why a network that takes more channels than the variable has cannot be measured."""
    taken = network.config.in_channels
    if taken == channels:
        return None
    return (
        f"the {type(network).__name__} takes {taken} channels where the latent has {channels}: it is also given an image or "
        "mask (inpainting, depth, editing, upscaling), which is not supported"
    )
