"""Pairs of images and prompts as people keep them, and what prompts are compared with.

May import `measure` and below; must not run a network.
"""

from mmg_diffusers.pairs.captions import Captions
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.images import ImageLike, Picture, PictureFile, load_image, read_picture
from mmg_diffusers.pairs.likelihood import Likelihood
from mmg_diffusers.pairs.marginals import Candidates, Marginal, Negatives, NullPrompt
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Masked, Prompt, Word, find_word, replace_word, without, words_of
from mmg_diffusers.pairs.sources import Source, SourcePrompts
from mmg_diffusers.pairs.tables import PairTable, read_candidates, read_pairs
from mmg_diffusers.pairs.videos import VideoLike, read_video

__all__ = [
    "Candidates",
    "Captions",
    "ImageLike",
    "ImagePairs",
    "Likelihood",
    "Marginal",
    "Masked",
    "Mixture",
    "Negatives",
    "NullPrompt",
    "Options",
    "PairTable",
    "Picture",
    "PictureFile",
    "Plan",
    "Prompt",
    "Source",
    "SourcePrompts",
    "VideoLike",
    "Word",
    "find_word",
    "load_image",
    "read_candidates",
    "read_pairs",
    "read_picture",
    "read_video",
    "replace_word",
    "without",
    "words_of",
]
