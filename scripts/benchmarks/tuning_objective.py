"""What tuning with the likelihood's objective gains on an exact mixture, beside the same number of steps of the old loss.

    python scripts/benchmarks/tuning_objective.py                         # two Markdown tables; a mixture in 8 dimensions
    python scripts/benchmarks/tuning_objective.py --task ising-8-8-0.4 --steps 1500 --count 400   # spins, on their hull

Three training seeds, all networks measured on the same fresh x at the same noise; differences are paired.
"""

import typer

from mmg_diffusers.commands.studies.benchmarks.tuning import main

if __name__ == "__main__":
    typer.run(main)
