"""Prompts that are switched, beside the information that has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmg_diffusers.commands.studies.analyses.setup import (
    Result,
    Row,
    Setup,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pipelines.drawing import switch_prompts


def switching(setup: Setup) -> dict[str, Any]:
    """The tau at which the first prompt wins half of the time, beside that at which half of the information has arrived."""
    first, second = "a large red circle on the left", "a large blue circle on the right"
    result = switch_prompts(
        setup.pipe,
        first,
        second,
        list(np.linspace(0, 1, 11)),
        count=setup.settings.switched,
        steps=setup.settings.sampling_steps,
        levels=setup.levels(),
        seed=8,
    )
    images, prompts = (
        [*result.images[-1], *result.images[0]],
        [first] * setup.settings.switched + [second] * setup.settings.switched,
    )
    over = setup.pipe.filter(images, prompts, Candidates((first, second)), levels=setup.levels(), seed=8).influence(
        result.convention
    )
    arrived = {axis: over.half(axis) if over.arrives else None for axis in ("tau", "logsnr")}
    return {
        "prompts": [first, second],
        "tau": result.tau.tolist(),
        "share": [list(row) for row in zip(*(part.tolist() for part in result.share()), strict=True)],
        "wins": {axis: result.half(axis) for axis in ("tau", "logsnr")},
        "arrived": arrived,
    }


def switching_rows(result: Result) -> Iterator[Row]:
    """Where the first prompt wins, and where half of the information has arrived."""
    wins, arrived = (result[key] for key in ("wins", "arrived"))
    yield (
        "switching: the first prompt wins half of the time at tau; log-SNR",
        f"{plus_minus(wins['tau'])}; {plus_minus(wins['logsnr'], 2)}",
        "",
        None,
    )
    yield (
        "- half of the information has arrived at",
        f"{plus_minus(arrived['tau'])}; {plus_minus(arrived['logsnr'], 2)}",
        "",
        None,
    )
