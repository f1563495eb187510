"""Pictures at full brightness, with what is said of their pixels laid over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# What tells, and what misinforms: as in coloured text.
_TELLS, _MISINFORMS = (0.90, 0.47, 0.08), (0.16, 0.43, 0.86)
# Of the strongest value; the picture shows through it.
_MOST = 0.85


def tint(image: NDArray[np.floating], information: NDArray[np.floating], top: float) -> NDArray[np.float64]:
    """A picture with a signed map laid over it: orange where it tells, blue where it misinforms, clear where it says nothing.

    Args:
        image: `(H, W, 3)` in [0, 1].
        information: `(H, W)`, or of any resolution.
        top: what is drawn as the strongest colour.
    """
    height, width = image.shape[:2]
    rows = (np.arange(height) * information.shape[0]) // height
    columns = (np.arange(width) * information.shape[1]) // width
    value = np.asarray(information, dtype=float)[rows][:, columns] / top
    share = _MOST * np.clip(np.abs(value), 0, 1)[..., None]
    colour = np.where(value[..., None] >= 0, np.array(_TELLS), np.array(_MISINFORMS))
    return (1 - share) * np.asarray(image, dtype=float) + share * colour
