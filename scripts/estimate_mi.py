"""Mutual information of a whole data set, on one process or many; resumes where it stopped.

    python scripts/estimate_mi.py shapes pairs.csv --output runs/pairs
    torchrun --nproc_per_node 2 scripts/estimate_mi.py shapes pairs.csv --output runs/pairs
    accelerate launch scripts/estimate_mi.py shapes pairs.csv --output runs/pairs     # one process a GPU

The same as ``mmg-diffusers run``.
"""

import typer

from mmg_diffusers.commands.console import with_messages
from mmg_diffusers.commands.fronts.running import run

if __name__ == "__main__":
    typer.run(with_messages(run))
