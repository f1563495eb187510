"""The null prompt, for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.commands.studies.analyses.setup import (
    Result,
    Row,
    Setup,
    arrival,
    end_of,
    share,
    sums,
)
from mmg_diffusers.commands.texts import plus_minus


def null(setup: Setup) -> dict[str, Any]:
    """The null prompt, for comparison: it does not decay."""
    result = setup.null()
    over = influence(result, setup.pipe.denoiser.convention)
    return {
        **{form: result.using(form).mean() for form in ("gap", "orthogonal")},
        "end": end_of(result.curve),
        "whole_is_the_estimate": torch.equal(over.nats[:, 0], result.nats),
        "half": {axis: over.half(axis) for axis in ("tau", "logsnr")},
        "map_sums": sums(result),
        "clean": share(result),
        "warnings": result.warnings(),
    }


def null_rows(result: Result) -> Iterator[Row]:
    """That the null prompt does not decay."""
    yield (
        "null prompt, gap and orthogonal",
        f"{plus_minus(result['gap'])}, {plus_minus(result['orthogonal'])}",
        "",
        None,
    )
    end = result["end"]
    cell = f"{end['gap']:.1%} ± {end['gap_stderr']:.1%} of the peak, at log-SNR {end['logsnr']:.2f}"
    yield "- gap curve at the cleanest level", cell, "not below 1 %", abs(end["gap"]) >= 0.01
    yield from arrival(result)
    yield "- share of a map from log-SNR 3 up", f"{result['clean'][0]:.1%} ± {result['clean'][1]:.1%}", "", None
    yield (
        "- a map's sum less the orthogonal value, at most",
        f"{result['map_sums']:.1e}",
        "1e-6",
        result["map_sums"] < 1e-6,
    )
