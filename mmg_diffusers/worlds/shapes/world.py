"""The joint law of Shapes images and captions, and every information that follows from it.

A caption names a size, a colour, a shape and a side. Given the caption, each continuous factor of the image
(hue, size, position) is drawn from a trapezoid around its word, so neighbouring words overlap on ramps where
either word is said; the shape word is always right. The image determines the factors, hence

    p(y | image) = p(y | factors)  proportional to  prior(y) prod_k p(word_k | factor_k),

and everything below is an integral over factors that are independent given the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import Brief, finite, of_type, shown, whole
from mmg_diffusers.worlds.ramps import word_shares
from mmg_diffusers.worlds.shapes.render import NUISANCES, SHAPES, render

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

WORDS: Mapping[str, tuple[str, ...]] = {
    "size": ("small", "large"),
    "colour": ("red", "yellow", "green", "blue"),
    "shape": SHAPES,
    "side": ("left", "right"),
}
"""The words of a caption, in the order in which they stand in it."""

# Width of the ramp between two words, as a share of one word's territory, in the soft variant.
RAMPS: Mapping[str, float] = {"size": 0.7, "colour": 0.7, "shape": 0.0, "side": 0.7}

_WORD_INDEX: Ints = np.array(list(product(*(range(len(words)) for words in WORDS.values()))))

_TEMPLATE = "a {} {} {} on the {}"
WORD_PLACES: Mapping[str, int] = dict(
    zip(WORDS, (place for place, word in enumerate(_TEMPLATE.split()) if word == "{}"), strict=True)
)
"""Which word of a caption, counted from 0, is of each kind."""

CAPTIONS: tuple[str, ...] = tuple(
    _TEMPLATE.format(*(words[i] for words, i in zip(WORDS.values(), row, strict=True))) for row in _WORD_INDEX
)
"""All 48 captions. A caption's place in this tuple is its index everywhere in this package."""


def caption_words(index: Ints | int) -> Ints:
    """Look up the words (size, colour, shape, side) of captions: `(...,) -> (..., 4)`."""
    return _WORD_INDEX[np.asarray(index)]


def caption_parts() -> dict[str, list[str]]:
    """List the words of all captions by kind: ``{"size": 48 words, "colour": ..., "shape": ..., "side": ...}``."""
    return {kind: [words[i] for i in _WORD_INDEX[:, k]] for k, (kind, words) in enumerate(WORDS.items())}


@dataclass(frozen=True, repr=False)
class Factors(Brief):
    """What an image shows. `hue`, `size` and `position` lie in [0, 1], `shape` indexes the shape words; all `(N,)`."""

    hue: Array
    size: Array
    position: Array
    shape: Ints

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: slice | Ints) -> Factors:
        return Factors(*(getattr(self, field.name)[index] for field in fields(self)))

    def coordinate(self, word: str) -> Array | Ints:
        """The factor that a kind of word speaks of."""
        return {"size": self.size, "colour": self.hue, "shape": self.shape, "side": self.position}[word]


@dataclass(frozen=True, repr=False)
class ShapesSample(Brief):
    """Pairs of image and caption, with the ground truth about them.

    `images` is `(N, 32, 32, 3)` float32 in [0, 1]; `caption` the `(N,)` index into `CAPTIONS`; `mask` and
    `distractor` are `(N, 32, 32)` shares of each pixel that the captioned object and the grey object cover.
    """

    images: NDArray[np.float32]
    caption: Ints
    factors: Factors
    mask: Array
    distractor: Array

    def __len__(self) -> int:
        return len(self.caption)

    @property
    def prompts(self) -> list[str]:
        """The captions as text."""
        return [CAPTIONS[i] for i in self.caption]


def _word_probability(word: str, factor: Array | Ints, ramp: float) -> Array:
    """p(word | factor) under a uniform prior: `(N,) -> (N, number of words)`. Rows sum to 1."""
    count = len(WORDS[word])
    if word == "shape":
        return np.eye(count)[np.asarray(factor, dtype=np.int64)]
    return word_shares(factor, count, ramp, periodic=word == "colour")


