"""What studies share: the model, how they measure, and how their options are read."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mmg_diffusers.commands.inputs import read_compared
from mmg_diffusers.commands.networks import Measuring, within
from mmg_diffusers.commands.options import LEVELS, RuleName
from mmg_diffusers.commands.questions import check_options
from mmg_diffusers.files.printed import said_of
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.quadrature import Simpson, Trapezoid
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.worlds.shapes import WORD_PLACES

RULES: Mapping[RuleName, type[Trapezoid] | type[Simpson]] = {"trapezoid": Trapezoid, "simpson": Simpson}


@dataclass(frozen=True)
class StudySettings:
    """How pairs are measured.

    Args:
        how: as all commands have it.
        rule: of the levels of the null prompt.
        steps: of the noise path along which candidates are compared, even in log-SNR; by default as many as levels are named, or
            those of a `Plan`.
        tolerance: of the null prompt, in place of a number of draws.
    """

    how: Measuring = field(default_factory=Measuring)
    rule: RuleName = "trapezoid"
    steps: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        self.how.plan(tolerance=self.tolerance)  # which refuses what no measurement can have

    @property
    def seed(self) -> int:
        """Names the noise."""
        return self.how.seed

    def with_null(self, pipe: MMGPipeline) -> Plan:
        """The plan of a measurement with the null prompt."""
        # Simpson's rule takes levels by twos.
        levels = self.how.levels or LEVELS + (self.rule == "simpson")
        plan = self.how.plan(levels=None, rule=RULES[self.rule](levels), tolerance=self.tolerance)
        return within(plan, self.how.high, pipe)

    def with_candidates(self, pipe: MMGPipeline) -> Plan:
        """The plan of a measurement against candidates."""
        return within(self.how.plan(levels=self.steps or self.how.levels), self.how.high, pipe)

    def check(self, marginal: Marginal) -> None:
        """Refuse options of the null prompt against candidates.

        Raises:
            ValueError: which says what to leave out.
        """
        check_options(marginal, self.how.plan(tolerance=self.tolerance))

    def last_step(self, pipe: MMGPipeline) -> float:
        """The level at which the last step of the candidates' path begins."""
        path, model = self.with_candidates(pipe).path(), pipe.denoiser
        ends = range_within(model, path.logsnr_range, path.quadrature)
        nothing = torch.zeros(1, path.quadrature.nodes, dtype=torch.float64)
        return float(path.quadrature.place(*ends, model.snap, nothing)[0][0, -2])


def marginal_of(text: str | None, source: str, prompt: str | None, prompts: Sequence[str]) -> Marginal:
    """`read_compared`; by default ``shapes`` for pairs of that world with their captions, else ``null``."""
    return read_compared(text or ("shapes" if is_shapes(source, prompt) else "null"), prompts)


def is_shapes(source: str, prompt: str | None) -> bool:
    """Whether pairs are of the Shapes world, with their own captions."""
    return source == "shapes" and prompt is None


def word_of(text: str, source: str) -> Word:
    """A word by its text or its place, such as ``@2``; of Shapes captions also by its kind."""
    place = WORD_PLACES.get(text) if source == "shapes" else None
    return Word.parse(text) if place is None else Word(place=place)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values, whole or not at all."""
    write_whole(path, json.dumps(values, indent=1).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, whole or not at all."""
    write_whole(path, save({name: values.contiguous() for name, values in tensors.items()}))


def write_text(path: Path, text: io.StringIO) -> None:
    """Write text, whole or not at all."""
    write_whole(path, text.getvalue().encode())


def warned(warnings: Sequence[str]) -> list[object]:
    """Each warning once."""
    return [said_of(warning) for warning in dict.fromkeys(warnings)]


def warned_of(warnings: Mapping[str, Sequence[str]]) -> list[object]:
    """Each warning once, with the names that it is of, unless it is of all."""
    said: list[object] = []
    for warning in dict.fromkeys(text for texts in warnings.values() for text in texts):
        names = [name for name, texts in warnings.items() if warning in texts]
        about = "" if len(names) == len(warnings) else f"{'; '.join(names)}: "
        said.append(said_of(Finding(f"{about}{warning}", grade=Finding.of(warning).grade)))
    return said


def check_taus(taus: Sequence[float]) -> None:
    """Refuse what is no diffusion time, before a model is loaded.

    Raises:
        ValueError: for one below 0 or above 1.
    """
    for tau in taus:
        if not 0 <= tau <= 1:
            raise ValueError(f"tau is {tau:g}; expected a diffusion time from 0 to 1")
