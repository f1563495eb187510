"""Measure what the analyses say about the shipped model against the exact world of Shapes (soft); prints a Markdown table.

    python scripts/measure_analyses.py                                 # 256 fresh pairs: hours of one core
    python scripts/measure_analyses.py --pairs 8 --few 4 --draws 1     # a look, in some minutes
    python scripts/measure_analyses.py --stage maps --stage null       # some stages, e.g. to run two at a time

Every stage, and every part of 64 pairs within it, is written to OUTPUT as it is done, and read back the next time.
"""

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import LEVELS, ModelOption
from mmg_diffusers.commands.studies.analyses import STAGES, Settings, study


def main(
    model: ModelOption = None,
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/analyses"),
    pairs: Annotated[int, typer.Option(min=2, help="Fresh pairs.")] = 256,
    few: Annotated[int, typer.Option(min=2, help="Pairs for pruning, steps and the clean end.")] = 32,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the candidates' noise path.")] = 30,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 6.0,
    draws: Annotated[int, typer.Option(min=1, help="Paths per pair for the final posterior.")] = 8,
    map_draws: Annotated[int, typer.Option(min=1, help="Paths per pair for maps.")] = 4,
    prune: Annotated[float, typer.Option(help="Captions below this posterior are not followed further.")] = 1e-4,
    null_levels: Annotated[
        int, typer.Option(min=3, help="Noise levels with the null prompt, each with noise of both signs.")
    ] = LEVELS,
    switched: Annotated[int, typer.Option(min=2, help="Images at each switching time.")] = 32,
    sampling_steps: Annotated[int, typer.Option(min=1, help="Of switched images.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the pairs.")] = 3003,
    stage: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(STAGES)}.")] = None,
) -> None:
    """Run the stages that are missing in OUTPUT, then print the table of those that are there."""
    settings = Settings(pairs, few, steps, high, draws, map_draws, prune, null_levels, switched, sampling_steps, seed)
    study(model, settings, tuple(stage or ()), output)


if __name__ == "__main__":
    typer.run(main)
