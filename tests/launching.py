"""Several processes of one command, as a user starts them."""

import os
import subprocess
import sys


def torchrun(processes: int, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """What came of the command, which must succeed; `accelerate launch --cpu` starts one process, whatever it is told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done
