"""The joint law of pictures of two objects and their captions, and every information that follows from it.

A caption names an object, how it stands to another, and the other: "a red circle above a blue triangle". Given the caption, the hues and
the direction from one to the other are drawn from trapezoids around their words, so that neighbouring words overlap on ramps where
either is said; the shape words are always right. What a picture shows has no first and second object: "above A B" and "below B A" say
the same and have the same likelihood. With f the factors, in either order of the objects,

    p(y | picture)  proportional to  sum_orders prod_k p(word_k | f_k),

of which one order at most is not 0 for a caption, as no direction is told by a word and by its opposite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import Brief, shown, whole
from mmg_diffusers.worlds.pairs.render import NUISANCES, SHAPE_PLACES, render
from mmg_diffusers.worlds.ramps import word_shares
from mmg_diffusers.worlds.shapes.render import SHAPES

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

WORDS: Mapping[str, tuple[str, ...]] = {
    "colour": ("red", "green", "blue"),
    "shape": tuple(SHAPES[place] for place in SHAPE_PLACES),
    "relation": ("right of", "above", "left of", "below"),
}
"""The words of captions by kind. Relations go around the circle of directions, so that the opposite of one is two further."""

# Width of the ramp between two words, as a share of one word's territory, in the soft variant.
RAMPS: Mapping[str, float] = {"colour": 0.5, "relation": 0.5}

PARTS = ("colour", "shape", "relation", "colour", "shape")
"""The kinds of words in the order in which they stand in a caption."""

_INDEX: Ints = np.array(list(product(*(range(len(WORDS[kind])) for kind in PARTS))))

CAPTIONS: tuple[str, ...] = tuple(
    "a {} {} {} a {} {}".format(*(WORDS[kind][i] for kind, i in zip(PARTS, row, strict=True))) for row in _INDEX
)
"""All 144 captions. A caption's place in this tuple is its index everywhere in this package."""

SWAPS: Mapping[str, tuple[int, ...]] = {
    "attribute": (3, 1, 2, 0, 4),
    "noun": (0, 4, 2, 3, 1),
    "relation": (3, 4, 2, 0, 1),
}
"""Which word of a caption stands where once colours, shapes, or both objects around the relation have changed places."""


def caption_words(index: Ints | int) -> Ints:
    """Look up the words of captions, one for each of `PARTS`: `(...,) -> (..., 5)`."""
    return _INDEX[np.asarray(index)]


def caption_index(words: Ints) -> Ints:
    """Look up captions by their words, the inverse of `caption_words`: `(..., 5) -> (...,)`."""
    found = np.ravel_multi_index(tuple(np.moveaxis(words, -1, 0)), tuple(len(WORDS[kind]) for kind in PARTS))
    return np.asarray(found, dtype=np.int64)


def swapped(caption: Ints, kind: str) -> Ints:
    """Let colours ("attribute"), shapes ("noun") or both objects ("relation") of captions `(N,)` change places.

    Raises:
        ValueError: for another kind.
    """
    if kind not in SWAPS:
        raise ValueError(f"no swap {shown(kind)} of a caption; expected one of {list(SWAPS)}")
    return caption_index(caption_words(caption)[..., list(SWAPS[kind])])


def reworded(caption: Ints) -> Ints:
    """Find the other caption that says the same: the objects in the other order, the relation its opposite."""
    words = caption_words(caption)[..., list(SWAPS["relation"])]
    words[..., 2] = (words[..., 2] + 2) % len(WORDS["relation"])
    return caption_index(words)


@dataclass(frozen=True, repr=False)
class PairFactors(Brief):
    """What pictures show: `hue` `(N, 2)` in [0, 1), `shape` `(N, 2)` index into the shape words, `direction` `(N,)` in [0, 1).

    The direction is that of the first object as it is seen from the second. Which one is called the first is no part of the
    picture: `turned` is the same factors.
    """

    hue: Array
    shape: Ints
    direction: Array

    def __len__(self) -> int:
        return len(self.direction)

    def __getitem__(self, index: slice | Ints) -> PairFactors:
        return PairFactors(self.hue[index], self.shape[index], self.direction[index])

    def turned(self) -> PairFactors:
        """The same, the objects called in the other order."""
        return PairFactors(self.hue[:, ::-1], self.shape[:, ::-1], (self.direction + 0.5) % 1.0)


