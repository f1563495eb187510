"""What is read off measurements: posteriors, influence over noise, maps, words.

May import `pairs` and below; must not run a network, and draws no figures.
"""

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.classification import Calibration, Classification
from mmg_diffusers.analysis.excess import Excess, excess
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import Influence, influence
from mmg_diffusers.analysis.maps import auroc, dilate, to_frames, to_pixels
from mmg_diffusers.analysis.path_influence import PathInfluence
from mmg_diffusers.analysis.preference import Preference
from mmg_diffusers.analysis.ranking import Funnel, Ranked, Sieve
from mmg_diffusers.analysis.records import load
from mmg_diffusers.analysis.sandwich import Sandwich
from mmg_diffusers.analysis.selection import Selected
from mmg_diffusers.analysis.typicality import membership, over_reference, typicality
from mmg_diffusers.analysis.words import (
    Decomposition,
    Isolated,
    all_but,
    decompose,
    decompose_maps,
    isolate,
    only,
    pair_information,
    pair_surprise,
    parts_by_place,
    word_information,
)
from mmg_diffusers.moved import old_names

__all__ = [
    "Audit",
    "Calibration",
    "Classification",
    "Decomposition",
    "Excess",
    "Filtered",
    "Funnel",
    "Influence",
    "Isolated",
    "PathInfluence",
    "Preference",
    "Ranked",
    "Sandwich",
    "Selected",
    "Sieve",
    "Words",
    "all_but",
    "auroc",
    "decompose",
    "decompose_maps",
    "dilate",
    "excess",
    "influence",
    "isolate",
    "load",
    "membership",
    "only",
    "over_reference",
    "pair_information",
    "pair_surprise",
    "parts_by_place",
    "to_frames",
    "to_pixels",
    "typicality",
    "word_information",
]

__getattr__ = old_names(__name__)
