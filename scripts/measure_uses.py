"""Hold the uses of docs/uses.md against exact truths: selection, memorisation, edits, guidance, binding; prints Markdown tables.

    python scripts/measure_uses.py                                  # all protocols: minutes of one free core, an hour of a crowded one
    python scripts/measure_uses.py --protocol memory                # one of them
    python scripts/measure_uses.py --protocol selection --seeds 11  # one set of pictures
    python scripts/measure_uses.py --protocol binding               # swapped captions of two objects, by pairs-flow
    python scripts/measure_uses.py --aro FOLDER --model MODEL       # ARO's own pictures, from a copy on this machine
    python scripts/measure_uses.py --quick                          # a look, in a minute, at numbers that say nothing

Every part is written to OUTPUT as it is done, and read back the next time. No protocol's seeds are those on which its settings were chosen.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from mmg_diffusers.commands.studies.uses import PROTOCOLS, Settings, study


def main(
    model: Annotated[
        str | None, typer.Option(help="Folder, id, or a model that ships; that of the protocol by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/uses"),
    protocol: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(PROTOCOLS)}.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of the selection's pictures.")] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Of drawing the selection's pictures.")] = 1.0,
    aro: Annotated[
        Path | None, typer.Option(help="A folder with files of ARO and their pictures: its protocols, and no other.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="Of each file of ARO.")] = 500,
    quick: Annotated[bool, typer.Option("--quick", help="So little that the numbers say nothing.")] = False,
) -> None:
    """Run what is missing in OUTPUT, then print the tables."""
    torch.set_num_threads(1)
    settings = Settings.quick() if quick else Settings()
    own = replace(settings.selection, seeds=tuple(seeds or settings.selection.seeds), guidance=guidance)
    settings = replace(settings, selection=own)
    if aro is not None:
        settings = replace(settings, aro=replace(settings.aro, folder=str(aro), cases=cases))
    study(model, settings, tuple(protocol or (() if aro is None else ("aro",))), output)


if __name__ == "__main__":
    typer.run(main)
