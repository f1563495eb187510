"""`words` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import (
    LEVELS,
    Batch,
    Device,
    Draws,
    Dtype,
    High,
    Levels,
    Model,
    ModelOption,
    NullLevels,
    Output,
    Pairs,
    Prompt,
    Quiet,
    ReplaceBy,
    Resize,
    Revision,
    Seed,
    Source,
    Steps,
    StudyMarginal,
    Variant,
)


def words(
    source: Source = "shapes",
    model: ModelOption = None,
    prompt: Prompt = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="A word, or its place such as @2; of Shapes captions also its kind. All by default."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="A word and what else could stand in its place, such as red=blue,green: makes candidates of each prompt."
        ),
    ] = None,
    replace_by: ReplaceBy = None,
    marginal: StudyMarginal = None,
    together: Annotated[
        bool, typer.Option(help="Every two words as well: their interaction, and what they share.")
    ] = True,
    pairs: Pairs = 64,
    levels: NullLevels = LEVELS,
    steps: Steps = None,
    high: High = None,
    draws: Draws = 1,
    seed: Seed = 8008,
    output: Output = Path("runs/words"),
) -> None:
    """What each word of a prompt says about the image, given the rest: words.csv, .json, .html (text and maps), .png and the record."""
    from mmg_diffusers.commands.studies import words as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    work.study(
        work.Question(
            source, prompt, model, tuple(word or ()), replace_by, marginal, tuple(vary or ()), together, pairs
        ),
        StudySettings(levels, steps=steps, high=high, draws=draws, seed=seed),
        output,
    )


def compare(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder, or a table of pairs.")],
    b: Annotated[
        str, typer.Option("--b", help="The other caption of all images; or a .txt file, one a line, one for each.")
    ],
    a: Annotated[
        str | None, typer.Option("--a", help="One caption, alike; by default each image's own, of the table.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for pairs.csv, maps.png and the record.")] = Path("runs/compare"),
    levels: Levels = None,
    draws: Draws = 2,
    seed: Seed = 0,
    resize: Resize = False,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    quiet: Quiet = False,
) -> None:
    """Which of two captions fits each image better, by how many nats, where in it, and from which noise level on."""
    from mmg_diffusers.commands import comparing
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    comparing.compare(
        comparing.Question(source, a, b),
        Plan(levels=levels, draws=draws, seed=seed, batch_size=batch_size, resize=resize),
        Networks(model, device, dtype, variant, revision, quiet),
        output,
    )  # fmt: skip
