"""Pictures that were drawn under several schedules of guidance, held against the law of their captions, the same noise under all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.commands.studies.uses.judge import covered
from mmg_diffusers.commands.studies.uses.laws import Law, Variant, placed
from mmg_diffusers.commands.studies.uses.orders import with_error
from mmg_diffusers.commands.studies.uses.schedules import Schedule
from mmg_diffusers.measure.value import Value
from mmg_diffusers.worlds.shapes import CAPTIONS, Factors, Shapes, read_images

# Of the factors that coverage is of, and of the pictures that say what the reader's errors are; no picture of a protocol has them.
TRUE_SEED, FLOOR_SEED = 610_006, 610_007
KINDS = ("hue", "size", "position", "shape")
# The name of a schedule for each half of the pictures.
Choice = tuple[str, str]


def always(name: str) -> Choice:
    """The same schedule for both halves."""
    return name, name


@dataclass(frozen=True)
class Pictures:
    """All seeds together, under one schedule: `placed` `(N, 6)`, `judged` and `right` `(N,)`, and the factors themselves."""

    placed: Tensor
    judged: Tensor
    right: Tensor
    factors: Factors


@dataclass(frozen=True)
class Drawings:
    """What was drawn under every schedule, held against a law: the pictures of every other seed, and then those of the rest."""

    by_name: Mapping[str, Pictures]
    schedules: Mapping[str, Schedule]
    captions: NDArray[np.int64]
    law: Law

    def __len__(self) -> int:
        return len(self.captions)

    def halves(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows of both halves: all of them, or as many of each as are drawn with replacement where any rows `(N,)` are."""
        every, middle = torch.arange(len(self)) if rows is None else rows, len(self) // 2
        return every[:middle] % middle, every[middle:] % middle + middle

    @classmethod
    def of(cls, result: Mapping[str, Any], law: Variant) -> Drawings:
        """From what `guidance` gave."""
        parts = result["parts"][::2] + result["parts"][1::2]
        captions = np.concatenate([np.array(part["caption"]) for part in parts])
        held: dict[str, Pictures] = {}
        for name in result["schedules"]:
            read = [part["read"][name] for part in parts]
            joined = {
                kind: np.concatenate([np.array(own["factors"][kind]) for own in read]) for kind in read[0]["factors"]
            }
            factors = Factors(**joined)
            judged, right = (
                torch.tensor([value for own in read for value in own[what]], dtype=torch.float64)
                for what in ("judged", "right")
            )
            held[name] = Pictures(placed(captions, factors), judged, right, factors)
        schedules = {name: Schedule(tuple(scales)) for name, scales in result["schedules"].items()}
        return cls(held, schedules, captions, Law.of(law))

    def named(self, kind: str) -> list[str]:
        """The schedules of a kind."""
        return [name for name in self.by_name if name.startswith(kind)]

    def off(self, name: str, rows: Tensor) -> float:
        """The Fréchet distance of some of the pictures."""
        return Law.held_by(self.by_name[name].placed[rows]).distance(self.law)

    @cached_property
    def offs(self) -> Mapping[str, tuple[float, float]]:
        """The distance of each schedule, in each half."""
        first, second = self.halves()
        return {name: (self.off(name, first), self.off(name, second)) for name in self.by_name}

    def best(self, names: Sequence[str]) -> Choice:
        """The nearest of some schedules: by the second half, to be read on the first, and the other way round."""
        first, second = (min(names, key=lambda name: self.offs[name][1 - half]) for half in (0, 1))
        return first, second

    def distance(self, *choices: Choice) -> Value:
        """The distance of a choice for each half, in the mean over halves, and over choices if there are some."""
        return with_error(len(self), lambda rows: self._mean(choices, rows))

    def ratio(self, one: Choice, other: Choice) -> Value:
        """How far the distance of one choice is above that of another, as a share of it."""
        return with_error(len(self), lambda rows: self._mean([one], rows) / self._mean([other], rows) - 1)

    def further(self, one: Choice, other: Choice) -> Value:
        """How far the distance of one choice is above that of another; the same pictures' noise under both."""
        return with_error(len(self), lambda rows: self._mean([one], rows) - self._mean([other], rows))

    def _mean(self, choices: Sequence[Choice], rows: Tensor) -> float:
        found = [
            self.off(name, half) for choice in choices for name, half in zip(choice, self.halves(rows), strict=True)
        ]
        return sum(found) / len(found)

    def share(self, what: str, *choices: Choice) -> Value:
        """The share of pictures that the judge, or the checker, finds right."""

        def mean(rows: Tensor) -> float:
            found = [
                float(getattr(self.by_name[name], what)[half].mean())
                for choice in choices
                for name, half in zip(choice, self.halves(rows), strict=True)
            ]
            return sum(found) / len(found)

        return with_error(len(self), mean)

    def covers(self, true: Factors, *choices: Choice) -> float:
        """What the pictures of both halves cover of the law's factors."""
        found: list[float] = []
        for choice in choices:
            both = [self.by_name[name].factors[half.numpy()] for name, half in zip(choice, self.halves(), strict=True)]
            joined = {kind: np.concatenate([getattr(own, kind) for own in both]) for kind in KINDS}
            found.append(covered(true, Factors(**joined)))
        return sum(found) / len(found)

    def floor(self, variant: Variant) -> float:
        """How far as many rendered pictures of a law are from this one, as the reader sees them, in the mean over halves."""
        found: list[float] = []
        for half, rows in enumerate(self.halves()):
            sample = Shapes(variant).sample(len(rows), FLOOR_SEED + half)
            found.append(Law.held_by(placed(sample.caption, read_images(sample.images).factors)).distance(self.law))
        return sum(found) / len(found)


def true_factors(captions: NDArray[np.int64], variant: Variant) -> Factors:
    """Factors of the law for the captions of the pictures, four for each."""
    drawn, factors = Shapes(variant).sample_factors(4 * 64 * len(CAPTIONS), TRUE_SEED)
    own, times = np.unique(captions, return_counts=True)
    rows = [np.flatnonzero(drawn == caption)[: 4 * count] for caption, count in zip(own, times, strict=True)]
    return factors[np.concatenate(rows)]
