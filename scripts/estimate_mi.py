"""Mutual information of a whole data set, on one process or many; resumes where it stopped.

    python scripts/estimate_mi.py shapes pairs.csv --output runs/pairs
    accelerate launch --num_processes 2 scripts/estimate_mi.py shapes pairs.csv --output runs/pairs

The same as ``mmg-diffusers run``.
"""

import typer

from mmg_diffusers.cli import run

if __name__ == "__main__":
    typer.run(run)
