"""Pairs of A and a picture B."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import helmert
from torch import Tensor

from mmg_diffusers.commands.studies.consistency.plan import Plan
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, caption_words
from mmg_diffusers.worlds.shapes.render import SIZE
from mmg_diffusers.worlds.shapes.world import WORDS


class World(ABC):
    """Pairs of A and a picture B. Values are standardised, `(N, C, H, W)`; A may be of one pixel.

    `rows` is the picture's height, and `truth` the exact I(A; B) in nats where it is known.
    """

    name: str
    rows: int
    truth: float | None = None

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A and B of training pairs, from the generator's numbers alone."""

    @abstractmethod
    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        """A and B of pairs that `draw` never gives: part 0 to measure, part 1 to watch the training by.

        Raises:
            ValueError: when there are not so many.
        """

    def pair(self, parts: Sequence[Tensor]) -> Tensor:
        """A (or B) of several independent pairs, `(N, C, H, W)` each, as one variable: pictures side by side, and what has one
        pixel along channels.
        """  # fmt: skip
        return torch.cat(list(parts), 1 if parts[0].shape[2:] == (1, 1) else 3)

    def plan(self, quick: bool = False) -> Plan:
        """What one run is made of: the full setting, for a GPU, or one for some minutes of a core."""
        return Plan.quick() if quick else Plan()

    def describe(self) -> dict[str, Any]:
        """What a folder of results is stamped with."""
        return {"world": self.name, "pairs": "side by side"}


class Digits(World):
    """A = B: a picture of a set such as MNIST, shifted at random, which makes more of them.

    Args:
        images: `(N, H, W)` or `(N, H, W, C)` uint8.
        shift: greatest shift in pixels, down and across; what enters is the darkest value.
        kept_back: share that is never trained on; half of it is measured, half watches the training.

    Raises:
        ValueError: for fewer than 20 pictures.
    """

    name = "digits"

    def __init__(self, images: NDArray[np.uint8], *, shift: int = 4, kept_back: float = 0.2) -> None:
        if len(images) < 20:
            raise ValueError(f"got {len(images)} pictures; expected at least 20, of which a part is held out")
        pixels = torch.from_numpy(images if images.ndim == 4 else images[..., None]).permute(0, 3, 1, 2).float() / 255
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(pixels)))
        kept = max(2, round(kept_back * len(pixels)))
        train = pixels[order[kept:]]
        self._centre, self._deviation = float(train.mean()), float(train.std())
        self._train = train
        self._kept = [pixels[order[: kept // 2]], pixels[order[kept // 2 : kept]]]
        self.shift, self.rows = shift, pixels.shape[2]
        self._pixels = len(pixels)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "images": self._pixels, "shift": self.shift}

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self._train), (count,), generator=generator)
        picture = self._shifted(self._train[rows], generator)
        return picture, picture

    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        kept = self._kept[part]
        if count > len(kept):
            raise ValueError(f"{count} held-out pictures were asked for; there are {len(kept)}. Measure fewer")
        picture = self._shifted(kept[:count], torch.Generator().manual_seed(part))
        return picture, picture

    def _shifted(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = pictures.shape
        s = self.shift
        padded = torch.nn.functional.pad(pictures, (s, s, s, s), value=float(self._train.min()))
        down, across = torch.randint(2 * s + 1, (2, count), generator=generator)
        where = (
            torch.arange(count)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            (down[:, None] + torch.arange(height))[:, None, :, None],
            (across[:, None] + torch.arange(width))[:, None, None, :],
        )
        return (padded[where] - self._centre) / self._deviation


class ShapesRows(World):
    """A: the caption of a Shapes picture, as a code of seven uncorrelated coordinates; B: the picture.

    I(A; B) is exact, about 3.17 nats, and so is that of every pair. The caption is what is diffused, since it is smaller
    and its information is finite.
    """

    name = "shapes"
    rows = SIZE

    def __init__(self) -> None:
        self.shapes = Shapes("soft")
        self.truth = self.shapes.mutual_information()
        # The corners of a simplex for every kind of word: no word is nearer to one than to another.
        words = caption_words(np.arange(len(CAPTIONS)))
        codes = [
            np.sqrt(len(known)) * helmert(len(known))[:, words[:, kind]] for kind, known in enumerate(WORDS.values())
        ]
        self.codes = torch.from_numpy(np.concatenate(codes).T).float()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # Seeds below 2**32 are for measuring.
        return self._pairs(count, 2**32 + int(torch.randint(2**60, (1,), generator=generator)))

    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        return self._pairs(count, part)

    def plan(self, quick: bool = False) -> Plan:
        """Many levels of each picture's caption: to read a picture costs far more than to denoise seven coordinates. And
        the noisy ones count, where only the picture tells the caption. Pictures are endless, so that nothing is
        over-fitted, and a plateau is not the end: words are learnt one after the other.
        """
        plan = super().plan(quick)
        train = replace(plan.train, batch=8 * plan.train.batch, draws=8, lr=1e-3, weighting="v", patience=1000)
        return replace(plan, train=train)

    def exact(self, count: int) -> Tensor:
        """`(count,)` exact i(a; b) of the pairs to measure, in nats."""
        caption, factors = self.shapes.sample_factors(count, 0)
        return torch.from_numpy(self.shapes.pointwise(factors, caption))

    def _pairs(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        sample = self.shapes.sample(count, seed)
        picture = (torch.from_numpy(sample.images).permute(0, 3, 1, 2) - 0.5) / 0.25
        return self.codes[torch.from_numpy(sample.caption)][:, :, None, None], picture
