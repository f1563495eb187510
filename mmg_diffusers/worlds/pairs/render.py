"""How two objects become pixels, by the shapes of the Shapes world; no random numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.worlds.shapes.render import coverage, hsv_to_rgb

SIDE = 16
"""Side of a picture in pixels."""

# Places in Shapes' list of the shapes that are least alike.
SHAPE_PLACES = (0, 2)
RADIUS = (2.2, 2.7)  # pixels
MARGIN = 4.0  # what an object's centre keeps from the edge, in pixels: no shape is cut
DISTANCE = (6.5, 7.9)  # pixels between the centres: no two shapes touch

# What no caption names, each from one uniform number in [0, 1). What is of one object is there twice, by the same law.
NUISANCES = (
    "distance",
    "x",
    "y",
    "background",
    *(f"{name}_{which}" for which in (0, 1) for name in ("radius", "saturation", "value")),
)

Array = NDArray[np.float64]


def _span(unit: Array, low: Array | float, high: Array | float) -> Array:
    return low + (high - low) * unit


def centres(direction: Array, nuisance: Array) -> tuple[Array, Array]:
    """Place the objects: centres `(N, 2)` across and down, in pixels, of both.

    The law is the same if the objects change places and the direction turns by a half.

    Args:
        direction: `(N,)` in [0, 1), of the first as it is seen from the second: 0 to the right, a quarter above.
        nuisance: `(N, len(NUISANCES))` numbers in [0, 1).
    """
    n = dict(zip(NUISANCES, nuisance.T, strict=True))
    turn = 2 * np.pi * direction
    half = _span(n["distance"], *DISTANCE) / 2
    across, down = half * np.cos(turn), -half * np.sin(turn)
    x = _span(n["x"], MARGIN + np.abs(across), SIDE - MARGIN - np.abs(across))
    y = _span(n["y"], MARGIN + np.abs(down), SIDE - MARGIN - np.abs(down))
    return np.stack([x + across, x - across], 1), np.stack([y + down, y - down], 1)


def render(
    hue: Array, shape: NDArray[np.int64], direction: Array, nuisance: Array
) -> tuple[NDArray[np.float32], Array]:
    """Draw pictures.

    Args:
        hue: `(N, 2)` of both objects, HSV's, in [0, 1).
        shape: `(N, 2)` index into the world's shape words.
        direction: `(N,)`, see `centres`.
        nuisance: `(N, len(NUISANCES))` numbers in [0, 1).

    Returns:
        pictures `(N, SIDE, SIDE, 3)` in [0, 1], and the share of each pixel that either object covers, `(N, 2, SIDE, SIDE)`.
    """
    n = dict(zip(NUISANCES, nuisance.T, strict=True))
    x, y = centres(direction, nuisance)
    ground = np.repeat(_span(n["background"], 0.3, 0.7)[:, None, None, None], 3, 3)
    images = np.broadcast_to(ground, (len(hue), SIDE, SIDE, 3))
    masks: list[Array] = []
    for which in (0, 1):
        alpha = coverage(
            np.array(SHAPE_PLACES)[shape[:, which]],
            x[:, which],
            y[:, which],
            _span(n[f"radius_{which}"], *RADIUS),
            np.zeros(len(hue)),
            SIDE,
        )
        saturation, value = (_span(n[f"{name}_{which}"], 0.8, 1.0) for name in ("saturation", "value"))
        colour = hsv_to_rgb(hue[:, which], saturation, value)
        images = images + alpha[..., None] * (colour[:, None, None, :] - images)
        masks.append(alpha)
    return images.astype(np.float32), np.stack(masks, 1)
