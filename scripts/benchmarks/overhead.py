"""What the pipeline costs beside the network: evaluations per second through it over those of the bare network.

    python scripts/benchmarks/overhead.py    # on a GPU a UNet of Stable Diffusion 1.5's size in float16, else a smaller one

Weights are random. The two take turns at the same batch and dtype, and medians are printed, as other work may run on the machine;
on a CPU the time is the process's. Loading and encoding are printed apart, and are in no rate.
"""

import typer

from mmg_diffusers.commands.studies.benchmarks.overhead import main

if __name__ == "__main__":
    typer.run(main)
