"""The 40 tasks of the Beyond-Normal benchmark: fit, measure, compare with the truth.

python scripts/benchmark_bmi.py                  # 100,000 pairs, 5 seeds: hours of two cores; resumes where it stopped
python scripts/benchmark_bmi.py --quick          # 20,000 pairs, one seed
python scripts/benchmark_bmi.py --task 1v1-normal-0.75 --seeds 10
"""

import typer

from mmg_diffusers.commands.studies.benchmarks import command
from mmg_diffusers.worlds.tasks import bmi_tasks

if __name__ == "__main__":
    typer.run(command(bmi_tasks, "bmi", 5))
