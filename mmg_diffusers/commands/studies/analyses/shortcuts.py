"""What pruning and fewer steps change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmg_diffusers.commands.studies.analyses.setup import (
    Result,
    Row,
    Setup,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.value import mean_over_pairs


def pruning(setup: Setup) -> dict[str, Any]:
    """Evaluations saved by pruning, at the threshold and at a tenth of it, and what it changes; on a few pairs."""
    whole = setup.filter("prune-0", count=setup.settings.few, prune=0.0, seed=9)
    out: dict[str, Any] = {"pairs": setup.settings.few, "evaluations": whole.evaluations}
    for prune in (setup.settings.prune, setup.settings.prune / 10):
        pruned = setup.filter(f"prune-{prune:g}", count=setup.settings.few, prune=prune, seed=9)
        out[f"{prune:g}"] = {
            "evaluations": pruned.evaluations,
            "log q": mean_over_pairs(pruned.nats - whole.nats),
            "entropy": mean_over_pairs(pruned.entropy_by_level[:, -1] - whole.entropy_by_level[:, -1]),
            "gap": mean_over_pairs(pruned.against_mixture.using("gap").nats - whole.against_mixture.using("gap").nats),
        }
    return out


def pruning_rows(result: Result) -> Iterator[Row]:
    """Evaluations saved, and what it changes."""
    for prune, values in result.items():
        if isinstance(values, dict):
            saved = 1 - values["evaluations"] / result["evaluations"]
            cell = f"{saved:.1%} of {result['evaluations']}"
            yield f"pruning at {prune}, {result['pairs']} pairs: evaluations saved", cell, "", None
            yield "- change of log q", plus_minus(values["log q"], 5), "below 0.001", abs(values["log q"][0]) < 0.001
            cell = f"{plus_minus(values['entropy'], 5)}, {plus_minus(values['gap'], 5)}"
            yield "- change of the entropy, of the gap to the mixture", cell, "", None


def steps(setup: Setup) -> dict[str, Any]:
    """How log q depends on the number of steps; on a few pairs, at noise of another seed."""
    out: dict[str, Any] = {"pairs": setup.settings.few}
    for steps in (max(2, setup.settings.steps // 2), setup.settings.steps, 2 * setup.settings.steps):
        result = setup.filter(f"steps-{steps}", count=setup.settings.few, levels=setup.levels(steps=steps), seed=10)
        out[str(steps)] = {
            "nats": result.mean(),
            "entropy": mean_over_pairs(result.entropy_by_level[:, -1]),
            "gap": result.against_mixture.using("gap").mean(),
            "evaluations": result.evaluations,
        }
    return out


def steps_rows(result: Result) -> Iterator[Row]:
    """Values by the number of steps."""
    for steps, values in result.items():
        if isinstance(values, dict):
            cell = f"log q {plus_minus(values['nats'])}, entropy {plus_minus(values['entropy'])}, gap {plus_minus(values['gap'])}"
            yield f"{steps} steps, {result['pairs']} pairs", f"{cell}, {values['evaluations']} evaluations", "", None
