"""Self-consistency of estimates on pictures: baseline, data processing and additivity, for growing parts of a picture.

    python scripts/self_consistency.py --data folder          # MNIST: idx files, parquet, pictures, or an id on the hub
    python scripts/self_consistency.py --world shapes         # captions of Shapes pictures, whose information is known
    python scripts/self_consistency.py --data folder --quick  # some twenty minutes of one core
    accelerate launch scripts/self_consistency.py ...         # the full setting is for a GPU, or several

Trains a network for one picture and another for pairs of pictures, measures held-out ones, and writes table.csv, table.md
and figure.png. The same command goes on where it stopped. `mmg_diffusers.commands.studies.consistency` says what is measured.

The same as ``mmg-diffusers benchmark consistency``.
"""

import typer

from mmg_diffusers.commands.fronts.benchmarks import consistency

if __name__ == "__main__":
    typer.run(consistency)
