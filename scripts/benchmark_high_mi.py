"""Tasks of 9.9 to 14.5 nats in 3 to 50 dimensions: plain, half-cube and spiral.

python scripts/benchmark_high_mi.py              # 100,000 pairs, 3 seeds; resumes where it stopped
python scripts/benchmark_high_mi.py --quick      # 20,000 pairs, one seed
"""

import typer

from mmg_diffusers.commands.studies.benchmarks import command
from mmg_diffusers.worlds.tasks import high_mi_tasks

if __name__ == "__main__":
    typer.run(command(high_mi_tasks, "high-mi", 3))
