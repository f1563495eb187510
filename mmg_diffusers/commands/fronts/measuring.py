"""`demo`, `estimate`, `report`, `fit`, `audit` and `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import (
    DEMO_STEPS,
    LEVELS,
    Batch,
    DemoModel,
    Device,
    Draws,
    Dtype,
    EntropyOption,
    Integrand,
    Levels,
    MarginalOption,
    Model,
    Null,
    NullLevels,
    PlanFor,
    Prompt,
    Quiet,
    Resize,
    Revision,
    Seed,
    Tolerated,
    Variant,
)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the record and the figures.")] = Path("runs/demo"),
    model: DemoModel = "shapes-plain",
    pairs: Annotated[int, typer.Option(min=2, help="Fresh pairs to measure.")] = 40,
    levels: NullLevels = LEVELS,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the noise path of the captions.")] = DEMO_STEPS,
    seed: Seed = 0,
    batch_size: Batch = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model that ships against the exact information of its world; a table and three figures."""
    from mmg_diffusers.commands.console import console
    from mmg_diffusers.commands.demo import demonstrate, report
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.files.whole import check_writable
    from mmg_diffusers.pipelines.folding import folded_zeros

    check_plotting()
    check_writable(output)
    pipe = Networks(model, device, quiet=quiet).load()
    with folded_zeros(pipe.pipe):
        shown = demonstrate(pipe, pairs=pairs, levels=levels, steps=steps, seed=seed, batch_size=batch_size)
    report(shown, output, console)


def estimate(
    model: Model,
    source: Annotated[
        Path, typer.Argument(help="An image, a folder (with metadata.csv, .jsonl or .parquet), or a table of pairs.")
    ],
    prompt: Prompt = None,
    given: Annotated[str | None, typer.Option(help="Context of all images, for i(image; prompt | context).")] = None,
    output: Annotated[Path, typer.Option(help="Folder for pairs.csv and the record.")] = Path("runs/estimate"),
    marginal: MarginalOption = "null",
    entropy: EntropyOption = None,
    integrand: Integrand = "auto",
    levels: Levels = None,
    draws: Draws = 1,
    tolerance: Tolerated = None,
    plan: PlanFor = None,
    maps: Annotated[bool, typer.Option("--maps", help="Keep pixel maps in the record.")] = False,
    seed: Seed = 0,
    resize: Resize = False,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
    quiet: Quiet = False,
) -> None:
    """Mutual information of images and prompts: a table, a record, and the mean with its standard error.

    Against candidates or negatives, `nats` is log q, a lower bound by the posterior along one noise path.
    """
    from mmg_diffusers.commands import measuring
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    measuring.estimate(
        measuring.Question(source, prompt, given, marginal, entropy),
        Plan(
            integrand=integrand,
            levels=levels,
            draws=draws,
            tolerance=tolerance,
            keep="pixel" if maps else "pair",
            seed=seed,
            batch_size=batch_size,
            resize=resize,
        ),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
        plan,
    )  # fmt: skip


def report(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder, or a table of pairs.")],
    prompt: Prompt = None,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("runs/report.html"),
    marginal: MarginalOption = "null",
    likelihood: Annotated[
        bool,
        typer.Option("--likelihood", help="Also say how likely the images are, by more evaluations."),
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="What each word says as well, over the pictures: a measurement a word.")
    ] = False,
    entropy: EntropyOption = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Against candidates, hold the null branch against their mixture as well.")
    ] = False,
    levels: Levels = None,
    draws: Draws = 1,
    plan: PlanFor = None,
    seed: Seed = 0,
    resize: Resize = False,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: table, curves, maps, settings, certificates."""
    from mmg_diffusers.commands import measuring
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    measuring.report(
        measuring.Question(source, prompt, marginal=marginal, entropy=entropy),
        Plan(levels=levels, draws=draws, keep="pixel", seed=seed, batch_size=batch_size, resize=resize, audit=audit),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
        plan,
        likelihood=likelihood,
        words=words,
    )  # fmt: skip


def fit(
    model: Model,
    source: Annotated[Path, typer.Argument(help="Pictures of the law that will be measured: a folder, or a table.")],
    output: Annotated[Path, typer.Option(help="Folder for what is fitted: --marginal fitted:FOLDER.")] = Path(
        "runs/fitted"
    ),
    prompt: Prompt = None,
    soft: Annotated[
        int, typer.Option(min=0, help="Prompts of the mixture at most; 0 tunes the network's own null instead.")
    ] = 64,
    lora: Annotated[int, typer.Option(min=0, help="Rank of additions to both branches; with --soft 0 it is 8.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Of training, at most.")] = 200,
    folds: Annotated[
        int,
        typer.Option(min=1, help="2 or more: these pictures can be measured, each by what was fitted to the others."),
    ] = 1,
    seed: Seed = 0,
    resize: Resize = False,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
    quiet: Quiet = False,
) -> None:
    """Fit what stands for no prompt to pictures of your own, so that it is their marginal."""
    from mmg_diffusers.commands import fitting
    from mmg_diffusers.commands.inputs import Networks

    fitting.fit(
        source,
        prompt,
        fitting.plan_of(soft, lora, steps, folds, seed),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
        resize,
    )


def audit(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder, or a table of pairs.")],
    prompt: Prompt = None,
    output: Annotated[Path, typer.Option(help="Folder for the tables and the record.")] = Path("runs/audit"),
    marginal: MarginalOption = "prompts",
    levels: Levels = None,
    draws: Draws = 1,
    seed: Seed = 0,
    resize: Resize = False,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
    quiet: Quiet = False,
) -> None:
    """How far the null prompt is from the mixture of candidates, level by level: can its numbers be believed?"""
    from mmg_diffusers.commands import measuring
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    measuring.audit(
        measuring.Question(source, prompt, marginal=marginal),
        Plan(levels=levels, draws=draws, seed=seed, batch_size=batch_size, resize=resize),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
    )  # fmt: skip


def inspect(
    model: Model,
    check: Annotated[
        bool, typer.Option("--check", help="Run the network, and find out whether its sign, time and scale are right.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Of --check: images that the model was trained on, or like them; by default it draws some."),
    ] = None,
    prompt: Prompt = None,
    seed: Seed = 0,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
) -> None:
    """Say what a model is, and what can be measured of it: family, prediction, levels, null, latent, text; refused ones too.

    With --check status 1 says that it is used otherwise than it was trained, or that nothing can be told.
    """
    from mmg_diffusers.commands import inspecting
    from mmg_diffusers.commands.inputs import Networks

    networks = Networks(model, device, dtype, variant, revision, True, null)
    inspecting.inspect(networks)
    if check:
        inspecting.check(networks, images, prompt, seed, batch_size)
