"""`influence`, `maps` and `switch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import (
    LEVELS,
    Axis,
    Draws,
    Guidance,
    High,
    ModelOption,
    Models,
    NullLevels,
    Output,
    Pairs,
    Prompt,
    Prompts,
    ReplaceBy,
    RuleName,
    SamplingSteps,
    Seed,
    Source,
    Steps,
    StudyMarginal,
    StudyMarginals,
)

Words = Annotated[
    list[str] | None, typer.Option("--word", help="A word, or its place such as @2; of Shapes captions also its kind.")
]


def influence(
    source: Source = "shapes",
    model: Models = None,
    prompt: Prompts = None,
    word: Words = None,
    replace_by: ReplaceBy = None,
    marginal: StudyMarginals = None,
    read: Annotated[
        list[str] | None, typer.Option(help="Of the null prompt: gap, orthogonal (MINDE-C), auto, C(1).")
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="Draw the images with the model.")] = False,
    guidance: Guidance = 1.0,
    sampling_steps: SamplingSteps = 100,
    pairs: Pairs = 64,
    levels: NullLevels = 33,
    rule: Annotated[RuleName, typer.Option(help="On the model's own levels, with the null prompt.")] = "trapezoid",
    steps: Steps = None,
    high: High = None,
    draws: Draws = 1,
    axis: Axis = "tau",
    at: Annotated[list[float] | None, typer.Option(help="Diffusion times, 0 to 1, to print the influence at.")] = None,
    each: Annotated[int, typer.Option(min=0, help="Images that get a figure of their own.")] = 0,
    seed: Seed = 6006,
    output: Output = Path("runs/influence"),
) -> None:
    """What a prompt, or each of its words, still adds at each noise level: influence.csv, .json and .png.

    Models, prompts, words and marginals that are named several times are compared in one figure.
    """
    from mmg_diffusers.commands.studies import influence as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    single = max(len(model or [""]), len(prompt or [""]), len(word or [""])) == 1
    work.study(
        work.Question(
            source,
            tuple(model or [None]),
            tuple(prompt or [None]),
            tuple(word or [None]),
            tuple(marginal or (["null", "shapes"] if source == "shapes" and prompt is None else ["null"])),
            tuple(read or (["gap", "orthogonal", "C(1)"] if single else ["auto"])),
            replace_by,
            pairs,
        ),
        StudySettings(levels, rule, steps, high, draws=draws, seed=seed),
        work.Drawing(sampling_steps, guidance) if generated else None,
        work.Shown(tuple(at or ()), axis, each),
        output,
    )


def maps(
    source: Source = "shapes",
    model: ModelOption = None,
    prompt: Prompt = None,
    word: Words = None,
    together: Annotated[
        list[str] | None, typer.Option(help="Two words, such as red,circle: what they share. Needs candidates.")
    ] = None,
    whole: Annotated[bool, typer.Option(help="Maps of whole prompts.")] = True,
    gap: Annotated[bool, typer.Option(help="Gap maps, signed, beside the orthogonal ones.")] = True,
    replace_by: ReplaceBy = None,
    marginal: StudyMarginal = None,
    band: Annotated[list[str] | None, typer.Option(help="Of log-SNR, such as -1:3.")] = None,
    pairs: Pairs = 6,
    levels: NullLevels = LEVELS,
    steps: Steps = None,
    high: High = None,
    draws: Draws = 1,
    shown: Annotated[int, typer.Option(min=1, help="Images in the figure.")] = 6,
    npz: Annotated[bool, typer.Option("--npz", help="Write maps.npz as well.")] = False,
    seed: Seed = 5005,
    output: Output = Path("runs/maps"),
) -> None:
    """Where in an image a prompt speaks, and each of its words: maps.safetensors, .json and .png.

    Maps are in nats per pixel, and their sum is the image's value. Orthogonal maps are nowhere negative, gap maps are signed.
    """
    from mmg_diffusers.commands.studies import maps as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    work.study(
        work.Question(
            source,
            prompt,
            model,
            tuple(word or ()),
            tuple(together or ()),
            whole,
            gap,
            marginal,
            replace_by,
            tuple(band or ()),
            pairs,
        ),
        StudySettings(levels, steps=steps, high=high, draws=draws, seed=seed),
        output,
        shown=shown,
        npz=npz,
    )


def switch(
    model: ModelOption = None,
    first: Annotated[str, typer.Option(help="Prompt before the switch.")] = "a large red circle on the left",
    second: Annotated[str, typer.Option(help="Prompt after it.")] = "a large blue circle on the right",
    marginal: Annotated[
        str | None, typer.Option(help="What pictures are read as: a file of candidates, or shapes; the two by default.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images at each switching time.")] = 32,
    sampling_steps: SamplingSteps = 50,
    guidance: Guidance = 1.0,
    times: Annotated[int, typer.Option(help="Switching times, even in tau, both ends among them.")] = 11,
    tau: Annotated[list[float] | None, typer.Option(help="Further switching times, 0 to 1.")] = None,
    steps: Steps = None,
    high: High = None,
    axis: Axis = "tau",
    shown: Annotated[int, typer.Option(min=1, help="Pictures of each time in the figure.")] = 4,
    seed: Seed = 7007,
    output: Output = Path("runs/switching"),
) -> None:
    """Draw with one prompt until tau, with another after it: which one does the picture follow?"""
    from numpy import linspace

    from mmg_diffusers.commands.studies import switching as work
    from mmg_diffusers.commands.studies.settings import StudySettings

    taus = (*linspace(0, 1, max(2, times)).tolist(), *(tau or ()))
    work.study(
        work.Question(first, second, model, marginal, count, sampling_steps, guidance, taus),
        StudySettings(steps=steps, high=high, seed=seed),
        output,
        axis=axis,
        shown=shown,
    )
