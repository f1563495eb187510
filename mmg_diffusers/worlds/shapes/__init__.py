"""Shapes: captioned 32x32 images whose information about their captions is known exactly."""

from mmg_diffusers.worlds.shapes.reader import Reading, read_images
from mmg_diffusers.worlds.shapes.render import SIZE, render
from mmg_diffusers.worlds.shapes.world import (
    CAPTIONS,
    WORD_PLACES,
    WORDS,
    Factors,
    Shapes,
    ShapesSample,
    caption_parts,
    caption_words,
)

__all__ = [
    "CAPTIONS",
    "SIZE",
    "WORDS",
    "WORD_PLACES",
    "Factors",
    "Reading",
    "Shapes",
    "ShapesSample",
    "caption_parts",
    "caption_words",
    "read_images",
    "render",
]
