"""Two arrays of few and of many pairs: what `estimate_mi` finds at its default settings, beside cheap readings and the truth.

python scripts/benchmark_everyday.py                                       # all everyday tasks, 10,000 pairs, seed 101
python scripts/benchmark_everyday.py --task wave-20-0.3 --seeds 5
python scripts/benchmark_everyday.py --family bmi --pairs 500 --pairs 1000 --output runs/few.csv    # resumes where it stopped
python scripts/benchmark_everyday.py --family bmi --pairs 100000 --test 10000    # fitted to all of them, measured on others
python scripts/benchmark_everyday.py --family bmi --pairs 500 --no-fit    # nearest neighbours and the Gaussian part alone
"""

import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from mmg_diffusers import Estimate, estimate_mi
from mmg_diffusers.arrays.floors import gaussian, nearest_neighbours, normal_scores, read
from mmg_diffusers.arrays.judging import unseen_of
from mmg_diffusers.commands.console import with_messages
from mmg_diffusers.commands.studies.benchmarks.rows import append_row, read_rows
from mmg_diffusers.worlds.tasks import Task, bmi_tasks, everyday_tasks, get_task, second_tasks

FIELDS: tuple[str, ...] = (
    "task",
    "pairs",
    "seed",
    "truth",
    "found",
    "stderr",
    "parts",
    "neighbours",
    "gaussian",
    "seconds",
    "said",
)
NUMBERS = [name for name in FIELDS if name not in ("task", "parts", "said")]
# Nearest neighbours in more dimensions are looked for in this many pairs at most.
SOME, NEAR = 4000, 10
# The share of few pairs that each of five folds is fitted to.
FITTED = 0.68


def measure(task: Task, pairs: int, seed: int, fit: bool = True, test: int = 0) -> dict[str, Any]:
    """One row: what was found, the parts of its error, nearest neighbours, the Gaussian part, seconds of one core, what was said.

    With pairs to measure beside them the two come from streams of their own, as in ``mmg-diffusers benchmark bmi``.
    """
    x, y = task.sample(pairs, 2 * seed if test else seed)
    others = task.sample(test, 2 * seed + 1) if test else None
    row: dict[str, Any] = {"task": task.key, "pairs": pairs, "seed": seed, "truth": task.mi_nats}
    began = time.process_time()
    row |= _found(x, y, seed, others) if fit else _nothing(_told(x, y, seed))
    row["seconds"] = time.process_time() - began
    rng = np.random.default_rng([seed, 4])  # not the numbers that the pairs were drawn with
    left, right = (normal_scores(values.astype(float), rng) for values in (x, y))
    row["gaussian"] = gaussian(left, right)[0].value
    few = slice(None) if left.shape[1] + right.shape[1] <= NEAR else slice(SOME)
    row["neighbours"] = nearest_neighbours(left[few], right[few]).value
    return row


def _found(
    x: NDArray[Any], y: NDArray[Any], seed: int, test: tuple[NDArray[Any], NDArray[Any]] | None
) -> dict[str, Any]:
    try:
        found = estimate_mi(x, y, test=test, seed=seed)
    except ValueError as error:
        return _nothing(str(error))
    value, stderr = found.mean()
    errors = found.allowance.errors if isinstance(found, Estimate) and found.allowance else {}
    parts = ", ".join(f"{name} {nats:.4f}" for name, nats in errors.items())
    return {"found": value, "stderr": stderr, "parts": parts, "said": "; ".join(found.warnings())}


def _told(x: NDArray[Any], y: NDArray[Any], seed: int) -> str:
    """What the Gaussian part alone, with all of its error, is told as where a fit learns nothing else."""
    floors = read(x, y, seed)
    if floors.gaussian is None:
        return "not fitted"
    value, stderr = floors.gaussian.value[:2]
    unseen = unseen_of(floors, x.shape[1] + y.shape[1], round(FITTED * len(x)), value, told=True)
    return (
        f"not fitted; the Gaussian part is {value:.3f} ± {math.hypot(stderr, 0.0 if unseen is None else unseen[0]):.3f}"
    )


