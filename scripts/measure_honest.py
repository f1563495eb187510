"""Measure how far numbers can be believed, on settings whose truth is known in closed form; prints Markdown tables.

    python scripts/measure_honest.py                        # some minutes of one core
    python scripts/measure_honest.py --stage verdict        # one stage
    python scripts/measure_honest.py --stage fitted         # marginals fitted to six worlds, ten minutes of one core
    python scripts/measure_honest.py --stage digits --digits FOLDER    # candidates of two networks of MNIST's test digits

Every stage is written to OUTPUT as it is done, and read back the next time.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from mmg_diffusers.commands.studies.honest import STAGES, study


def main(
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/honest"),
    stage: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(STAGES)}, fitted, digits.")] = None,
    digits: Annotated[Path | None, typer.Option(help="Folder with MNIST's own files, for the stage of digits.")] = None,
) -> None:
    """Run the stages that are missing in OUTPUT, then print their tables."""
    torch.set_num_threads(1)
    study(tuple(stage or ()), output, digits)


if __name__ == "__main__":
    typer.run(main)
