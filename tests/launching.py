"""Several processes of one command, as a user starts them."""

import os
import subprocess

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
