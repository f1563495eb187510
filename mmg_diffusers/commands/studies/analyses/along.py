"""The filter level by level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.commands.studies.analyses.setup import (
    Result,
    Row,
    Setup,
    arrival,
    end_of,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.worlds.shapes import Shapes

AGREEMENT_LEVELS = 10
# Readings of the filter that are to agree.
COMPARED = (("entropy", "log q"), ("gap", "log q"), ("gap", "entropy"), ("steadied gap", "log q"))


def along(setup: Setup) -> dict[str, Any]:
    """The filter level by level: three readings that should agree, the decay at the clean end, the whole at tau = T."""
    result = setup.filter("filter", keep="level")
    log_q, entropy = result.by_level[:, :-1], result.entropy_by_level[:, :-1]
    readings = {"log q": log_q, "entropy": entropy}
    readings |= {form: result.integrated_by_level(form) for form in ("gap", "orthogonal")}
    readings["steadied gap"] = result.steadied_by_level
    rows: list[dict[str, Any]] = []
    for level in np.linspace(1, log_q.shape[1] - 1, AGREEMENT_LEVELS).round().astype(int):
        at = {name: values[:, level] for name, values in readings.items()}
        rows.append(
            {
                "logsnr": float(result.logsnr[level]),
                **{name: mean_over_pairs(values) for name, values in at.items()},
                "differences": {f"{a} - {b}": mean_over_pairs(at[a] - at[b]) for a, b in COMPARED},
            }
        )
    exact = torch.from_numpy(Shapes("soft").pointwise(setup.sample.factors, setup.sample.caption))
    over = result.influence(setup.pipe.denoiser.convention)
    compared = influence(result.against_mixture.using("gap"))
    exactly = torch.equal(over.nats[:, 0], result.nats) and torch.equal(
        compared.nats[:, 0], result.against_mixture.using("gap").nats
    )
    return {
        "nats": result.mean(),
        "less_exact": mean_over_pairs(result.nats - exact),
        "entropy": mean_over_pairs(result.entropy_by_level[:, -1]),
        **{form: result.against_mixture.using(form).mean() for form in ("gap", "orthogonal")},
        "below": result.below,
        "settled": result.settled,
        "step_error": result.step_error,
        "levels": rows,
        "end": end_of(result.against_mixture.curve),
        "whole_is_the_estimate": exactly,
        "half": {axis: over.half(axis) for axis in ("tau", "logsnr")},
        "evaluations": result.evaluations,
        "warnings": result.warnings(),
    }


def along_rows(result: Result) -> Iterator[Row]:
    """Readings of the filter, and how far they agree."""
    said = {form: plus_minus(result[form]) for form in ("nats", "entropy", "gap", "orthogonal")}
    cell = f"log q {said['nats']}, entropy {said['entropy']}, gap {said['gap']}, orthogonal {said['orthogonal']}"
    yield "filter, one path", cell, "", None
    yield "- log q less the exact i(x; y), pair by pair", plus_minus(result["less_exact"]), "", None
    yield (
        "- settled from, below the path",
        f"log-SNR {result['settled']:.2f}, {plus_minus(result['below'])}",
        "",
        None,
    )
    for name in (f"{a} - {b}" for a, b in COMPARED):
        worst = max(abs(row["differences"][name][0]) / row["differences"][name][1] for row in result["levels"])
        where = f"- {name}, worst of {len(result['levels'])} levels"
        yield where, f"{worst:.1f} standard errors", "within 3", worst <= 3
    yield "- error of the step", plus_minus(result["step_error"]), "", None
    end = result["end"]
    cell = f"{end['gap']:.2%} ± {end['gap_stderr']:.2%} of the peak, at log-SNR {end['logsnr']:.2f}"
    yield "- gap curve at the cleanest level", cell, "below 1 %", abs(end["gap"]) < 0.01
    yield "- orthogonal curve there", f"{end['orthogonal']:.2%} ± {end['orthogonal_stderr']:.2%}", "", None
    yield from arrival(result)


def levels_table(result: Result) -> str:
    """Markdown: the readings of the filter by level."""
    readings = ("log q", "entropy", "gap", "orthogonal")
    differences = list(result["levels"][0]["differences"])
    lines = [
        f"| log-SNR | {' | '.join([*readings, *differences])} |",
        "|--:" * (1 + len(readings) + len(differences)) + "|",
    ]
    for row in result["levels"]:
        cells = [plus_minus(row[name]) for name in readings]
        cells += [plus_minus(row["differences"][name]) for name in differences]
        lines.append(f"| {row['logsnr']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)
