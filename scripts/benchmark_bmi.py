"""The 40 tasks of the Beyond-Normal benchmark: fit, measure, compare with the truth.

python scripts/benchmark_bmi.py                  # 100,000 pairs, 5 seeds: hours of two cores; resumes where it stopped
python scripts/benchmark_bmi.py --quick          # 20,000 pairs, one seed
python scripts/benchmark_bmi.py --task 1v1-normal-0.75 --seeds 10

The same as ``mmg-diffusers benchmark bmi``.
"""

import typer

from mmg_diffusers.commands.fronts.benchmarks import bmi

if __name__ == "__main__":
    typer.run(bmi)
