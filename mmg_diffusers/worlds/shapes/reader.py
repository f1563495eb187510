"""Reads an image back into words: the checker that knows the renderer, not the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import of_type
from mmg_diffusers.worlds.shapes.render import AREA, CENTRE, RADIUS, SHAPES, SIZE, coverage, hsv_to_hue
from mmg_diffusers.worlds.shapes.world import WORDS, Factors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """Factors as read from pixels, and the word of each kind that fits them best."""

    factors: Factors

    def words(self, kind: str) -> list[str]:
        """Choose the most fitting word of one kind for every image."""
        count = len(WORDS[kind])
        place = self.factors.coordinate(kind)
        if kind == "shape":
            index = np.asarray(place)
        elif kind == "colour":
            index = np.rint(place * count).astype(int) % count
        else:
            index = np.floor(place * count).astype(int).clip(0, count - 1)
        return [WORDS[kind][i] for i in index]


def read_images(images: NDArray[np.floating]) -> Reading:
    """Find the coloured object of Shapes images.

    Args:
        images: `(N, 32, 32, 3)` in [0, 1]; rendered, decoded or generated.

    Raises:
        ValueError: for another shape of array, or values outside [0, 1].
    """
    images, alpha = coloured(images, SIZE, 0.985)
    area = alpha.sum((1, 2)).clip(1.0)
    grid = np.arange(SIZE) + 0.5
    cx = (alpha * grid).sum((1, 2)) / area
    cy = (alpha * grid[:, None]).sum((1, 2)) / area

    weight = (alpha > 0.8) * alpha
    mean = (images * weight[..., None]).sum((1, 2)) / weight.sum((1, 2)).clip(1e-6)[:, None]
    shape, radius = _fit_shape(alpha, area, cx, cy)
    low, high = RADIUS
    return Reading(
        Factors(
            hue=hsv_to_hue(rgb_to_hsv_hue(mean)),
            size=((radius - low) / (high - low)).clip(0, 1),
            position=((cx - CENTRE[0]) / (CENTRE[1] - CENTRE[0])).clip(0, 1),
            shape=shape,
        )
    )


def coloured(images: NDArray[np.floating], size: int, full: float) -> tuple[Array, Array]:
    """Check pictures, and find how far each pixel belongs to an object: only objects have chroma.

    Args:
        images: `(N, size, size, 3)` in [0, 1].
        size: of a picture.
        full: quantile of a picture's chroma at which a pixel is fully covered.

    Returns:
        the pictures in float64, and `(N, size, size)` of 0 to 1.

    Raises:
        ValueError: for another shape of array, or values outside [0, 1].
    """
    of_type(images, np.ndarray, "images", f"an array (N, {size}, {size}, 3)")
    pixels: Array = np.asarray(images, dtype=np.float64)
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise ValueError(f"expected images of shape (N, {size}, {size}, 3), got {pixels.shape}")
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("expected pixels in [0, 1]; divide 8-bit images by 255")
    chroma = pixels.max(-1) - pixels.min(-1)
    scale = np.quantile(chroma.reshape(len(pixels), -1), full, axis=1).clip(0.05)
    alpha = np.clip(chroma / scale[:, None, None], 0, 1)
    return pixels, np.where(alpha < 0.15, 0.0, alpha)


def rgb_to_hsv_hue(rgb: Array) -> Array:
    """HSV's hues `(N,)` in [0, 1) of colours `(N, 3)`."""
    top, span = rgb.max(1), np.ptp(rgb, axis=1).clip(1e-9)
    r, g, b = rgb.T
    sector = np.where(top == r, (g - b) / span, np.where(top == g, 2 + (b - r) / span, 4 + (r - g) / span))
    return (sector / 6) % 1.0


def _fit_shape(alpha: Array, area: Array, cx: Array, cy: Array) -> tuple[NDArray[np.int64], Array]:
    """The shape and radius whose coverage, at the object's centre and area, is nearest to what is seen."""
    best = np.full(len(alpha), np.inf)
    shape = np.zeros(len(alpha), dtype=np.int64)
    for kind in range(len(SHAPES)):
        for angle in np.deg2rad([0.0] if kind == 0 else np.arange(-24, 25, 4)):
            index = np.full(len(alpha), kind)
            radius = np.sqrt(area / AREA[kind])
            template = coverage(index, cx, cy, radius, np.full(len(alpha), angle))
            error = ((template - alpha) ** 2).sum((1, 2))
            shape = np.where(error < best, kind, shape)
            best = np.minimum(error, best)
    return shape, np.sqrt(area / AREA[shape])
