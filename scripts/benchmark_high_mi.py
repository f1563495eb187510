"""Tasks of 9.9 to 14.5 nats in 3 to 50 dimensions: plain, half-cube and spiral.

python scripts/benchmark_high_mi.py              # 100,000 pairs, 3 seeds; resumes where it stopped
python scripts/benchmark_high_mi.py --quick      # 20,000 pairs, one seed

The same as ``mmg-diffusers benchmark high-mi``.
"""

import typer

from mmg_diffusers.commands.fronts.benchmarks import high_mi

if __name__ == "__main__":
    typer.run(high_mi)
