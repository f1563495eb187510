"""Pairs: captioned 16x16 pictures of two objects and how they stand to each other; what captions that swap words lose is known exactly."""

from mmg_diffusers.worlds.pairs.reader import read_pairs
from mmg_diffusers.worlds.pairs.render import SIDE, render
from mmg_diffusers.worlds.pairs.world import (
    CAPTIONS,
    PARTS,
    SWAPS,
    WORDS,
    PairFactors,
    Pairs,
    PairsSample,
    caption_index,
    caption_words,
    reworded,
    swapped,
)

__all__ = [
    "CAPTIONS",
    "PARTS",
    "SIDE",
    "SWAPS",
    "WORDS",
    "PairFactors",
    "Pairs",
    "PairsSample",
    "caption_index",
    "caption_words",
    "read_pairs",
    "render",
    "reworded",
    "swapped",
]
