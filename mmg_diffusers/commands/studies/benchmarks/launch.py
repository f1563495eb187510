"""How benchmarks and tests start Python: on one process of CPUs, or on several that find each other."""

from __future__ import annotations

import sys


def python(processes: int) -> list[str]:
    """The command up to the script or `-m`; ``accelerate launch --cpu`` would start one process, whatever number it is given."""
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
