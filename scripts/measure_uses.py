"""Hold the uses of docs/uses.md against exact truths: selection, memorisation and words that predict edits; prints Markdown tables.

    python scripts/measure_uses.py                                  # all protocols: half an hour of one core
    python scripts/measure_uses.py --protocol memory                # one of them
    python scripts/measure_uses.py --protocol selection --seeds 11  # one set of pictures

Every part is written to OUTPUT as it is done, and read back the next time. No protocol's seeds are those on which its settings were chosen.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from mmg_diffusers.commands.studies.uses import PROTOCOLS, Settings, selection, study


def main(
    model: Annotated[str, typer.Option(help="Folder, id, or a model that ships.")] = "shapes-plain",
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/uses"),
    protocol: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(PROTOCOLS)}.")] = None,
    captions: Annotated[int, typer.Option(min=2, max=48, help="Of the selection.")] = 48,
    n: Annotated[int, typer.Option(min=2, help="Pictures of each caption and seed.")] = 16,
    seeds: Annotated[list[int] | None, typer.Option(help="Of the selection's pictures.")] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Of drawing.")] = 1.0,
) -> None:
    """Run what is missing in OUTPUT, then print the tables."""
    torch.set_num_threads(1)
    chosen = selection.Settings(
        captions=captions, n=n, seeds=tuple(seeds or selection.Settings().seeds), guidance=guidance
    )
    study(model, Settings(chosen), tuple(protocol or ()), output)


if __name__ == "__main__":
    typer.run(main)
