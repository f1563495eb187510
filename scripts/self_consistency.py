"""Self-consistency of estimates on pictures: baseline, data processing and additivity, for growing parts of a picture.

    python scripts/self_consistency.py --data folder          # MNIST: idx files, parquet, pictures, or an id on the hub
    python scripts/self_consistency.py --world shapes         # captions of Shapes pictures, whose information is known
    python scripts/self_consistency.py --data folder --quick  # some twenty minutes of one core
    accelerate launch scripts/self_consistency.py ...         # the full setting is for a GPU, or several

Trains a network for one picture and another for pairs of pictures, measures held-out ones, and writes table.csv, table.md
and figure.png. The same command goes on where it stopped. `mmg_diffusers.commands.studies.consistency` says what is measured.
"""

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.arrays.image_data import read_images
from mmg_diffusers.commands.studies.consistency import Digits, ShapesRows, run, write


class WorldName(str, Enum):
    """Which pairs."""

    DIGITS = "digits"
    SHAPES = "shapes"


def main(
    world: Annotated[WorldName, typer.Option(help="What A is: a picture of a data set, or a Shapes caption.")] = (
        WorldName.DIGITS
    ),
    data: Annotated[
        str, typer.Option(help="Pictures: a folder, a parquet file, or an id on the hub.")
    ] = "ylecun/mnist",
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; by default runs/consistency-WORLD[-quick].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small network, few steps, few pairs.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings; 3 by default, 1 with --quick.")] = None,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    shift: Annotated[int, typer.Option(min=0, help="Greatest random shift of a picture, in pixels.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each training.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples a step and process.")] = None,
    held_out: Annotated[int | None, typer.Option(min=4, help="Pairs to measure.")] = None,
    watched: Annotated[int | None, typer.Option(min=1, help="Other pairs, by which the training is watched.")] = None,
    nodes: Annotated[int | None, typer.Option(min=2, help="Noise levels.")] = None,
) -> None:
    """Run what is missing in OUTPUT, then write the table and the figure there."""
    chosen = ShapesRows() if world is WorldName.SHAPES else Digits(read_images(data).images, shift=shift)
    plan = chosen.plan(quick)
    changes = {"steps": steps, "batch": batch}
    train = replace(plan.train, **{name: value for name, value in changes.items() if value is not None})
    changes = {"held_out": held_out, "watched": watched, "nodes": nodes}
    plan = replace(plan, train=train, **{name: value for name, value in changes.items() if value is not None})
    folder = output or Path(f"runs/consistency-{chosen.name}{'-quick' if quick else ''}")
    readings = run(chosen, plan, range(first_seed, first_seed + (seeds or (1 if quick else 3))), folder)
    if readings is not None:
        print(write(chosen, plan, readings, folder))


if __name__ == "__main__":
    typer.run(main)
