"""A caption's words in another order, as the COCO-order protocol of ARO shuffles them (Yuksekgonul et al. 2023, arXiv 2210.01936)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from mmg_diffusers.checks import shown

# Names of the protocol's four ways; the first two have to know which words are nouns and adjectives.
TAGGED = ("nouns and adjectives", "all but nouns and adjectives")
PLAIN = ("within trigrams", "trigrams")
TRIES = 64


def plain_caption(caption: str, most: int = 30) -> str:
    """A caption as the protocol reads it: small letters, no full stops, so many words at most."""
    text = re.sub(r"[.!\"()*#:;~\s]+", " ", caption.lower()).strip()
    return " ".join(text.split(" ")[:most])


def _among(words: Sequence[str], places: Sequence[int], rng: np.random.Generator) -> list[str]:
    """The words with those at some places shuffled among themselves."""
    moved = list(words)
    for place, other in zip(places, rng.permutation(np.array(places, dtype=int)), strict=True):
        moved[place] = words[int(other)]
    return moved


def _shuffled(words: Sequence[str], tags: Sequence[str] | None, way: str, rng: np.random.Generator) -> list[str]:
    if tags is not None and way == TAGGED[0]:
        for tag in ("noun", "adjective"):
            words = _among(words, [k for k, own in enumerate(tags) if own == tag], rng)
        return list(words)
    if tags is not None and way == TAGGED[1]:
        return _among(words, [k for k, own in enumerate(tags) if own not in ("noun", "adjective")], rng)
    trigrams = [list(words[k : k + 3]) for k in range(0, len(words), 3)]
    if way == PLAIN[0]:
        trigrams = [_among(three, range(len(three)), rng) for three in trigrams]
    else:
        trigrams = [trigrams[k] for k in rng.permutation(len(trigrams))]
    return [word for three in trigrams for word in three]


def shuffles(
    caption: str,
    tags: Sequence[str] | None,
    rng: np.random.Generator,
    same: Callable[[str], bool] = lambda text: False,
) -> dict[str, str]:
    """Shuffle a caption in each of the protocol's ways.

    What comes out as the caption itself, or as another that says the same, is shuffled again; the protocol's own code keeps it, so
    that it can not be told there. A way in which nothing else comes out in 64 tries is left out.

    Args:
        caption: its words, with spaces between them.
        tags: "noun", "adjective" or something else for each word; without them, the ways that need none.
        rng: of the order.
        same: whether another text says the same as the caption.

    Raises:
        ValueError: for as many tags as there are no words.
    """
    words = caption.split(" ")
    if tags is not None and len(tags) != len(words):
        raise ValueError(f"{len(tags)} tags for the {len(words)} words of {shown(caption)}; expected one for each word")
    found: dict[str, str] = {}
    for way in (*(TAGGED if tags is not None else ()), *PLAIN):
        for _ in range(TRIES):
            text = " ".join(_shuffled(words, tags, way, rng))
            if text != caption and not same(text):
                found[way] = text
                break
    return found