@dataclass(frozen=True, repr=False)
class PairsSample(Brief):
    """Pairs of picture and caption, with the ground truth about them.

    `images` is `(N, 16, 16, 3)` float32 in [0, 1]; `caption` the `(N,)` index into `CAPTIONS`; `factors` and `masks`
    `(N, 2, 16, 16)`, the share of each pixel that an object covers, begin with the object that is named first.
    """

    images: NDArray[np.float32]
    caption: Ints
    factors: PairFactors
    masks: Array

    def __len__(self) -> int:
        return len(self.caption)

    @property
    def prompts(self) -> list[str]:
        """The captions as text."""
        return [CAPTIONS[i] for i in self.caption]


@dataclass(frozen=True)
class Pairs:
    """The world of two objects; its 144 captions are equally probable.

    Args:
        variant: ``"soft"``: words overlap. ``"hard"``: the same world restricted to factors that two captions fit, which say
            the same. A model of the soft world has the hard one's likelihood ratios, hence serves both.

    Raises:
        ValueError: for an unknown variant.
    """

    variant: Literal["soft", "hard"] = "soft"

    def __post_init__(self) -> None:
        if self.variant not in ("soft", "hard"):
            raise ValueError(f"variant is {shown(self.variant)}; expected 'soft' or 'hard'")

    # ---- drawing ----

    def sample(self, count: int, seed: int = 0) -> PairsSample:
        """Draw pairs, with their pictures. The first pairs of a longer draw with the same seed are the same."""
        unit = self._uniform(count, seed)
        caption, factors = self._factors(unit)
        images, masks = render(factors.hue, factors.shape, factors.direction, np.ascontiguousarray(unit[:, 7:]))
        return PairsSample(images, caption, factors, masks)

    def sample_factors(self, count: int, seed: int = 0) -> tuple[Ints, PairFactors]:
        """Captions and factors of the pairs that `sample` draws, without their pictures."""
        return self._factors(self._uniform(count, seed))

    @staticmethod
    def _uniform(count: int, seed: int) -> Array:
        whole(count, "count", 1, " pair")
        return np.random.default_rng(whole(seed, "seed", 0)).random((count, 7 + len(NUISANCES)))

    def _factors(self, unit: Array) -> tuple[Ints, PairFactors]:
        caption = (unit[:, 0] * len(CAPTIONS)).astype(np.int64)
        words = caption_words(caption)

        def around(part: int, columns: slice) -> Array:
            # A trapezoid is a box convolved with a box; without its ramps it is the plateau alone.
            box, blur = (unit[:, columns] - 0.5).T
            ramp = RAMPS[PARTS[part]]
            offset = box + ramp * blur if self.variant == "soft" else (1.0 - ramp) * box
            return ((words[:, part] + offset) / len(WORDS[PARTS[part]])) % 1.0

        hue = np.stack([around(0, slice(1, 3)), around(3, slice(3, 5))], 1)
        return caption, PairFactors(hue, words[:, [1, 4]], around(2, slice(5, 7)))

    # ---- truths ----

    def posterior(self, factors: PairFactors) -> Array:
        """Compute the exact p(caption | picture), `(N, 144)`, from the picture's factors, in whichever order they are."""
        joint = _likelihood(factors) + _likelihood(factors.turned())
        return joint / joint.sum(1, keepdims=True)

    def pointwise(self, factors: PairFactors, caption: Ints) -> Array:
        """Compute the exact i(picture; caption) = log p(caption | picture) - log p(caption), `(N,)` in nats."""
        return np.log(self.posterior(factors)[np.arange(len(factors)), caption]) + self.entropy()

    def entropy(self) -> float:
        """Compute H(caption) in nats."""
        return float(np.log(len(CAPTIONS)))

    def mutual_information(self) -> float:
        """Compute I(picture; caption) in nats, in closed form.

        What a picture leaves open is which of two captions says the same, log 2, and words on ramps, where their chances run from
        0 to 1 evenly: half a nat each in the mean.
        """
        ramps = 2 * RAMPS["colour"] + RAMPS["relation"] if self.variant == "soft" else 0.0
        return self.entropy() - float(np.log(2)) - ramps / 2


def _likelihood(factors: PairFactors) -> Array:
    """prod_k p(word_k | factor_k) of every caption, the objects named in this order, `(N, 144)`."""
    told = {
        "shape": [np.eye(len(WORDS["shape"]))[own] for own in factors.shape.T],
        "colour": [word_shares(own, len(WORDS["colour"]), RAMPS["colour"], periodic=True) for own in factors.hue.T],
        "relation": [word_shares(factors.direction, len(WORDS["relation"]), RAMPS["relation"], periodic=True)],
    }
    places = (("colour", 0), ("shape", 0), ("relation", 0), ("colour", 1), ("shape", 1))
    return np.prod([told[kind][which][:, _INDEX[:, part]] for part, (kind, which) in enumerate(places)], axis=0)
