"""Estimators of other packages beside `estimate_mi`, on the same arrays, one thread each: error and seconds.

    python scripts/benchmarks/peers.py --install                       # benchmark-mi, torch-mist and diffusion-mi, into runs/peers-venv
    python scripts/benchmarks/peers.py --output runs/peers.csv         # eight tasks, 1,000 and 10,000 pairs; resumes where it stopped
    python scripts/benchmarks/peers.py --task wave-6-0.3 --peer KSG --peer ours --pairs 1000

Each estimate is a process of one thread, of which the seconds of CPU are told without imports; compilation counts, since a user waits for it. One that
takes longer than `--limit` seconds of CPU is stopped, and its row says so. A package that is not in the environment is told once, and its rows are left for another run.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from peer_estimators import ESTIMATORS

from mmg_diffusers.commands.console import with_messages
from mmg_diffusers.commands.studies.benchmarks.rows import append_row, read_rows
from mmg_diffusers.worlds.tasks import Task, get_task

# What pip is asked for, by package. benchmark-mi 0.1.3 admits versions of jax that its own equinox cannot be imported with.
PACKAGES = {
    "benchmark-mi": ("benchmark-mi", "jax==0.4.26", "jaxlib==0.4.26"),
    "torch-mist": ("torch-mist",),
    "diffusion-mi": ("diffusion-mi",),
}
OURS = "ours"
PEERS = (OURS, *ESTIMATORS)
# Five of the 40 and three of everyday's: near to Gaussian, sharp, heavy tails, wide, bent; a wave, counts of one fold, a function in noise.
TASKS = (
    "1v1-normal-0.75",
    "1v1-additive-0.1",
    "student-identity-2-2-1",
    "multinormal-dense-25-25-0.5",
    "spiral-multinormal-sparse-3-3-2-2.0",
    "wave-6-0.3",
    "fold-20-0.02",
    "exclusive-12-0.3",
)
FIELDS: tuple[str, ...] = ("peer", "task", "pairs", "seed", "truth", "found", "seconds", "said")
FAILED = "failed"
Row = dict[str, Any]


def install(folder: Path) -> None:
    """Make an environment of its own and install the peers into it, one by one: what cannot be installed is told and left out."""
    if not python_of(folder).exists():
        venv.create(folder, with_pip=True)
    for package, wanted in PACKAGES.items():
        done = subprocess.run([python_of(folder), "-m", "pip", "install", "--quiet", *wanted], check=False)
        typer.echo(f"{package}: {'installed' if done.returncode == 0 else 'not installed'}")


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    # Absolute and not resolved: what it links to is another environment's.
    return Path(os.path.abspath(folder)) / "bin" / "python"


def ours(path: Path) -> dict[str, Any]:
    """What `estimate_mi` finds at its default settings, in this process."""
    import torch

    from mmg_diffusers import estimate_mi

    torch.set_num_threads(1)
    with np.load(path, allow_pickle=False) as arrays:
        x, y, seed = arrays["x"], arrays["y"], int(arrays["seed"])
    began = time.process_time()
    found = estimate_mi(x, y, seed=seed)
    value, stderr = found.mean()
    said = f"± {stderr:.3f}{', warned' if found.warnings() else ''}"
    return {"found": value, "seconds": time.process_time() - began, "said": said}


def command_of(peer: str, path: Path, environment: Path) -> list[str]:
    """What is run for one estimate."""
    if peer == OURS:
        return [sys.executable, os.path.abspath(__file__), "--one", str(path)]
    return [str(python_of(environment)), str(Path(__file__).with_name("peer_estimators.py")), peer, str(path)]


def ask(command: list[str], limit: float) -> dict[str, Any]:
    """Run one estimate: `found`, `seconds` and `said`, or `missing`."""

    def cap() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=cap)
    if done.returncode < 0:
        return {"found": math.nan, "seconds": limit, "said": f"stopped after {limit:.0f} s"}
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"found": math.nan, "seconds": math.nan, "said": f"{FAILED}: {last[:160]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def row_of(peer: str, task: Task, pairs: int, seed: int, answer: dict[str, Any]) -> Row:
    """One row of the file."""
    row = {"peer": peer, "task": task.key, "pairs": pairs, "seed": seed, "truth": task.mi_nats, "said": ""}
    return row | {name: answer[name] for name in ("found", "seconds", "said") if name in answer}


def read(path: Path) -> list[Row]:
    """The rows of a file, numbers as numbers; none if there is no file."""
    kinds = {"pairs": int, "seed": int, "truth": float, "found": float, "seconds": float}
    return [{name: kinds.get(name, str)(value) for name, value in row.items()} for row in read_rows(path)]


def failed(row: Row) -> bool:
    """Whether a row is of an error, which is tried again; one that was stopped is not."""
    return row["said"].startswith(FAILED)


def table(rows: list[Row]) -> str:
    """Markdown: for each size a row a task, a column a peer, found and seconds; then root mean square errors."""
    lines: list[str] = []
    peers = [peer for peer in PEERS if any(row["peer"] == peer for row in rows)]
    for pairs in sorted({row["pairs"] for row in rows}):
        these = {(row["task"], row["seed"], row["peer"]): row for row in rows if row["pairs"] == pairs}
        lines += ["", f"| {pairs:,} pairs | truth | {' | '.join(peers)} |", "|---|" + "--:|" * (1 + len(peers))]
        for task, seed in dict.fromkeys((task, seed) for task, seed, _ in these):
            found = [these.get((task, seed, peer)) for peer in peers]
            truth = next(row["truth"] for row in found if row)
            lines.append(f"| {task} | {truth:.3f} | {' | '.join(cell(row) for row in found)} |")
        for name, reduce in (("root mean square error", rms), ("median seconds", middle)):
            lines.append(f"| {name} | | {' | '.join(reduce(list(these.values()), peer) for peer in peers)} |")
    return "\n".join(lines[1:])


def cell(row: Row | None) -> str:
    """Found and seconds, or what was said instead."""
    if row is None:
        return ""
    if not math.isfinite(row["found"]):
        return row["said"].split(":")[0]
    return f"{row['found']:.3f} ({row['seconds']:.0f} s)"


def rms(rows: list[Row], peer: str) -> str:
    """Of the tasks that it found a number for; how many they are is told if they are not all."""
    mine = [row for row in rows if row["peer"] == peer]
    errors = [row["found"] - row["truth"] for row in mine if math.isfinite(row["found"])]
    if not errors:
        return ""
    tasks = len({(row["task"], row["seed"]) for row in rows})
    rest = f" (of {len(errors)})" if len(errors) < tasks else ""
    return f"{math.sqrt(np.square(errors).mean()):.3f}{rest}"


def middle(rows: list[Row], peer: str) -> str:
    """Of the same."""
    seconds = [row["seconds"] for row in rows if row["peer"] == peer and math.isfinite(row["seconds"])]
    return f"{np.median(seconds):.1f}" if seconds else ""


def run(
    tasks: list[str], peers: list[str], sizes: list[int], seeds: list[int], environment: Path, limit: float, output: Path
) -> list[Row]:  # fmt: skip
    """Measure what the file lacks, and return all of its rows."""
    rows = read(output)
    done = {(row["peer"], row["task"], row["pairs"], row["seed"]) for row in rows if not failed(row)}
    rows = [row for row in rows if not failed(row)]
    missing: set[str] = set()
    for pairs, key, seed in ((n, k, s) for n in sizes for k in tasks for s in seeds):
        task = get_task(key)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.npz"
            x, y = task.sample(pairs, seed)
            np.savez(path, x=np.asarray(x, float), y=np.asarray(y, float), seed=np.array(seed))
            for peer in peers:
                package = OURS if peer == OURS else ESTIMATORS[peer][0]
                if (peer, key, pairs, seed) in done or package in missing:
                    continue
                if peer != OURS and not python_of(environment).exists():
                    answer: dict[str, Any] = {"missing": package}
                else:
                    answer = ask(command_of(peer, path, environment), limit)
                if "missing" in answer:
                    missing.add(package)
                    typer.echo(f"skipped: {package} is not in {environment}; run with --install", err=True)
                    continue
                rows.append(row_of(peer, task, pairs, seed, answer))
                append_row(output, FIELDS, rows[-1])
                typer.echo(f"{peer}, {key}, {pairs}: {cell(rows[-1])} of {task.mi_nats:.3f}", err=True)
    return rows


def main(
    task: Annotated[list[str] | None, typer.Option(help="A key; may be repeated. Eight by default.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PEERS)}; may be repeated.")] = None,
    pairs: Annotated[list[int] | None, typer.Option(help="May be repeated; 1,000 and 10,000.")] = None,
    seeds: Annotated[int, typer.Option(help="How many.")] = 1,
    first_seed: Annotated[int, typer.Option(help="The first one.")] = 601,
    limit: Annotated[float, typer.Option(help="Seconds of CPU for one estimate.")] = 300,
    environment: Annotated[Path, typer.Option("--venv", help="Where the peers are installed.")] = Path(
        "runs/peers-venv"
    ),
    output: Annotated[Path, typer.Option(help="CSV file; rows that it holds are not run again.")] = Path(
        "runs/peers.csv"
    ),
    install_first: Annotated[bool, typer.Option("--install", help="Install the peers, and end.")] = False,
    one: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print a table of every task, size and peer."""
    if one is not None:
        typer.echo(json.dumps(ours(one)))
        return
    if install_first:
        install(environment)
        return
    unknown = [name for name in peer or [] if name not in PEERS]
    if unknown:
        raise ValueError(f"there is no peer {unknown[0]!r}; expected one of {', '.join(PEERS)}")
    which = list(range(first_seed, first_seed + seeds))
    rows = run(task or list(TASKS), peer or list(PEERS), pairs or [1000, 10_000], which, environment, limit, output)
    typer.echo(table(rows))


if __name__ == "__main__":
    typer.run(with_messages(main))
