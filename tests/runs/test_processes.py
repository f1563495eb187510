"""Processes of one launch leave their group before Python ends, where its threads could abort them."""

import subprocess
import sys

CODE = """
import atexit, socket
import torch.distributed as dist
from mmg_diffusers.runs.processes import leave_at_exit
{first}
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{{port}}", rank=0, world_size=1)
"""


def at_the_end(leaves):
    """Whether a process is still in its group when Python ends, which what was registered first finds."""
    first = "atexit.register(lambda: print(dist.is_initialized()))\n" + ("leave_at_exit()\n" * 2 if leaves else "")
    done = subprocess.run([sys.executable, "-c", CODE.format(first=first)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_leaves_its_group():
    assert at_the_end(leaves=False) == "True"
    assert at_the_end(leaves=True) == "False"
