"""Reads a picture back into factors: the checker that knows the renderer, not the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.worlds.pairs.render import RADIUS, SHAPE_PLACES, SIDE
from mmg_diffusers.worlds.pairs.world import PairFactors
from mmg_diffusers.worlds.shapes.reader import coloured, rgb_to_hsv_hue
from mmg_diffusers.worlds.shapes.render import AREA, coverage

Array = NDArray[np.float64]


def read_pairs(images: NDArray[np.floating]) -> PairFactors:
    """Find the two coloured objects of pictures; the one whose pixels come first, from the left, is called the first.

    Args:
        images: `(N, 16, 16, 3)` in [0, 1]; rendered, decoded or generated.

    Raises:
        ValueError: for another shape of array, or values outside [0, 1].
    """
    images, alpha = coloured(images, SIDE, 0.95)
    own = _divided(alpha)
    hue, shape, x, y = (np.zeros((len(images), 2)) for _ in range(4))
    for which in (0, 1):
        mask = own[:, which] * alpha
        weight = np.where(mask > 0.8, mask, 1e-6 * mask) + 1e-12
        hue[:, which] = rgb_to_hsv_hue((images * weight[..., None]).sum((1, 2)) / weight.sum((1, 2))[:, None])
        shape[:, which], x[:, which], y[:, which] = _fitted(mask)
    direction = np.arctan2(y[:, 1] - y[:, 0], x[:, 0] - x[:, 1]) / (2 * np.pi) % 1.0
    return PairFactors(hue, shape.astype(np.int64), direction)


def _divided(alpha: Array, times: int = 8) -> Array:
    """Which of two groups of pixels each belongs to, `(N, 2, SIDE, SIDE)` of 0 and 1: nearest to two centres, in turns."""
    grid = np.arange(SIDE) + 0.5
    places = np.stack(np.broadcast_arrays(grid[None, :], grid[:, None]), -1).reshape(-1, 2)
    weight = alpha.reshape(len(alpha), -1) + 1e-12
    middle = weight @ places / weight.sum(1, keepdims=True)
    # The two ends of the longest axis of all coloured pixels to begin with.
    off = places[None] - middle[:, None]
    spread = np.einsum("np,npi,npj->nij", weight, off, off)
    axis = np.linalg.eigh(spread)[1][:, :, 1]
    axis = axis * np.where(axis[:, :1] > 0, -1, 1)
    centres = np.stack([middle + 3.5 * axis, middle - 3.5 * axis], 1)
    nearest = np.zeros((len(alpha), len(places)), dtype=np.int64)
    for _ in range(times):
        far = np.square(places[None, None] - centres[:, :, None]).sum(-1)
        nearest = far.argmin(1)
        for which in (0, 1):
            mine = weight * (nearest == which)
            centres[:, which] = mine @ places / mine.sum(1, keepdims=True).clip(1e-9)
    return np.stack([nearest == which for which in (0, 1)], 1).reshape(-1, 2, SIDE, SIDE).astype(float)


def _fitted(mask: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """The shape word whose coverage, at the object's middle and area, is nearest to what is seen, and the middle."""
    area = mask.sum((1, 2)).clip(1.0)
    grid = np.arange(SIDE) + 0.5
    x, y = (mask * grid).sum((1, 2)) / area, (mask * grid[:, None]).sum((1, 2)) / area
    best, shape = np.full(len(mask), np.inf), np.zeros(len(mask), dtype=np.int64)
    for word, place in enumerate(SHAPE_PLACES):
        radius = np.sqrt(area / AREA[place]).clip(*RADIUS)
        template = coverage(np.full(len(mask), place), x, y, radius, np.zeros(len(mask)), SIDE)
        error = np.square(template - mask).sum((1, 2))
        shape = np.where(error < best, word, shape)
        best = np.minimum(error, best)
    return shape, x, y