def _nothing(said: str) -> dict[str, Any]:
    return {"found": math.nan, "stderr": math.nan, "parts": "", "said": said}


def shown(row: dict[str, Any]) -> str:
    """A row as a line of a table."""
    numbers = {name: float(row[name]) for name in NUMBERS}
    found = f"{numbers['found']:.3f} ± {numbers['stderr']:.3f}" if math.isfinite(numbers["found"]) else ""
    return (
        f"| {row['task']} | {row['pairs']} | {row['seed']} | {numbers['truth']:.3f} | {found} | {numbers['neighbours']:.3f} | "
        f"{numbers['gaussian']:.3f} | {numbers['seconds']:.0f} | {row['said']} |"
    )


def summary(rows: list[dict[str, Any]]) -> str:
    """By size: root mean square errors, and how often two standard errors hold the truth."""
    lines = [
        "| pairs | rows | found | nearest neighbours | Gaussian part | truth within two errors | s, median |",
        "|" + "--:|" * 7,
    ]
    for pairs in sorted({int(row["pairs"]) for row in rows}):
        these = [row for row in rows if int(row["pairs"]) == pairs and math.isfinite(float(row["truth"]))]
        at = {name: np.array([float(row[name]) for row in these]) for name in NUMBERS}
        seen = np.isfinite(at["found"])
        rows_seen = seen if seen.any() else ~seen
        cells = [
            f"{np.sqrt(np.square(at[name] - at['truth'])[rows_seen].mean()):.3f}"
            for name in ("found", "neighbours", "gaussian")
        ]
        cells[0] = cells[0] if seen.any() else "-"
        held = (np.abs(at["found"] - at["truth"]) <= 2 * at["stderr"])[seen]
        lines.append(
            f"| {pairs} | {len(these)} | {' | '.join(cells)} | {held.sum()} of {len(held)} | {np.median(at['seconds']):.0f} |"
        )
    return "\n".join(lines)


def main(
    task: Annotated[
        list[str] | None, typer.Option(help="A key; may be repeated. All of the family by default.")
    ] = None,
    family: Annotated[Literal["everyday", "second", "bmi"], typer.Option(help="Which tasks.")] = "everyday",
    pairs: Annotated[
        list[int] | None, typer.Option(help="To fit and to measure together; may be repeated; 10,000.")
    ] = None,
    test: Annotated[int, typer.Option(help="Others to measure, so that all pairs are fitted to.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many.")] = 1,
    first_seed: Annotated[int, typer.Option(help="The first one.")] = 101,
    fit: Annotated[bool, typer.Option(help="Fit networks; without, the readings alone.")] = True,
    output: Annotated[Path | None, typer.Option(help="CSV file; rows that it holds are not run again.")] = None,
) -> None:
    """Print one row a task, size and seed, and a summary by size."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = [] if output is None else [*read_rows(output)]
    done = {(row["task"], int(row["pairs"]), int(row["seed"])) for row in rows}
    typer.echo(
        "| task | pairs | seed | truth | found | nearest neighbours | Gaussian part | s | what was said |\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    tasks = {"everyday": everyday_tasks, "second": second_tasks, "bmi": bmi_tasks}[family]()
    keys = task or list(tasks)
    for count in pairs or [10_000]:
        for key in keys:
            for seed in range(first_seed, first_seed + seeds):
                if (key, count, seed) in done:
                    continue
                rows.append(measure(get_task(key), count, seed, fit, test))
                typer.echo(shown(rows[-1]))
                if output is not None:
                    append_row(output, FIELDS, rows[-1])
    typer.echo("\n" + summary(rows))


if __name__ == "__main__":
    typer.run(with_messages(main))
