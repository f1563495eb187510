"""How the factors of a Shapes image become pixels: anti-aliased signed distances, no random numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 32
"""Side of a Shapes image in pixels."""

SHAPES = ("circle", "square", "triangle")
# Radius of a circle, half side of a square and circumradius of a triangle, in units of the size factor's
# radius: chosen so that the three areas are alike while the largest shape stays inside the image.
EXTENT = np.array([1.0, 0.89, 1.3])
AREA = np.array([np.pi, 4 * 0.89**2, 0.75 * np.sqrt(3) * 1.3**2])  # in units of radius squared
RADIUS = (3.25, 7.0)  # pixels, at size factor 0 and 1
CENTRE = (9.5, 22.5)  # pixels, at position factor 0 and 1

# The colour words lie a quarter turn apart on the factor's circle; this is their place on the HSV circle.
_HUE_KNOTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_HSV_KNOTS = np.array([0.0, 1 / 6, 1 / 3, 2 / 3, 1.0])

Array = NDArray[np.float64]


def hue_to_hsv(hue: Array) -> Array:
    """Map the hue factor in [0, 1) to the hue of HSV in [0, 1)."""
    return np.interp(hue % 1.0, _HUE_KNOTS, _HSV_KNOTS) % 1.0


def hsv_to_hue(hsv: Array) -> Array:
    """Inverse of `hue_to_hsv`."""
    return np.interp(hsv % 1.0, _HSV_KNOTS, _HUE_KNOTS) % 1.0


def hsv_to_rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """Colours `(N, 3)` in [0, 1] of hues, saturations and values `(N,)` in [0, 1]."""
    corner = np.array([5.0, 3.0, 1.0])
    k = (corner + 6.0 * hue[:, None]) % 6.0
    return value[:, None] * (1.0 - saturation[:, None] * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))


def coverage(
    shape: NDArray[np.int64], cx: Array, cy: Array, radius: Array, angle: Array, side: int = SIZE
) -> Array:  # fmt: skip
    """Compute the fraction of each pixel that a shape covers.

    Args:
        shape: `(N,)` index into `SHAPES`.
        cx, cy: `(N,)` centre in pixels.
        radius: `(N,)` size in pixels, see `EXTENT`.
        angle: `(N,)` rotation in radians.
        side: of the image in pixels.

    Returns:
        `(N, side, side)` in [0, 1].
    """
    grid = np.arange(side) + 0.5
    dx = grid[None, None, :] - cx[:, None, None]
    dy = grid[None, :, None] - cy[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    extent = (EXTENT[shape] * radius)[:, None, None]
    kind = shape[:, None, None]
    # Exact inside the edges, which is where anti-aliasing looks; corners are rounded by less than a pixel.
    circle = np.hypot(u, v) - extent
    square = np.maximum(np.abs(u), np.abs(v)) - extent
    triangle = np.maximum(v, np.abs(u) * (np.sqrt(3) / 2) - v / 2) - extent / 2
    distance = np.where(kind == 0, circle, np.where(kind == 1, square, triangle))
    return np.clip(0.5 - distance, 0.0, 1.0)


# Nuisances: what no caption names, each from one uniform number in [0, 1).
NUISANCES = (
    "y",
    "angle",
    "saturation",
    "value",
    "background",
    "texture_amplitude",
    "texture_direction",
    "texture_frequency",
    "texture_phase",
    "distractor_shape",
    "distractor_x",
    "distractor_y",
    "distractor_radius",
    "distractor_grey",
)


def _span(unit: Array, low: float, high: float) -> Array:
    return low + (high - low) * unit


def render(
    hue: Array, size: Array, position: Array, shape: NDArray[np.int64], nuisance: Array
) -> tuple[NDArray[np.float32], Array, Array]:
    """Draw images.

    Args:
        hue, size, position: `(N,)` continuous factors in [0, 1].
        shape: `(N,)` index into `SHAPES`.
        nuisance: `(N, len(NUISANCES))` numbers in [0, 1).

    Returns:
        images `(N, SIZE, SIZE, 3)` in [0, 1]; the share of each pixel that the captioned object covers,
        `(N, SIZE, SIZE)`; and the share that the visible part of the grey distractor covers.
    """
    n = dict(zip(NUISANCES, nuisance.T, strict=True))
    alpha = coverage(
        shape,
        cx=_span(position, *CENTRE),
        cy=_span(n["y"], *CENTRE),
        radius=_span(size, *RADIUS),
        angle=np.deg2rad(_span(n["angle"], -20, 20)),
    )
    beta = coverage(
        (n["distractor_shape"] * len(SHAPES)).astype(np.int64),
        cx=_span(n["distractor_x"], 4, SIZE - 4),
        cy=_span(n["distractor_y"], 4, SIZE - 4),
        radius=_span(n["distractor_radius"], 2.5, 4.5),
        angle=np.zeros(len(hue)),
    )
    background = _span(n["background"], 0.25, 0.75)
    # At least 0.2 away from the background, on the side that has more room.
    away = _span(n["distractor_grey"], 0.2, 0.25)
    grey = np.where(background < 0.5, background + away, background - away)

    axis = (np.arange(SIZE) + 0.5) / SIZE
    turn = 2 * np.pi * n["texture_direction"]
    along = np.cos(turn)[:, None, None] * axis[None, None, :] + np.sin(turn)[:, None, None] * axis[None, :, None]
    cycles = _span(n["texture_frequency"], 0.5, 2.5)[:, None, None]
    wave = np.sin(2 * np.pi * (cycles * along + n["texture_phase"][:, None, None]))
    ground = background[:, None, None] + _span(n["texture_amplitude"], 0.0, 0.05)[:, None, None] * wave

    ground = ground + beta * (grey[:, None, None] - ground)
    colour = hsv_to_rgb(hue_to_hsv(hue), _span(n["saturation"], 0.8, 1.0), _span(n["value"], 0.8, 1.0))
    images = ground[..., None] + alpha[..., None] * (colour[:, None, None, :] - ground[..., None])
    return np.clip(images, 0.0, 1.0).astype(np.float32), alpha, beta * (1.0 - alpha)
