"""Runs that are killed with SIGKILL at random moments, resumed, and compared with an undisturbed one.

Every run is the command that users call, on a Stable Diffusion folder with tiny random networks. It is killed after a random
number of shards and a random part of the time that one takes. In one process the command is killed; in two, the whole launch
or one of its workers, by turns of a coin. What is done is kept in the output folder, and is not done again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from PIL import Image
from tqdm import tqdm

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.studies.benchmarks.launch import python
from mmg_diffusers.commands.studies.benchmarks.tiny import SIZE, write_tiny_model
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.runs.shards import CHUNK, Outcome
from mmg_diffusers.worlds.shapes import CAPTIONS

RESULTS = ("estimate.safetensors", "pairs.parquet")


@dataclass(frozen=True)
class Bench:
    """The model, the pairs, and how they are measured."""

    model: Path
    table: Path
    pairs: int
    levels: int

    @classmethod
    def make(cls, folder: Path, pairs: int, levels: int, seed: int) -> Bench:
        bench = cls(folder / "model", folder / "pairs" / "pairs.csv", pairs, levels)
        if not bench.table.exists():
            write_tiny_model(bench.model, seed)
            bench.table.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 256, (pairs, SIZE, SIZE, 3), dtype=np.uint8)
            for k, picture in enumerate(pixels):
                Image.fromarray(picture).save(bench.table.parent / f"{k:05d}.png")
            texts = [CAPTIONS[k % len(CAPTIONS)] for k in range(pairs)]
            rows = [f"{k:05d}.png,{text}\n" for k, text in enumerate(texts)]
            write_whole(bench.table, "".join(["file_name,text\n", *rows]).encode())
        return bench

    def start(self, output: Path, processes: int) -> subprocess.Popen[bytes]:
        """The command, in a process group of its own."""
        command = [*python(processes), "-m", "mmg_diffusers", "run"]
        command += [str(self.model), str(self.table), "--output", str(output)]
        command += ["--levels", str(self.levels), "--quiet"]
        with output.with_suffix(".log").open("ab") as log:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            return subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)

    def finish(self, output: Path, processes: int) -> None:
        """Run until it is done."""
        process = self.start(output, processes)
        if process.wait() != 0:
            raise RuntimeError(
                f"the run in {output} failed: {output.with_suffix('.log').read_text('utf-8', 'replace')[-2000:]}"
            )


@dataclass(frozen=True)
class Killed:
    """What became of one run.

    `alive` tells whether it was still at work when the moment came. `shards` were there then, of `all_shards`; `worker`
    tells whether only one worker was killed. `kept` shards were not written again; `identical` compares the files of the
    results byte by byte.
    """

    processes: int
    number: int
    alive: bool
    shards: int
    all_shards: int
    worker: bool
    kept: int
    identical: bool
    lost: int
    twice: int

    @property
    def in_the_middle(self) -> bool:
        """Whether the kill hit the work itself, and neither its start nor its end."""
        return self.alive and 0 < self.shards < self.all_shards


def stamps(output: Path) -> dict[str, int]:
    """Shards that are there, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (output / "shards").glob("*.shard")}


def workers(launch: int) -> list[int]:
    """Processes below the launcher that do the measuring."""
    children = [
        child for child in psutil.Process(launch).children(recursive=True) if "mmg_diffusers" in child.cmdline()
    ]
    return [child.pid for child in children]


def kill(process: subprocess.Popen[bytes], worker: bool, draw: random.Random) -> bool:
    """Kill all, or a worker, on which the launcher has to end the rest; whether it was a worker."""
    measuring = sorted(workers(process.pid))
    if worker and measuring:
        os.kill(draw.choice(measuring), signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        for one in measuring:  # the launcher gives each a process group of its own
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    process.wait()
    return worker and bool(measuring)


def disturb(bench: Bench, output: Path, processes: int, number: int, pace: float, truth: Path, seed: int) -> Killed:
    """Kill one run, resume it, and compare it."""
    draw = random.Random(f"{seed} {processes} {number}")
    all_shards = -(-bench.pairs // CHUNK)
    after, late, worker = draw.randrange(all_shards), draw.random() * pace, draw.random() < 0.5 and processes > 1
    shutil.rmtree(output, ignore_errors=True)
    process = bench.start(output, processes)
    while process.poll() is None and (len(stamps(output)) < after or not (output / "settings.json").exists()):
        time.sleep(0.002)
    time.sleep(late)
    alive = process.poll() is None
    worker = alive and kill(process, worker, draw)
    before = stamps(output)
    bench.finish(output, processes)
    now = stamps(output)
    needs("pyarrow", "data")
    from pyarrow import parquet

    outcome = Outcome.load(output)
    seen = parquet.read_table(output / "pairs.parquet")["pair"].to_pylist()
    ids = [] if outcome.estimate is None else outcome.estimate.pair_ids.tolist()
    same = all((output / name).read_bytes() == (truth / name).read_bytes() for name in RESULTS)
    return Killed(
        processes,
        number,
        alive,
        len(before),
        all_shards,
        worker,
        sum(now.get(name) == stamp for name, stamp in before.items()),
        same,
        bench.pairs - len(set(seen) & set(ids)),
        max(len(seen) - len(set(seen)), len(ids) - len(set(ids))),
    )


def table_of(killed: list[Killed]) -> str:
    """A row for each number of processes."""
    lines = [
        "| processes | runs killed | with shards partly there | of these, one worker only | identical, bit for bit "
        "| pairs lost | counted twice | finished shards measured again |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for processes in sorted({run.processes for run in killed}):
        runs = [run for run in killed if run.processes == processes]
        middle = [run for run in runs if run.in_the_middle]
        cells = (
            processes,
            sum(run.alive for run in runs),
            len(middle),
            sum(run.worker for run in middle),
            sum(run.identical for run in runs),
            sum(run.lost for run in runs),
            sum(run.twice for run in runs),
            sum(run.shards - run.kept for run in runs),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/kill_and_resume"),
    runs: Annotated[int, typer.Option(min=1, help="Runs for each number of processes.")] = 25,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of a run.")] = 512,
    levels: Annotated[int, typer.Option(min=2, help="Noise levels.")] = 16,
    processes: Annotated[list[int] | None, typer.Option(help="Numbers of processes; 1 and 2.")] = None,
    seed: Annotated[int, typer.Option(help="Names the pairs and the moments.")] = 0,
) -> None:
    """Kill, resume, compare; prints a Markdown table."""
    bench = Bench.make(output, pairs, levels, seed)
    truth = output / "undisturbed"
    if not (truth / RESULTS[1]).exists():
        bench.finish(truth, 1)
    written = sorted(stamps(truth).values())
    pace = (written[-1] - written[0]) / 1e9 / max(1, len(written) - 1)
    killed: list[Killed] = []
    plan = [(count, number) for count in processes or [1, 2] for number in range(runs)]
    for count, number in tqdm(plan, desc="runs", unit="run"):
        name = f"{count}-{number:02d}"
        record = output / f"{name}.json"
        if not record.exists():
            done = disturb(bench, output / name, count, number, pace, truth, seed)
            write_whole(record, json.dumps(asdict(done), indent=1).encode())
            shutil.rmtree(output / name)
            (output / f"{name}.log").unlink()
        killed.append(Killed(**json.loads(record.read_text("utf-8"))))
    table = table_of(killed)
    write_whole(output / "table.md", (table + "\n").encode())
    print(table)
