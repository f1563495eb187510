"""One way to read a record of any kind back from its file."""

from __future__ import annotations

import json
from pathlib import Path

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.excess import Excess
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.path_influence import PathInfluence
from mmg_diffusers.analysis.preference import Preference
from mmg_diffusers.analysis.ranking import Ranked
from mmg_diffusers.analysis.sandwich import Sandwich
from mmg_diffusers.analysis.selection import Selected
from mmg_diffusers.files.records import read_record
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.divergence import Entropy, Interaction
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood, LogLikelihoodRatio
from mmg_diffusers.measure.measured import Record
from mmg_diffusers.measure.probability import LogProbability, LogProbabilityRatio

KINDS: tuple[type[Record], ...] = (
    Estimate,
    LogLikelihood,
    LogLikelihoodRatio,
    LogProbability,
    LogProbabilityRatio,
    Filtered,
    Audit,
    Classification,
    Entropy,
    Interaction,
    Excess,
    PathInfluence,
    Preference,
    Ranked,
    Sandwich,
    Selected,
    Words,
    CandidateCurve,
)


def load(path: str | Path) -> Record:
    """Read what the `save` of any result wrote, as what it was: the file tells its kind.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, or no record of this library.
    """
    body = read_record(path, "record")
    try:
        return from_bytes(body)
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error


def from_bytes(body: bytes) -> Record:
    """Read what the `to_bytes` of any result gave.

    Raises:
        ValueError: if it is truncated, or no record of this library.
    """
    try:
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        form = json.loads(header["__metadata__"]["record"])["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no complete record of this library: {error!r:.200}") from error
    for kind in KINDS:
        if form == kind.FORMAT:
            return kind.from_bytes(body)
    expected = ", ".join(f"{kind.FORMAT} ({kind.KIND})" for kind in KINDS)
    raise ValueError(f"of the format {form!r:.80}; expected one of {expected}")
