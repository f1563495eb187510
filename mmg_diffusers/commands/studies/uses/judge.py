"""Who says what a picture shows: a checker that knows the renderer, and a small network that was trained on rendered pictures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, WORDS, Factors, Shapes, caption_words, read_images

Ints = NDArray[np.int64]
# Of pictures that the judge is trained on, and of those that it is tried on; no protocol has one of them.
TRAINED, TRIED = 610_001, 610_002
# What log p(caption | picture) is at least: a picture that cannot be of a caption is off by this much, and not by infinity.
LEAST = -12.0


@dataclass(frozen=True)
class Training:
    """How the judge is trained.

    Args:
        pictures: rendered for it, of the soft world.
        passes: over them.
        tried: pictures of the hard world that its accuracy is of.
    """

    pictures: int = 24_576
    passes: int = 6
    tried: int = 2_048


class Judge(nn.Module):
    """Some strided convolutions, and a head for each kind of word."""

    def __init__(self) -> None:
        super().__init__()
        wide = (3, 24, 48, 64)
        layers: list[nn.Module] = []
        for few, many in pairwise(wide):
            layers += [nn.Conv2d(few, many, 3, stride=2, padding=1), nn.GroupNorm(4, many), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 128), nn.SiLU())
        self.heads = nn.ModuleList([nn.Linear(128, len(words)) for words in WORDS.values()])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Log probabilities of the words of each kind, from images `(N, 3, 32, 32)` in [0, 1]."""
        hidden = self.trunk(2 * images - 1)
        return [head(hidden).log_softmax(1) for head in self.heads]

    @torch.no_grad()
    def by_caption(self, images: NDArray[Any]) -> Tensor:
        """`(N, 48)` log p(caption | image) of images `(N, 32, 32, 3)` in [0, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).movedim(3, 1)
        words = torch.from_numpy(caption_words(np.arange(len(CAPTIONS))))
        parts = [self(some) for some in pixels.split(512)]
        told = [torch.cat([part[k] for part in parts]) for k in range(len(WORDS))]
        total = torch.stack([own[:, words[:, k]] for k, own in enumerate(told)]).sum(0)
        return total.double().clamp(min=LEAST)


def trained(training: Training) -> tuple[Judge, dict[str, float]]:
    """A judge, and how often it is right on fresh pictures of the hard world, where one caption alone fits."""
    sample = Shapes("soft").sample(training.pictures, TRAINED)
    pixels = torch.from_numpy(sample.images).movedim(3, 1).contiguous()
    words = torch.from_numpy(caption_words(sample.caption))
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINED)
        judge = Judge()
        optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.01)
        steps = training.passes * -(-len(pixels) // 128)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in range(training.passes):
            for rows in torch.randperm(len(pixels)).split(128):
                told = judge(pixels[rows])
                losses = [functional.nll_loss(own, words[rows, k]) for k, own in enumerate(told)]
                optimiser.zero_grad()
                torch.stack(losses).sum().backward()
                optimiser.step()
                schedule.step()
    tried = Shapes("hard").sample(training.tried, TRIED)
    best = judge.eval().by_caption(tried.images).argmax(1).numpy()
    return judge, {
        "judge": float((best == tried.caption).mean()),
        "checker": float(read_right(tried.images, tried.caption).mean()),
        "pictures": training.tried,
    }


class KeptJudge:
    """A judge whose accuracy is a stage: trained when that is missing, and again where pictures are to be judged.

    Args:
        stages: of the protocol.
        training: of the judge.
    """

    def __init__(self, stages: Stages, training: Training) -> None:
        self._training = training
        self._held: tuple[Judge, dict[str, float]] | None = None
        self.accuracy = stages("judge", lambda: self._trained()[1])

    def _trained(self) -> tuple[Judge, dict[str, float]]:
        if self._held is None:
            self._held = trained(self._training)
        return self._held

    @property
    def judge(self) -> Judge:
        """The judge itself."""
        return self._trained()[0]


def read_right(images: NDArray[Any], captions: Ints) -> NDArray[np.bool_]:
    """`(N,)` whether all four words that the checker reads are those of the caption."""
    reading, asked = read_images(images), caption_words(captions)
    right = np.ones(len(captions), dtype=bool)
    for column, (kind, words) in enumerate(WORDS.items()):
        right &= np.array(reading.words(kind)) == np.array(words)[asked[:, column]]
    return right


def read_log_p(images: NDArray[Any], captions: Ints) -> NDArray[np.float64]:
    """`(N,)` exact log p(caption | factors) of the factors that the checker reads, at least `LEAST`."""
    own = Shapes("soft").posterior(read_images(images).factors)[np.arange(len(captions)), captions]
    return np.log(np.maximum(own, np.exp(LEAST)))


def features(factors: Factors) -> Tensor:
    """`(N, 7)` factors as a space: the circle of hues, size, position, and a corner for each shape."""
    turn = 2 * np.pi * factors.hue
    corners = np.eye(len(WORDS["shape"]))[factors.shape]
    held = [np.cos(turn), np.sin(turn), 2 * factors.size, 2 * factors.position, *(2 * corners.T)]
    return torch.from_numpy(np.stack(held, 1))


def covered(true: Factors, shown: Factors, nearest: int = 3) -> float:
    """The share of true factors within whose distance to their `nearest`-th neighbour something is shown (arXiv 2002.09797, eq. 10)."""
    held, found = features(true), features(shown)
    radius = torch.cdist(held, held).sort(1).values[:, nearest]
    return float((torch.cdist(held, found) <= radius[:, None]).any(1).double().mean())
