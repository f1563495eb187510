"""An image-text classifier of Pairs: a tower for pictures and one for captions, trained on the pairs that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmg_diffusers.checks import shown
from mmg_diffusers.worlds.pairs import CAPTIONS, SIDE, Pairs

# The seeds of the pairs that scripts/train_pairs.py trains on: so many in a part.
FIRST_SEED, PART = 2**32, 1024
WORDS = ("", *sorted({word for caption in CAPTIONS for word in caption.split(" ")}))
LONGEST = max(len(caption.split(" ")) for caption in CAPTIONS)


@dataclass(frozen=True)
class Training:
    """How the classifier is trained.

    Args:
        pictures: as many as the model was trained on, and the same.
        passes: over them.
        batch: pairs in a step.
    """

    pictures: int = 2**18
    passes: int = 3
    batch: int = 256


class Towers(nn.Module):
    """Convolutions for pictures, attention over words with their places for captions; the score of a pair is their scaled cosine."""

    places: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for few, many, stride in ((3, 32, 1), (32, 48, 2), (48, 64, 2)):
            layers += [nn.Conv2d(few, many, 3, stride=stride, padding=1), nn.GroupNorm(4, many), nn.SiLU()]
        flat = 64 * (SIDE // 4) ** 2
        self.pictures = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 128), nn.SiLU(), nn.Linear(128, width))
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Parameter(0.1 * torch.randn(LONGEST, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.captions = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def seen(self, images: Tensor) -> Tensor:
        """Pictures `(N, 3, 16, 16)` in [0, 1] as unit vectors."""
        return functional.normalize(self.pictures(2 * images - 1), dim=1)

    def told(self, tokens: Tensor) -> Tensor:
        """Texts `(K, LONGEST)` as unit vectors, scaled."""
        hidden = self.captions(self.words(tokens) + self.places)
        there = (tokens > 0).unsqueeze(2)
        mean = (hidden * there).sum(1) / there.sum(1).clamp(min=1)
        return self.log_scale.clamp(max=4.6).exp() * functional.normalize(self.out(mean), dim=1)

    @torch.no_grad()
    def score(self, images: NDArray[np.floating], texts: Sequence[str]) -> Tensor:
        """`(N,)` how well each of images `(N, 16, 16, 3)` in [0, 1] fits its text."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).movedim(3, 1)
        return (self.seen(pixels) * self.told(tokens_of(texts))).sum(1).double()


def tokens_of(texts: Sequence[str]) -> Tensor:
    """Words of Pairs' captions, in whatever order, as numbers `(K, LONGEST)`; 0 is no word.

    Raises:
        ValueError: for a word that no caption has, or more of them than any has.
    """
    known = {word: place for place, word in enumerate(WORDS)}
    rows = []
    for text in texts:
        own = text.split(" ")
        if len(own) > LONGEST or not set(own) <= set(known):
            raise ValueError(
                f"{shown(text)} has no words of Pairs' captions; expected up to {LONGEST} of {list(WORDS[1:])}"
            )
        rows.append([known[word] for word in own] + [0] * (LONGEST - len(own)))
    return torch.tensor(rows)


def trained_pairs(count: int) -> tuple[Tensor, Tensor]:
    """The pictures `(N, 3, 16, 16)` uint8 and captions that the model was trained on, the first `count` of them."""
    parts = [Pairs("soft").sample(min(PART, count - start), FIRST_SEED + start) for start in range(0, count, PART)]
    images = np.concatenate([(255 * part.images).round().astype(np.uint8) for part in parts])
    return torch.from_numpy(images).movedim(3, 1), torch.from_numpy(np.concatenate([part.caption for part in parts]))


def trained_towers(training: Training, seed: int = 710_001) -> Towers:
    """Towers that tell each picture's caption among all captions, swapped ones among them, by cross entropy.

    Args:
        training: on how many pairs, how often.
        seed: of the weights and the order.
    """
    images, captions = trained_pairs(training.pictures)
    every = tokens_of(CAPTIONS)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = Towers()
        optimiser = torch.optim.AdamW(towers.parameters(), lr=2e-3, weight_decay=0.01)
        steps = training.passes * -(-len(images) // training.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        for _ in range(training.passes):
            for rows in torch.randperm(len(images)).split(training.batch):
                scores = towers.seen(images[rows].float() / 255) @ towers.told(every).T
                optimiser.zero_grad()
                functional.cross_entropy(scores, captions[rows]).backward()
                optimiser.step()
                schedule.step()
    return towers.eval().requires_grad_(False)
