"""How far the factors of some pictures are from the law of their captions: the Fréchet distance over factors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.worlds.shapes import WORDS, Factors, Shapes, caption_words

Variant = Literal["soft", "hard"]
# Of the draws that moments are of; no picture of a protocol has them.
LAW_SEED, LAW_DRAWS = 610_004, 200_000


def turned(factors: Factors, captions: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(N, 6)` factors as if every caption were the first one: hue, size, position, and a corner for each shape.

    All words of a kind have the same law but for its place (hues, shapes) or for left and right (sizes, sides), so that captions can be pooled
    once each is turned into the first. A hue is at most half a turn from its word's.
    """
    size, colour, shape, side = caption_words(captions).T
    hue = (factors.hue - colour / len(WORDS["colour"]) + 0.5) % 1 - 0.5
    held = [np.where(word == 0, own, 1 - own) for word, own in ((size, factors.size), (side, factors.position))]
    corners = np.eye(len(WORDS["shape"]))[(factors.shape - shape) % len(WORDS["shape"])]
    return np.stack([hue, *held, *corners.T], 1)


@dataclass(frozen=True)
class Law:
    """The moments of `placed` factors under p(factors | caption), of words as they are or of those that fit alone."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, variant: Variant) -> Law:
        """Of the soft world or of the hard one."""
        return cls.held_by(placed(*_drawn(variant)))

    @classmethod
    def held_by(cls, values: Tensor) -> Law:
        """Moments of values `(N, F)`."""
        off = values - values.mean(0)
        return cls(values.mean(0), off.T @ off / len(values))

    def distance(self, other: Law) -> float:
        """The Fréchet distance of two normal laws (arXiv 1706.08500, eq. 6; its root)."""
        root = _root(self.covariance)
        shared = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
        square = (self.mean - other.mean).square().sum() + (self.covariance + other.covariance).trace() - 2 * shared
        return float(square.clamp(min=0).sqrt())


def placed(captions: NDArray[np.int64], factors: Factors) -> Tensor:
    """`(N, 6)` turned factors; hue, size and position less their mean and in their standard deviations, those of the soft world."""
    middle, spread = _scale()
    return torch.from_numpy((turned(factors, captions) - middle) / spread)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


@cache
def _drawn(variant: Variant) -> tuple[NDArray[np.int64], Factors]:
    return Shapes(variant).sample_factors(LAW_DRAWS, LAW_SEED)


@cache
def _scale() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    captions, factors = _drawn("soft")
    values = turned(factors, captions)
    middle, spread = values.mean(0), values.std(0)
    # Shapes stay corners: given a caption they do not vary.
    middle[3:], spread[3:] = 0.0, 1.0
    return middle, spread
