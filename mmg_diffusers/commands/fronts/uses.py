"""`words` and `compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer, place
from mmg_diffusers.commands.networks import Comparing, Measuring, Networks, StudyNetworks
from mmg_diffusers.commands.options import (
    MarginalOption,
    Output,
    Overwrite,
    Pairs,
    PairsSource,
    Prompt,
    ReplaceBy,
    Source,
    Steps,
    Tolerated,
)


def words(
    networks: StudyNetworks,
    how: Measuring,
    source: Source = "shapes",
    prompt: Prompt = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="A word, or its place such as @2; of Shapes captions also its kind. All by default."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="A word, or its place such as @2, and what else could stand there, such as red=blue,green: makes candidates of each prompt."
        ),
    ] = None,
    replace_by: ReplaceBy = None,
    marginal: MarginalOption = None,
    together: Annotated[
        bool, typer.Option(help="Every two words as well: their interaction, and what they share.")
    ] = True,
    pairs: Pairs = 64,
    steps: Steps = None,
    tolerance: Tolerated = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """What each word of a prompt says about the image, given the rest: words.csv, .json, .html (text and maps), .png and the record."""
    networks.check(source)
    makes = tuple(f"words.{ending}" for ending in ("csv", "json", "html", "safetensors", "png"))
    folder = place(output, "runs/words", makes, overwrite)
    from mmg_diffusers.commands.studies import words as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    return work.study(
        work.Question(source, prompt, tuple(word or ()), replace_by, marginal, tuple(vary or ()), together, pairs),
        StudySettings(how, steps=steps, tolerance=tolerance),
        networks,
        folder,
    )


def compare(
    networks: Networks,
    source: PairsSource,
    how: Comparing,
    b: Annotated[
        str, typer.Option("--b", help="The other caption of all images; or a .txt file, one a line, one for each.")
    ],
    a: Annotated[
        str | None, typer.Option("--a", help="One caption, alike; by default each image's own, of the table.")
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Which of two captions fits each image better, by how many nats, where in it, and from which noise level on."""
    networks.check(source)
    folder = place(output, "runs/compare", ("pairs.csv", "maps.png", "comparison.safetensors"), overwrite)
    from mmg_diffusers.commands import comparing

    return comparing.compare(comparing.Question(source, a, b), how.plan(), networks, folder, high=how.high)
