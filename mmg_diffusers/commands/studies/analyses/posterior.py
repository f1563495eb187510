"""The final posterior over all captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmg_diffusers.analysis.words import word_information
from mmg_diffusers.commands.studies.analyses.setup import (
    PARTS,
    Result,
    Row,
    Setup,
)
from mmg_diffusers.commands.studies.captions import PRUNE, Comparison
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.worlds.shapes import Shapes


def posterior(setup: Setup) -> dict[str, Any]:
    """The final posterior over all captions, the evidence averaged over draws: I, and each word given the rest."""
    world, sample = Shapes("soft"), setup.sample
    compare = Comparison(
        setup.pipe, setup.stages, setup.settings.steps, setup.settings.high, setup.settings.draws, PRUNE
    )
    result = compare("posterior", sample, seed=4)
    exact = torch.from_numpy(world.pointwise(sample.factors, sample.caption))
    nats = result.pointwise(sample.prompts)
    words = word_information(result, sample.prompts, PARTS)
    return {
        "truth": world.mutual_information(),
        "truth_of_these": mean_over_pairs(exact),
        "nats": result.bound(sample.prompts),
        "less_exact": mean_over_pairs(nats - exact),
        "evaluations": result.curve.evaluations,
        "words": {
            kind: [*mean_over_pairs(values), world.conditional_information(kind)] for kind, values in words.items()
        },
    }


def posterior_rows(result: Result) -> Iterator[Row]:
    """Information, and that of each word, beside the exact values."""
    nats, less = result["nats"][0], result["less_exact"]
    off = abs(less[0]) / result["truth_of_these"][0]
    yield (
        "exact I; exact mean of these pairs",
        f"{result['truth']:.3f}; {plus_minus(result['truth_of_these'])}",
        "",
        None,
    )
    yield "final posterior, I", plus_minus(result["nats"]), "", None
    yield "- against the exact mean of these pairs", f"{plus_minus(less)}, {off:.1%}", "within 5 %", off < 0.05
    far = abs(nats / result["truth"] - 1)
    yield "- against the exact I", f"{far:.1%}", "within 5 %", far < 0.05
    for kind, (values, stderr, truth) in result["words"].items():
        far = abs(values / truth - 1)
        cell = f"{values:.3f} ± {stderr:.3f}, exact {truth:.3f}, {far:.1%}"
        yield f"- {kind} given the rest", cell, "within 10 %", far < 0.1
