"""`demo`, `estimate`, `report`, `fit`, `audit` and `inspect`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer, place
from mmg_diffusers.commands.networks import Measuring, Networks
from mmg_diffusers.commands.options import (
    DEMO_STEPS,
    LEVELS,
    Batch,
    DemoModel,
    Device,
    Integrand,
    Levels,
    MapsOption,
    Output,
    Overwrite,
    PlanFor,
    Prompt,
    Quiet,
    Resize,
    Seed,
    Tolerated,
)
from mmg_diffusers.commands.questions import Question


def demo(
    output: Output = None,
    overwrite: Overwrite = False,
    model: DemoModel = "shapes-plain",
    pairs: Annotated[int, typer.Option(min=2, help="Fresh pairs to measure.")] = 40,
    levels: Levels = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the noise path of the captions.")] = DEMO_STEPS,
    seed: Seed = 0,
    batch_size: Batch = None,
    device: Device = None,
    quiet: Quiet = False,
) -> Answer:
    """Measure a model that ships against the exact information of its world; a table and three figures."""
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.files.whole import check_writable

    makes = ("estimate.safetensors", "summary.json", "mmse.png", "influence.png", "maps.png")
    folder = place(output, "runs/demo", makes, overwrite)
    check_plotting()
    check_writable(folder)
    from mmg_diffusers.commands.demo import answer, demonstrate
    from mmg_diffusers.pipelines.folding import folded_zeros

    pipe = Networks(model, device, quiet=quiet).load()
    with folded_zeros(pipe.pipe):
        shown = demonstrate(pipe, pairs=pairs, levels=levels or LEVELS, steps=steps, seed=seed, batch_size=batch_size)
    return answer(shown, folder)


def estimate(
    networks: Networks,
    question: Question,
    how: Measuring,
    integrand: Integrand = "auto",
    tolerance: Tolerated = None,
    maps: MapsOption = None,
    plan: PlanFor = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Mutual information of images and prompts: a table, a record, and the mean with its standard error.

    Against candidates or negatives, `nats` is log q, a lower bound by the posterior along one noise path.
    """
    networks.check(question.source)
    folder = place(
        output,
        "runs/estimate",
        ("pairs.csv", "estimate.safetensors", "filter.safetensors"),
        overwrite or plan is not None,
    )
    from mmg_diffusers.commands import measuring

    asked = how.plan(integrand=integrand, tolerance=tolerance, keep="pixel" if maps else "pair")
    return measuring.estimate(question, asked, networks, folder, plan, high=how.high)


def report(
    networks: Networks,
    question: Question,
    how: Measuring,
    integrand: Integrand = "auto",
    tolerance: Tolerated = None,
    likelihood: Annotated[
        bool,
        typer.Option("--likelihood", help="Also say how likely the images are, by more evaluations."),
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="What each word says as well, over the pictures: a measurement a word.")
    ] = False,
    b: Annotated[
        str | None,
        typer.Option(
            "--b",
            help="Another caption of all images, or a .txt file, one a line: which of the two fits each better, and where.",
        ),
    ] = None,
    other: Annotated[
        str | None, typer.Option("--other-model", help="A second model, which is measured on the same pairs.")
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Against candidates, hold the null branch against their mixture as well.")
    ] = False,
    maps: MapsOption = None,
    plan: PlanFor = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="The page, .html; by default runs/report.html, or runs/report-2.html, ... if that is taken.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Write one self-contained HTML page: verdict, table, curves, maps by noise level, words, pairs, settings, certificates."""
    networks.check(question.source)
    if other is not None:
        replace(networks, model=other, revision=None).check()
    page = _page(output, overwrite or plan is not None)
    from mmg_diffusers.commands import measuring

    keep = "pair" if maps is False else "level"
    asked = how.plan(integrand=integrand, tolerance=tolerance, keep=keep, audit=audit)
    return measuring.report(
        question, asked, networks, page, plan, high=how.high, also=measuring.Also(likelihood, words, b, other)
    )  # fmt: skip


def _page(output: Path | None, overwrite: bool) -> Path:
    """The file of a page: by default the first of runs/report.html, runs/report-2.html, ... that is free.

    Raises:
        ValueError: for what is no page of HTML, or is there already.
    """
    if output is None:
        number, page = 1, Path("runs/report.html")
        while page.exists() and not overwrite:
            number += 1
            page = Path(f"runs/report-{number}.html")
        return page
    if output.is_dir():
        raise ValueError(f"{output} is a folder; expected the file to write, such as {output / 'report.html'}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"--output is {output}; the report is a page of HTML: give {output.with_suffix('.html')}, and print it to PDF from a "
            "browser if you need one"
        )
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already; choose another --output, or add --overwrite")
    return output


def fit(
    networks: Networks,
    source: Annotated[Path, typer.Argument(help="Pictures of the law that will be measured: a folder, or a table.")],
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
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Fit what stands for no prompt to pictures of your own, so that it is their marginal."""
    networks.check(source)
    folder = place(output, "runs/fitted", ("fitted.safetensors", "config.json"), overwrite)
    from mmg_diffusers.commands import fitting

    return fitting.fit(source, prompt, fitting.plan_of(soft, lora, steps, folds, seed), networks, folder, resize)


def audit(
    networks: Networks,
    question: Question,
    how: Measuring,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """How far the null prompt is from the mixture of candidates, level by level: can its numbers be believed?"""
    networks.check(question.source)
    folder = place(output, "runs/audit", ("levels.csv", "pairs.csv", "audit.safetensors"), overwrite)
    from mmg_diffusers.commands import measuring

    return measuring.audit(question, how.plan(), networks, folder, high=how.high)


def inspect(
    networks: Networks,
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
) -> Answer:
    """Say what a model is, and what can be measured of it: family, prediction, levels, null, latent, text; refused ones too.

    With --check status 1 says that it is used otherwise than it was trained, or that nothing can be told.
    """
    networks.check(images)
    from mmg_diffusers.commands import inspecting

    return inspecting.inspect(networks, check, images, prompt, seed, batch_size)
