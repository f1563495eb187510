"""What a number depends on beside weights, as digests: how the network is told its levels, and how encodings are made."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pipelines.adapters.base import Codec
from mmg_diffusers.pipelines.caching import vocabulary


def as_told(convention: Convention) -> tuple[Tensor, ...]:
    """The levels that a network knows near 64 even ones, and what it is told and multiplied by there, float64 `(64,)` each."""
    low, high = convention.logsnr_range
    levels = convention.snap(torch.linspace(max(low, -40.0), min(high, 40.0), 64, dtype=torch.float64))
    return (levels, *convention.coefficients(levels))


def schedule_identity(convention: Convention) -> Identity:
    """The digest of a convention: its kind, its range, and what the network is told."""
    # In float32, so that the last digits of another machine's logarithms do not count.
    told = [
        values.float() for values in (torch.tensor(convention.logsnr_range, dtype=torch.float64), *as_told(convention))
    ]
    return Identity.of(type(convention).__name__, told)


def encoders_identity(codec: Codec) -> Identity:
    """The digest of tokenizers and settings that encodings of images and prompts depend on, as far as a codec says them."""
    known: list[object] = []
    for kind in ("image", "prompt"):
        origin = codec.origin(kind)
        if origin is not None:
            settings = json.dumps(dict(origin.settings), sort_keys=True, default=str)
            known.append([kind, [vocabulary(tokenizer) for tokenizer in origin.tokenizers], settings])
    return Identity.of(known)
