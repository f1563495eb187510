"""Several processes of one command, as a user starts them."""

import multiprocessing
import os
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch.distributed
from accelerate.state import AcceleratorState

from mmg_diffusers.commands.entry import main
from mmg_diffusers.commands.studies.benchmarks.launch import python


def torchrun(processes: int, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """What came of the command, which must succeed."""
    done = subprocess.run(
        [*python(processes), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def forked(processes: int, folder: Path, *arguments: object) -> str:
    """What a command printed, which must succeed in several forks of this process: they find each other as those of `torchrun`
    do, and import nothing anew."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks = multiprocessing.get_context("fork")
    said = [folder / f"said-{rank}.txt" for rank in range(processes)]
    started = [
        forks.Process(target=_main, args=([*map(str, arguments)], rank, processes, port, said[rank]))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0] * processes, said[0].read_text("utf-8")[-2000:]
    return "".join(path.read_text("utf-8") for path in said)


def _main(arguments: list[str], rank: int, world: int, port: int, said: Path) -> None:
    launch = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in launch.items()}, MASTER_ADDR="127.0.0.1")
    AcceleratorState._reset_state(reset_partial_state=True)  # of the process that was forked, which is alone
    sys.argv = ["mmg-diffusers", *arguments]
    with said.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            main()
        finally:
            torch.distributed.destroy_process_group()
