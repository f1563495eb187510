"""What each word of a prompt says, from one comparison of candidates: given the rest, together, and shared.

A candidate set is described by *parts*: for every kind of word, one label a candidate (its colour, its shape, ...).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.analysis import Classification, Parts
from mmg_diffusers.result import Value, mean_over_pairs


def all_but(parts: Parts, *names: str) -> list[Hashable]:
    """Group labels that join candidates which differ in these parts alone.

    Raises:
        ValueError: for a part that there is not.
    """
    _need(parts, names)
    return list(zip(*(labels for name, labels in parts.items() if name not in names), strict=True))


def only(parts: Parts, *names: str) -> list[Hashable]:
    """Group labels that join candidates which agree in these parts.

    Raises:
        ValueError: for a part that there is not.
    """
    _need(parts, names)
    return list(zip(*(parts[name] for name in names), strict=True))


def _need(parts: Parts, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise ValueError(f"no part {unknown[0]!r} in the candidates; there are {', '.join(parts)}")


@dataclass(frozen=True)
class Decomposition:
    """How two words share their information about x, pair by pair; `(N,)` nats each.

    The pointwise decomposition of Finn and Lizier that DiffusionPID (arXiv 2406.05191) uses: with h(w) = -log p(w),

        redundancy = min(h(w1), h(w2)) - min(h(w1 | x), h(w2 | x))
        unique_1   = i(x; w1) - redundancy                 (and 2 alike)
        synergy    = i(x; w1, w2) - i(x; w1) - i(x; w2) + redundancy

    The four add up to i(x; w1, w2). Each can be negative: a word may misinform about an image, and the least surprise
    is not of the same word with the image and without.
    """

    redundancy: Tensor
    unique_1: Tensor
    unique_2: Tensor
    synergy: Tensor

    def means(self) -> dict[str, Value]:
        """Means over pairs with their standard errors."""
        return {name: _mean(getattr(self, name)) for name in ("redundancy", "unique_1", "unique_2", "synergy")}


def _mean(nats: Tensor) -> Value:
    return mean_over_pairs(nats, torch.full_like(nats, float("nan")))


def word_information(posterior: Classification, truth: Sequence[str | int], parts: Parts) -> dict[str, Tensor]:
    """i(x; word | all other words) for every part, `(N,)` nats each; its mean is a lower bound as `bound` is.

    Args:
        posterior: of candidates that differ word by word.
        truth: the true candidate of every x.
        parts: labels of the candidates.
    """
    return {name: posterior.within(truth, all_but(parts, name)) for name in parts}


def decompose(
    posterior: Classification, truth: Sequence[str | int], parts: Parts, one: str, two: str
) -> Decomposition:  # fmt: skip
    """Redundancy, uniqueness and synergy of two words about x.

    Args:
        posterior, truth, parts: as in `word_information`.
        one, two: names of parts.

    Raises:
        ValueError: for parts that there are not, or twice the same.
    """
    if one == two:
        raise ValueError(f"expected two different parts, got {one!r} twice")
    (before_1, after_1), (before_2, after_2) = (posterior.surprise(truth, only(parts, name)) for name in (one, two))
    redundancy = torch.minimum(before_1, before_2) - torch.minimum(after_1, after_2)
    first, second = before_1 - after_1, before_2 - after_2
    both = posterior.of_group(truth, only(parts, one, two))
    return Decomposition(redundancy, first - redundancy, second - redundancy, both - first - second + redundancy)
