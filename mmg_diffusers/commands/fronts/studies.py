"""`influence`, `maps` and `switch`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer, place
from mmg_diffusers.commands.networks import Measuring, StudyNetworks
from mmg_diffusers.commands.options import (
    Axis,
    Beside,
    Guidance,
    MarginalOption,
    Marginals,
    Output,
    Overwrite,
    Pairs,
    Prompt,
    Prompts,
    ReplaceBy,
    RuleName,
    SamplingSteps,
    Source,
    Steps,
    Tolerated,
)

Words = Annotated[
    list[str] | None, typer.Option("--word", help="A word, or its place such as @2; of Shapes captions also its kind.")
]


def influence(
    networks: StudyNetworks,
    how: Measuring,
    source: Source = "shapes",
    beside: Beside = None,
    prompt: Prompts = None,
    word: Words = None,
    replace_by: ReplaceBy = None,
    marginal: Marginals = None,
    read: Annotated[
        list[str] | None, typer.Option(help="Of the null prompt: gap, orthogonal (MINDE-C), auto, C(1).")
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="Draw the images with the model.")] = False,
    guidance: Guidance = 1.0,
    sampling_steps: SamplingSteps = 50,
    pairs: Pairs = 64,
    rule: Annotated[RuleName, typer.Option(help="On the model's own levels, with the null prompt.")] = "trapezoid",
    steps: Steps = None,
    tolerance: Tolerated = None,
    axis: Axis = "tau",
    at: Annotated[list[float] | None, typer.Option(help="Diffusion times, 0 to 1, to print the influence at.")] = None,
    each: Annotated[int, typer.Option(min=0, help="Images that get a figure of their own.")] = 0,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """What a prompt, or each of its words, still adds at each noise level: influence.csv, .json and .png.

    Models, prompts, words and marginals that are named several times are compared in one figure.
    """
    models = (networks, *(replace(networks, model=name) for name in beside or ()))
    for one in models:
        one.check(source)
    makes = ("influence.csv", "influence.json", "pairs.safetensors", "influence.png")
    folder = place(output, "runs/influence", makes, overwrite)
    from mmg_diffusers.commands.studies import influence as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    single = max(len(models), len(prompt or [""]), len(word or [""])) == 1
    return work.study(
        work.Question(
            models,
            source,
            tuple(prompt or [None]),
            tuple(word or [None]),
            tuple(marginal or (["null", "shapes"] if source == "shapes" and prompt is None else ["null"])),
            tuple(read or (["gap", "orthogonal", "C(1)"] if single else ["auto"])),
            replace_by,
            pairs,
        ),
        StudySettings(how, rule, steps, tolerance),
        work.Drawing(sampling_steps, guidance) if generated else None,
        work.Shown(tuple(at or ()), axis, each),
        folder,
    )


def maps(
    networks: StudyNetworks,
    how: Measuring,
    source: Source = "shapes",
    prompt: Prompt = None,
    word: Words = None,
    together: Annotated[
        list[str] | None, typer.Option(help="Two words, such as red,circle: what they share. Needs candidates.")
    ] = None,
    whole: Annotated[bool, typer.Option(help="Maps of whole prompts.")] = True,
    gap: Annotated[bool, typer.Option(help="Gap maps, signed, beside the orthogonal ones.")] = True,
    replace_by: ReplaceBy = None,
    marginal: MarginalOption = None,
    band: Annotated[list[str] | None, typer.Option(help="Of log-SNR, such as -1:3.")] = None,
    pairs: Pairs = 6,
    steps: Steps = None,
    tolerance: Tolerated = None,
    shown: Annotated[int, typer.Option(min=1, help="Images in the figure.")] = 6,
    npz: Annotated[bool, typer.Option("--npz", help="Write maps.npz as well.")] = False,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Where in an image a prompt speaks, and each of its words: maps.safetensors, .json and .png.

    Maps are in nats per pixel, and their sum is the image's value. Orthogonal maps are nowhere negative, gap maps are signed.
    """
    networks.check(source)
    makes = ("maps.safetensors", "maps.json", "maps.npz", "maps.png")
    folder = place(output, "runs/maps", makes, overwrite)
    from mmg_diffusers.commands.studies import maps as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    return work.study(
        work.Question(
            source,
            prompt,
            tuple(word or ()),
            tuple(together or ()),
            whole,
            gap,
            marginal,
            replace_by,
            tuple(band or ()),
            pairs,
        ),
        StudySettings(how, steps=steps, tolerance=tolerance),
        networks,
        folder,
        shown=shown,
        npz=npz,
    )


def switch(
    networks: StudyNetworks,
    how: Measuring,
    first: Annotated[str, typer.Option(help="Prompt before the switch.")] = "a large red circle on the left",
    second: Annotated[str, typer.Option(help="Prompt after it.")] = "a large blue circle on the right",
    marginal: Annotated[
        str | None, typer.Option(help="What pictures are read as: a file of candidates, or shapes; the two by default.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images at each switching time.")] = 32,
    sampling_steps: SamplingSteps = 50,
    guidance: Guidance = 1.0,
    times: Annotated[int, typer.Option(min=2, help="Switching times, even in tau, both ends among them.")] = 11,
    tau: Annotated[list[float] | None, typer.Option(help="Further switching times, 0 to 1.")] = None,
    axis: Axis = "tau",
    shown: Annotated[int, typer.Option(min=1, help="Pictures of each time in the figure.")] = 4,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Draw with one prompt until tau, with another after it: which one does the picture follow?"""
    networks.check()
    folder = place(output, "runs/switch", ("switching.json", "switching.safetensors", "switching.png"), overwrite)
    from mmg_diffusers.commands.studies import switching as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    taus = (*(k / (times - 1) for k in range(times)), *(tau or ()))
    return work.study(
        work.Question(first, second, marginal, count, sampling_steps, guidance, taus),
        StudySettings(how),
        networks,
        folder,
        axis=axis,
        shown=shown,
    )
