"""What studies share: the model, how they measure, and how their options are read."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mmg_diffusers.commands.inputs import read_compared
from mmg_diffusers.commands.options import LEVELS, RuleName
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.quadrature import Simpson, Trapezoid
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.shipped import model_place
from mmg_diffusers.worlds.shapes import WORD_PLACES

RULES: Mapping[RuleName, type[Trapezoid] | type[Simpson]] = {"trapezoid": Trapezoid, "simpson": Simpson}


@dataclass(frozen=True)
class StudySettings:
    """How pairs are measured.

    Args:
        levels, rule: of the null prompt.
        steps: of the noise path along which candidates are compared, even in log-SNR; by default those of a `Plan`.
        high: its clean end, by default the model's own.
        draws: of noise.
        seed: names the noise.
    """

    levels: int = LEVELS
    rule: RuleName = "trapezoid"
    steps: int | None = None
    high: float | None = None
    draws: int = 1
    seed: int = 0

    def with_null(self) -> Plan:
        """The plan of a measurement with the null prompt."""
        return Plan(rule=RULES[self.rule](self.levels), draws=self.draws, seed=self.seed)

    def with_candidates(self, pipe: MMGPipeline) -> Plan:
        """The plan of a measurement against candidates."""
        low = pipe.denoiser.logsnr_range[0]
        ends = None if self.high is None else (low, self.high)
        return Plan(levels=self.steps, logsnr_range=ends, draws=self.draws, seed=self.seed)

    def last_step(self, pipe: MMGPipeline) -> float:
        """The level at which the last step of the candidates' path begins."""
        path, model = self.with_candidates(pipe).path(), pipe.denoiser
        ends = range_within(model, path.logsnr_range, path.quadrature)
        nothing = torch.zeros(1, path.quadrature.nodes, dtype=torch.float64)
        return float(path.quadrature.place(*ends, model.snap, nothing)[0][0, -2])


def load_model(name: str | Path | None) -> MMGPipeline:
    """A model by its folder or id, by default the one that ships; its bar is redrawn once a second.

    Raises:
        ValueError: as `MMGPipeline.from_pretrained` does.
    """
    pipe = MMGPipeline.from_pretrained(model_place("shapes" if name is None else name))
    pipe.set_progress_bar_config(mininterval=1)
    return pipe


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


def print_warnings(warnings: Sequence[str]) -> None:
    """Print each warning once."""
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}")
