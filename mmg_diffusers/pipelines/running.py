"""Runs of a pipeline over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmg_diffusers.checks import file_path, shown
from mmg_diffusers.pairs.classes import as_prompt
from mmg_diffusers.pairs.images import Images
from mmg_diffusers.pairs.marginals import Marginal, check_marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import check_text
from mmg_diffusers.pairs.rows import Row
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.pipelines.identities import encoders_identity, schedule_identity
from mmg_diffusers.runs.distributed import run_everywhere
from mmg_diffusers.runs.parts import Part
from mmg_diffusers.runs.shard_files import Result
from mmg_diffusers.runs.shards import Outcome

if TYPE_CHECKING:
    from mmg_diffusers.pipelines.pipeline import MMGPipeline


def run_pairs(
    pipe: MMGPipeline,
    source: str | Path | Iterable[Mapping[str, Any]] | Source,
    output: str | Path | Part,
    *,
    prompt: str | None,
    marginal: Marginal,
    plan: Plan,
    truncate: bool,
    strict: bool,
    limit: int | None,
    progress: bool,
) -> Outcome | None:
    """Measure every pair of a data set; see `MMGPipeline.run`."""
    check_marginal(marginal)
    # An option that no pair can be measured with is no bad pair.
    plan.check(pipe.denoiser, candidates=marginal.candidates)
    rows = Source(source, prompt)
    if pipe.codec.classes is None:
        rows = rows.named()
    if prompt is not None:
        pipe.codec.check_prompt(as_prompt(prompt))
    if marginal.needs_all:
        every = rows.prompts(limit)
        marginal = marginal.over(every.prompts, torch.tensor(every.places))

    def measure(some: Sequence[Row]) -> Result:
        if not truncate:
            for row in some:
                check_text(row.prompt, "the prompt")
                lost = pipe.codec.truncated(row.prompt)
                if lost is not None:
                    raise ValueError(f"the text encoder does not see {shown(lost)}, the end of {shown(row.prompt)}")
        contexts = [row.given for row in some if row.given is not None]
        if contexts and len(contexts) < len(some):
            raise ValueError("some pairs of a chunk have a context and some have none; give all or none")

        result, _ = pipe.measure_part(
            Images([row.picture() for row in some]),
            [row.prompt for row in some],
            contexts or None,
            marginal,
            plan,
            [row.place for row in some],
        )
        return result

    settings = {
        **pipe.describe(),
        "weights": pipe.fingerprint(),
        "schedule": schedule_identity(pipe.family.convention()).digest,
        "encoders": encoders_identity(pipe.codec).digest,
        **plan.record(candidates=marginal.candidates is not None),
        **marginal.record(),
        "truncate": truncate,
        "prompt": prompt,
    }
    bar = pipe.progress_bar_config
    pipe.set_progress_bar_config(disable=True)
    try:
        place = output if isinstance(output, Part) else file_path(output, "output")
        return run_everywhere(measure, rows, place, settings, strict=strict, limit=limit, progress=progress)
    finally:
        pipe.set_progress_bar_config(**bar)