@dataclass(frozen=True)
class Shapes:
    """The Shapes world.

    Args:
        variant: ``"soft"``: words overlap, I(image; caption) < H(caption). ``"hard"``: the same world restricted to
            factors that only one caption fits, so that I = H. A model of the soft world has the hard one's
            likelihood ratios, hence serves both.
        prior: probability of each of the 48 captions; ``None`` is uniform. The image given the caption does
            not depend on it.

    Raises:
        ValueError: for an unknown variant, or a prior that is not 48 positive numbers with sum 1.
    """

    variant: Literal["soft", "hard"] = "soft"
    prior: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.variant not in ("soft", "hard"):
            raise ValueError(f"variant is {shown(self.variant)}; expected 'soft' or 'hard'")
        if self.prior is not None:
            of_type(self.prior, (Sequence, np.ndarray), "prior", f"{len(CAPTIONS)} probabilities")
            prior = np.array([finite(share, "a prior probability") for share in self.prior])
            if prior.shape != (len(CAPTIONS),) or not (prior > 0).all() or abs(prior.sum() - 1) > 1e-9:
                raise ValueError(
                    f"prior must be {len(CAPTIONS)} positive probabilities that sum to 1; got shape {prior.shape}, "
                    f"minimum {prior.min() if prior.size else 'none'}, sum {prior.sum()}. "
                    "Divide by the sum, or leave None for uniform."
                )

    @cached_property
    def caption_probability(self) -> Array:
        """`(48,)` prior over captions."""
        if self.prior is None:
            return np.full(len(CAPTIONS), 1 / len(CAPTIONS))
        return np.asarray(self.prior, dtype=float)

    # ---- drawing ----

    def sample(self, count: int, seed: int = 0) -> ShapesSample:
        """Draw pairs, with their pictures. The first pairs of a longer draw with the same seed are the same."""
        unit = self._uniform(count, seed)
        caption = self._captions(unit[:, 0])
        factors = self._factors(caption, unit[:, 1:7])
        images, mask, distractor = render(
            factors.hue, factors.size, factors.position, factors.shape, np.ascontiguousarray(unit[:, 7:])
        )
        return ShapesSample(images, caption, factors, mask, distractor)

    def sample_factors(self, count: int, seed: int = 0) -> tuple[Ints, Factors]:
        """Captions and factors of the pairs that `sample` draws, without their pictures."""
        unit = self._uniform(count, seed)
        caption = self._captions(unit[:, 0])
        return caption, self._factors(caption, unit[:, 1:7])

    @staticmethod
    def _uniform(count: int, seed: int) -> Array:
        whole(count, "count", 1, " pair")
        return np.random.default_rng(whole(seed, "seed", 0)).random((count, 7 + len(NUISANCES)))

    def _captions(self, unit: Array) -> Ints:
        edges = np.cumsum(self.caption_probability)
        return np.searchsorted(edges, unit * edges[-1], side="right").clip(max=len(CAPTIONS) - 1)

    def _factors(self, caption: Ints, unit: Array) -> Factors:
        word = dict(zip(WORDS, caption_words(caption).T, strict=True))

        def offset(kind: str, columns: slice) -> Array:
            # A trapezoid is a box convolved with a box; without its ramps it is the plateau alone.
            box, blur = (unit[:, columns] - 0.5).T
            ramp = RAMPS[kind]
            return box + ramp * blur if self.variant == "soft" else (1.0 - ramp) * box

        def half(kind: str, columns: slice) -> Array:
            # Two words on [0, 1]: the outer end of each territory is a wall, not a ramp.
            inner, blur = unit[:, columns].T
            ramp = RAMPS[kind]
            soft = self.variant == "soft"
            place = np.abs(inner + ramp * (blur - 0.5)) / 2 if soft else inner * (1.0 - ramp / 2) / 2
            return np.where(word[kind] == 0, place, 1.0 - place)

        return Factors(
            hue=((word["colour"] + offset("colour", slice(0, 2))) / len(WORDS["colour"])) % 1.0,
            size=half("size", slice(2, 4)),
            position=half("side", slice(4, 6)),
            shape=word["shape"],
        )

    # ---- truths ----

    def posterior(self, factors: Factors) -> Array:
        """Compute the exact p(caption | image), `(N, 48)`, from the image's factors."""
        joint = np.broadcast_to(self.caption_probability, (len(factors), len(CAPTIONS))).copy()
        for column, kind in enumerate(WORDS):
            words = _word_probability(kind, factors.coordinate(kind), RAMPS[kind])
            joint *= words[:, _WORD_INDEX[:, column]]
        return joint / joint.sum(1, keepdims=True)

    def pointwise(self, factors: Factors, caption: Ints) -> Array:
        """Compute the exact i(image; caption) = log p(caption | image) - log p(caption), `(N,)` in nats."""
        chosen = self.posterior(factors)[np.arange(len(factors)), caption]
        return np.log(chosen) - np.log(self.caption_probability[caption])

    def entropy(self) -> float:
        """Compute H(caption) in nats."""
        return float(-(self.caption_probability * np.log(self.caption_probability)).sum())

    def mutual_information(self) -> float:
        """Compute I(image; caption) in nats, by quadrature over the factors."""
        factors, density = self._grid()
        posterior = self.posterior(factors)
        entropy = -(posterior * np.log(np.where(posterior > 0, posterior, 1.0))).sum(1)
        return self.entropy() - float(density @ entropy)

    def conditional_information(self, word: str) -> float:
        """Compute I(image; word | the other words) in nats, by quadrature: what this word adds to the rest of the caption.

        Raises:
            ValueError: for a kind of word that captions do not have.
        """
        if word not in WORDS:
            raise ValueError(f"no word {shown(word)} in a caption; expected one of {list(WORDS)}")
        # I(X; W | R) = H(W | R) - H(W | X, R), both from the joint of caption and factors.
        others = [k for k, kind in enumerate(WORDS) if kind != word]
        groups = np.unique(_WORD_INDEX[:, others], axis=0, return_inverse=True)[1].ravel()
        factors, density = self._grid()

        def entropy_within(probability: Array) -> Array:
            total = np.zeros((len(probability), groups.max() + 1))
            np.add.at(total.T, groups, probability.T)
            ratio = probability / np.where(total > 0, total, 1.0)[:, groups]
            return -(probability * np.log(np.where(ratio > 0, ratio, 1.0))).sum(1)

        prior = entropy_within(self.caption_probability[None])[0]
        return float(prior - density @ entropy_within(self.posterior(factors)))

    def _grid(self, nodes: int = 12) -> tuple[Factors, Array]:
        """Nodes and probabilities that integrate functions of the posterior over the law of the factors.

        The posterior is constant on plateaus, smooth on ramps: one node for a plateau, Gauss-Legendre on a ramp.
        """
        place, weight = np.polynomial.legendre.leggauss(nodes)
        axes: list[tuple[NDArray[Any], Array]] = []
        for kind, words in WORDS.items():
            count, ramp = len(words), RAMPS[kind]
            if kind == "shape":
                axes.append((np.arange(count), np.full(count, 1 / count)))
                continue
            periodic = kind == "colour"
            centres = (np.arange(count) + (0.0 if periodic else 0.5)) / count
            crossings = (np.arange(count if periodic else count - 1) + (0.5 if periodic else 1.0)) / count
            on_ramps = (crossings[:, None] + ramp / (2 * count) * place[None, :]).ravel()
            if self.variant == "hard":
                axes.append((centres, np.full(count, 1 / count)))
                continue
            ramp_mass = np.tile(ramp / count * weight / 2, len(crossings))
            plateau = np.full(count, (1.0 - ramp_mass.sum()) / count)
            axes.append((np.concatenate([centres, on_ramps]), np.concatenate([plateau, ramp_mass])))
        points = np.stack([axis.ravel() for axis in np.meshgrid(*(a for a, _ in axes), indexing="ij")], 1)
        masses = np.stack([axis.ravel() for axis in np.meshgrid(*(m for _, m in axes), indexing="ij")], 1)
        size, hue, shape, position = points.T
        factors = Factors(hue, size, position, shape.astype(np.int64))
        # That was the law under a uniform prior; p'(f) = p(f) sum_y p(y | f) prior'(y) / prior(y).
        uniform = Shapes(self.variant).posterior(factors) if self.prior is not None else None
        density = masses.prod(1)
        if uniform is not None:
            density = density * (uniform @ (self.caption_probability * len(CAPTIONS)))
        return factors, density
