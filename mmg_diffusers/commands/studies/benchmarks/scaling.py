"""What a run costs as pairs and processes become more: seconds, pairs per second, and peak memory.

Each line is a run in a process of its own, with one thread, of a Stable Diffusion folder with tiny random networks, so that what
is around the networks weighs as much as it can. Pictures are drawn as they are asked for; none is held.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mmg_diffusers import MMGPipeline
from mmg_diffusers.commands.studies.benchmarks.launch import python
from mmg_diffusers.commands.studies.benchmarks.tiny import SIZE, write_tiny_model
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.worlds.shapes import CAPTIONS

app = typer.Typer()


class Pictures:
    """Pairs of random pixels and captions, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for k in range(self.count):
            pixels = np.random.default_rng(k).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            yield {"image": pixels, "prompt": CAPTIONS[k % len(CAPTIONS)]}


def peak() -> int:
    """Peak resident bytes of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@app.command()
def measure(model: Path, pairs: int, levels: int, output: Path) -> None:
    """One run; the main process writes what it took. Started by `compare`."""
    torch.set_num_threads(1)
    pipe = MMGPipeline.from_pretrained(model)
    pipe.run(Pictures(33), output / "warm", levels=levels, progress=False)  # what libraries do once, in two chunks
    before, start, start_cpu = peak(), time.perf_counter(), time.process_time()
    outcome = pipe.run(Pictures(pairs), output / "run", levels=levels, progress=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    if outcome is not None:
        assert len(outcome.rows) == pairs
        assert not outcome.failures
        assert this_process().num_processes == int(os.environ.get("WORLD_SIZE", "1"))
        record = {"pairs": pairs, "seconds": seconds, "cpu_seconds": cpu}
        record |= {"peak_bytes": peak(), "peak_bytes_before": before}
        write_whole(output / "measured.json", json.dumps(record).encode())


def in_processes(model: Path, pairs: int, levels: int, processes: int) -> dict[str, float]:
    """What one run took, in as many processes."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder:
        command = [*python(processes), "-m", __name__, "measure"]
        command += [str(model), str(pairs), str(levels), folder]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"a run of {pairs} pairs in {processes} processes failed: {done.stderr[-2000:]}")
        return {"processes": processes, **json.loads((Path(folder) / "measured.json").read_text("utf-8"))}


def table_of(runs: list[dict[str, float]]) -> str:
    """A row for each run."""
    lines = [
        "| processes | pairs | seconds | pairs/s | ms of the main process's CPU/pair | peak MiB of it | since the run began |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        pairs, seconds = run["pairs"], run["seconds"]
        grown = (run["peak_bytes"] - run["peak_bytes_before"]) / 2**20
        lines.append(
            f"| {run['processes']} | {pairs:,} | {seconds:.2f} | {pairs / seconds:.1f} | {1000 * run['cpu_seconds'] / pairs:.2f} "
            f"| {run['peak_bytes'] / 2**20:.0f} | {grown:.1f} |"
        )
    return "\n".join(lines)


@app.command()
def compare(
    output: Annotated[Path, typer.Option(help="Folder for table.md and scaling.json.")] = Path("runs/scaling"),
    pairs: Annotated[list[int] | None, typer.Option(help="Numbers of pairs in one process.")] = None,
    shared: Annotated[int, typer.Option(help="Pairs that one and two processes measure.")] = 4000,
    levels: Annotated[int, typer.Option(min=2, help="Noise levels.")] = 4,
) -> None:
    """Measure, and print a Markdown table."""
    with TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder))
        plan = [(count, 1) for count in pairs or (10, 100, 1000, 10_000)] + [(shared, 1), (shared, 2)]
        runs = [in_processes(model, count, levels, processes) for count, processes in plan]
    one, two = runs[-2:]
    table = table_of(runs)
    table += f"\n\nTwo processes are {one['seconds'] / two['seconds']:.2f} times as fast as one."
    write_whole(output / "scaling.json", json.dumps({"levels": levels, "runs": runs}, indent=1).encode())
    write_whole(output / "table.md", (table + "\n").encode())
    print(table)


if __name__ == "__main__":
    app()
