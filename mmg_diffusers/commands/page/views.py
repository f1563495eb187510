"""Pictures with maps over them: one strip of frames a picture, one of which is seen at a time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmg_diffusers.commands.page.html import picture_of, source_of

# What tells, and what misinforms: as in coloured text.
TELLS, MISINFORMS = (0.90, 0.47, 0.08), (0.16, 0.43, 0.86)
# How much of a picture the strongest value hides.
MOST = 0.85
# Longest side of a map: what it tells is smooth, and a browser draws it so.
_SIDE = 32
# Of the colours of a strip: the middle one is 0, and clear.
_STEPS = 127


def coarser(values: NDArray[np.floating], most: int = _SIDE) -> NDArray[np.float64]:
    """A map `(h, w)` at a resolution that a page shows, in nats a pixel of its own resolution, averaged."""
    height, width = values.shape
    scale = most / max(height, width)
    if scale >= 1:
        return np.asarray(values, dtype=float)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX), dtype=float)


def strip_of(frames: Sequence[NDArray[np.floating]], tops: Sequence[float]) -> str:
    """Maps beside each other in one picture, clear where they say nothing: orange tells, blue misinforms.

    Args:
        frames: `(h, w)` each, of one shape.
        tops: what is drawn as the strongest colour, for each frame.
    """
    values = np.concatenate([np.clip(coarser(frame) / top, -1, 1) for frame, top in zip(frames, tops, strict=True)], 1)
    picture = Image.fromarray((np.round(values * _STEPS) + _STEPS).astype(np.uint8), "P")
    colours = [MISINFORMS] * _STEPS + [TELLS] * (_STEPS + 1)
    picture.putpalette([round(255 * part) for colour in colours for part in colour])
    alpha = [round(255 * MOST * abs(step - _STEPS) / _STEPS) for step in range(2 * _STEPS + 1)]
    picture.info["transparency"] = bytes(alpha)
    return source_of(picture)


def stack(picture: NDArray[np.floating], frames: Sequence[NDArray[np.floating]], tops: Sequence[float], about: str, of: str) -> str:  # fmt: skip
    """A picture, and over it one of its maps: that which the variable ``--frame`` of the style names.

    Args:
        picture: `(H, W, 3)` in [0, 1].
        frames, tops: as `strip_of` takes them.
        about: what the picture shows, for those who cannot see it.
        of: what its maps are of.
    """
    return (
        f'<span class="stack" style="--count:{len(frames)}"><img src="{source_of(picture_of(picture))}" alt="{escape(about)}">'
        f'<span class="over" role="img" aria-label="{escape(of)}" style="background-image:url({strip_of(frames, tops)})"></span></span>'
    )
