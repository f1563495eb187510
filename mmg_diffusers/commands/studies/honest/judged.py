"""What the verdict says of numbers that are known to be right or wrong, and what the test of calibration sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.reliability import LEVEL, SAID, Reliability
from mmg_diffusers.commands.studies.honest.settings import Setting, development, error_of, is_right, reported
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.verdict import GRADES

# Seeds of the reported pairs that are counted beside the first.
SEEDS = 10
# Of the test of calibration: pairs, and how bold the posteriors are (logits are multiplied; 1 is calibrated).
COUNTS, BOLD = (10, 20, 50, 100, 200), (1.0, 1.5, 2.0, 3.0)
REPEATS = 200


def _looked_at(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for setting in settings:
        measured = setting.measure()
        record, truth = measured
        rows.append(
            {
                "name": setting.name,
                "good": setting.good,
                "mean": record.mean(),
                "truth": float(truth.mean()),
                "off": error_of(measured),
                "as said": is_right(measured) == setting.good,
                "grade": record.verdict.grade,
                "verdict": str(record.verdict),
            }
        )
    return rows


def verdicts() -> dict[str, Any]:
    """The reported settings one by one, and counts over more seeds of their pairs; those that thresholds were fixed on for comparison."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for name, settings in {
        "fixed on": development(),
        "reported": reported(),
        f"reported, {SEEDS} other seeds": [one for seed in range(1, SEEDS + 1) for one in reported(seed)],
    }.items():
        rows = _looked_at(settings)
        counts[name] = {
            kind: {grade: sum(row["good"] == good and row["grade"] == grade for row in rows) for grade in GRADES}
            for kind, good in (("right", True), ("false", False))
        }
    return {"settings": _looked_at(reported()), "counts": counts}


def verdict_lines(found: dict[str, Any]) -> Iterator[str]:
    """Tables of both."""
    yield "| setting | measured | truth of these pairs | is | verdict |"
    yield "|---|--:|--:|---|---|"
    for row in found["settings"]:
        said = "right" if row["good"] else "false"
        yield f"| {row['name']} | {plus_minus(row['mean'])} | {row['truth']:.3f} | {said} | {row['verdict']} |"
    yield ""
    yield "| settings | are | trust | with caution | don't |"
    yield "|---|---|--:|--:|--:|"
    for name, kinds in found["counts"].items():
        for kind, grades in kinds.items():
            yield f"| {name} | {kind} | {' | '.join(str(grades[grade]) for grade in GRADES)} |"


def posteriors(pairs: int, bold: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Calibrated posteriors of ten candidates that are right in four of five, made bold; and true candidates, `(N, 10)`, `(N,)`."""
    logits = 2.2 * torch.randn(pairs, 10, generator=generator, dtype=torch.float64)
    logits[torch.arange(pairs), torch.randint(10, (pairs,), generator=generator)] += 6.0
    truth = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return torch.log_softmax(bold * logits, 1), truth


def three_errors(log_q: Tensor, truth: Tensor) -> bool:
    """The test that was used before: more than three standard errors over pairs."""
    off, error = Reliability.of(log_q, truth).claimed
    return abs(off) > 3 * error


def by_its_law(log_q: Tensor, truth: Tensor) -> bool:
    """The test that is used: by the law that a calibrated posterior has."""
    return Reliability.of(log_q, truth).chance <= LEVEL


def power() -> dict[str, Any]:
    """How often either test finds posteriors that are bold, by how much and in how many pairs."""
    tests: dict[str, Callable[[Tensor, Tensor], bool]] = {"3 standard errors": three_errors, "its own law": by_its_law}
    rows: list[dict[str, Any]] = []
    for bold in BOLD:
        generator = torch.Generator().manual_seed(int(1000 * bold))
        log_q, truth = posteriors(20_000, bold, generator)
        claimed = Reliability.of(log_q, truth).claimed
        for name, test in tests.items():
            found = {
                str(pairs): sum(test(*posteriors(pairs, bold, generator)) for _ in range(REPEATS)) / REPEATS
                for pairs in COUNTS
            }
            rows.append({"bold": bold, "claimed": claimed, "test": name, "found": found})
    return {"rows": rows, "right": float((log_q.argmax(1) == truth).double().mean())}


def power_lines(found: dict[str, Any]) -> Iterator[str]:
    """A row for each test and boldness."""
    yield f"| logits times | claims too much, nats | test | {' | '.join(f'{count} pairs' for count in COUNTS)} |"
    yield "|--:|--:|---|" + "--:|" * len(COUNTS)
    for row in found["rows"]:
        cells = " | ".join(f"{row['found'][str(count)]:.0%}" for count in COUNTS)
        yield f"| {row['bold']:g} | {row['claimed'][0]:.3f} | {row['test']} | {cells} |"
    yield f"(said in a record only if it is {SAID:.0%} of the ceiling or more; the posteriors are right in {found['right']:.0%})"
