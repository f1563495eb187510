"""The command line, ``mmg-diffusers``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from mmg_diffusers import Estimate, MMGPipeline, NullPrompt, __version__, shapes_model
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands.options import read_marginal
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.moments import Form, Integrand, Keep
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.tables import PairTable, read_pairs
from mmg_diffusers.pipelines.pipeline import LEVELS, STEPS
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.runs.shards import Outcome

app = typer.Typer(
    name="mmg-diffusers",
    help="Mutual information with pretrained diffusion models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console()


class Dtype(str, Enum):
    """Dtype of the networks."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


Model = Annotated[
    str, typer.Argument(help="A pipeline folder, an id on the hub, or `shapes`, the model that ships with the package.")
]
Against = Annotated[
    str,
    typer.Option(
        help="What prompts are compared with: null, the null prompt; prompts, the run's own; negatives:15, as many of other "
        "pairs; shapes, the captions of that world; or a file of candidates, one a line or a table with a column 'prompt'."
    ),
]
Batch = Annotated[int | None, typer.Option(help="Rows per forward pass, the one memory knob.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.")]
Levels = Annotated[
    int | None,
    typer.Option(
        min=2,
        help=f"Noise levels, by default {LEVELS}, each seen with noise of both signs; against candidates steps of the noise path, "
        f"by default {STEPS}.",
    ),
]
Tolerated = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="In place of --draws: draw noise for a pair until it leaves no more than this standard error, in nats.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


@contextmanager
def _told() -> Iterator[None]:
    """Show an error as its message, and leave with status 2: the message says what was expected and what to do."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        Console(stderr=True).print(f"[red]error:[/] {type(error).__name__}: ", end="")
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def _load(model: str, device: str | None, quiet: bool, **options: Any) -> MMGPipeline:
    pipe = MMGPipeline.from_pretrained(shapes_model() if model == "shapes" else model, **options)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    pipe.set_progress_bar_config(disable=quiet)
    return pipe.to(device)


def _measure(
    pipe: MMGPipeline,
    pairs: PairTable,
    given: str | list[str] | None,
    marginal: Marginal,
    *,
    integrand: Integrand,
    levels: int | None,
    draws: int,
    tolerance: float | None = None,
    keep: Keep,
    seed: int,
    batch_size: int | None,
    resize: bool,
) -> Estimate | Filtered:
    """Against the null prompt an estimate; against candidates a filter along levels that widen where little is told."""
    options: dict[str, Any] = {"draws": draws, "keep": keep, "seed": seed, "batch_size": batch_size, "resize": resize}
    if isinstance(marginal, NullPrompt):
        options |= {"given": given, "integrand": integrand, "levels": levels, "tolerance": tolerance}
        return pipe(pairs.images, pairs.prompts, **options)
    for name, value in (("given", given), ("tolerance", tolerance)):
        if value is not None:
            raise ValueError(f"--{name} belongs to the null prompt; leave it out, or set --marginal null")
    path = AtLevels.widening(*pipe.denoiser.logsnr_range, (STEPS if levels is None else levels) + 1).levels
    return pipe.filter(pairs.images, pairs.prompts, marginal, levels=path, **options)


def _version(show: bool) -> None:
    if show:
        console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Mutual information with pretrained diffusion models."""
    # Notes of the libraries beneath about image processors that no measurement uses.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@app.command(epilog="Example: `mmg-diffusers demo --pairs 16 --output runs/demo`")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the record and the figures.")] = Path("runs/demo"),
    pairs: Annotated[int, typer.Option(min=2, help="Fresh pairs to measure.")] = 40,
    levels: Annotated[int, typer.Option(min=2, help="Noise levels for the null prompt.")] = LEVELS,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the candidates' noise path.")] = 26,
    seed: Annotated[int, typer.Option(min=0, help="Names the pairs and their noise.")] = 0,
    batch_size: Batch = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Measure the shipped model against the exact information of its world; a table and three figures."""
    from mmg_diffusers.commands.demo import demonstrate, report

    with _told():
        check_writable(output)
        pipe = _load("shapes", device, quiet)
        shown = demonstrate(pipe, pairs=pairs, levels=levels, steps=steps, seed=seed, batch_size=batch_size)
        report(shown, output, console)


@app.command(epilog="Example: `mmg-diffusers estimate shapes photos/ --prompt 'a large red circle on the left'`")
def estimate(
    model: Model,
    source: Annotated[
        Path, typer.Argument(help="An image, a folder (with metadata.csv, .jsonl or .parquet), or a table of pairs.")
    ],
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images; else a column of the table.")] = None,
    given: Annotated[str | None, typer.Option(help="Context of all images, for i(image; prompt | context).")] = None,
    output: Annotated[Path, typer.Option(help="Folder for pairs.csv and the record.")] = Path("runs/estimate"),
    marginal: Against = "null",
    integrand: Annotated[Form, typer.Option(help="Which form `nats` holds; the table has all.")] = "auto",
    levels: Levels = None,
    draws: Annotated[int, typer.Option(min=1, help="Noise draws per level.")] = 1,
    tolerance: Tolerated = None,
    maps: Annotated[bool, typer.Option("--maps", help="Keep pixel maps in the record.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Names the noise.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Bring images to the model's own size.")] = False,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the networks.")] = Dtype.FLOAT32,
    variant: Annotated[str | None, typer.Option(help="Variant of the weights, e.g. fp16.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision on the hub.")] = None,
    quiet: Quiet = False,
) -> None:
    """Mutual information of images and prompts: a table, a record, and the mean with its standard error.

    Against candidates or negatives, `nats` is log q, a lower bound by the posterior along one noise path.
    """
    with _told(), warnings.catch_warnings():
        # What is warned of is in the record's notes, which are printed below.
        warnings.simplefilter("ignore", UserWarning)
        pairs = read_pairs(source, prompt)
        if given is not None and pairs.given is not None:
            raise ValueError(f"{source} has a column 'given', and --given was set; leave one of them out")
        against = read_marginal(marginal, pairs.prompts)
        check_writable(output)
        pipe = _load(
            model, device, quiet, torch_dtype=getattr(torch, dtype.value), variant=variant, revision=revision
        )  # fmt: skip
        result = _measure(
            pipe,
            pairs,
            given if given is not None else pairs.given,
            against,
            integrand=integrand,
            levels=levels,
            draws=draws,
            tolerance=tolerance,
            keep="pixel" if maps else "pair",
            seed=seed,
            batch_size=batch_size,
            resize=resize,
        )
        record = result.save(output / f"{'filter' if isinstance(result, Filtered) else 'estimate'}.safetensors")
        table = result.to_pandas()
        table.insert(1, "image", [str(path) for path in pairs.images])
        table.insert(2, "prompt", pairs.prompts)
        table.to_csv(output / "pairs.csv", index=False)
        console.print(str(result), highlight=False, markup=False, soft_wrap=True)
        if isinstance(result, Filtered):
            compared = result.against_mixture.using(integrand)
            console.print(f"against the mixture: {compared}", highlight=False, markup=False, soft_wrap=True)
        for path in (output / "pairs.csv", record):
            console.print(f"wrote {path}", highlight=False)


@app.command(epilog="Example: `torchrun --nproc_per_node 2 -m mmg_diffusers run shapes pairs.csv --output runs/pairs`")
def run(
    model: Model,
    source: Annotated[Path, typer.Argument(help="A folder, a table of pairs, or a webdataset shard (.tar).")],
    output: Annotated[Path, typer.Option(help="Folder of the run; the same command goes on where it stopped.")],
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images; else a column of the table.")] = None,
    integrand: Annotated[Form, typer.Option(help="Which form `nats` holds; the table has all.")] = "auto",
    levels: Annotated[int, typer.Option(min=2, help="Noise levels, each seen with noise of both signs.")] = LEVELS,
    draws: Annotated[int, typer.Option(min=1, help="Noise draws per level.")] = 1,
    tolerance: Tolerated = None,
    seed: Annotated[int, typer.Option(min=0, help="Names the noise.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Bring images to the model's own size.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad pair.")] = False,
    no_truncate: Annotated[
        bool, typer.Option("--no-truncate", help="Prompts that are too long are bad pairs.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pairs.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps encoded images and prompts, for runs with other settings.")
    ] = None,
    batch_size: Batch = None,
    device: Device = None,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the networks.")] = Dtype.FLOAT32,
    quiet: Quiet = False,
) -> None:
    """Measure a whole data set, on as many processes as torchrun or accelerate starts; resumes. Status 3: bad pairs."""
    with _told(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        own = this_process()
        pipe = _load(model, device or str(own.device), quiet, torch_dtype=getattr(torch, dtype.value))
        if cache is not None:
            pipe.set_encoding_cache(folder=cache)
        outcome = pipe.run(
            source,
            output,
            prompt=prompt,
            integrand=integrand,
            levels=levels,
            draws=draws,
            tolerance=tolerance,
            seed=seed,
            batch_size=batch_size,
            resize=resize,
            truncate=not no_truncate,
            strict=strict,
            limit=limit,
            progress=not quiet,
        )
        if outcome is not None:
            console.print(f"measured by {own.num_processes} process(es)", highlight=False)
            _tell(outcome)


@app.command(epilog="Example: `mmg-diffusers collect runs/pairs --table so-far.csv`")
def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, finished or not, going on or stopped.")],
    table: Annotated[Path | None, typer.Option(help="Write one row a pair: .csv or .parquet.")] = None,
) -> None:
    """What a run has so far, without measuring; nothing in its folder is changed. Status 3: some pairs were bad."""
    with _told():
        if table is not None and table.suffix not in (".csv", ".parquet"):
            raise ValueError(f"cannot tell what {table} is by its ending; expected .csv or .parquet")
        outcome = Outcome.load(folder)
        if table is not None:
            table.parent.mkdir(parents=True, exist_ok=True)
            rows = outcome.to_pandas()
            rows.to_csv(table, index=False) if table.suffix == ".csv" else rows.to_parquet(table, index=False)
        _tell(outcome)


def _tell(outcome: Outcome) -> None:
    """Print what a run has; leave with status 3 where pairs were bad."""
    if outcome.estimate is not None:
        console.print(str(outcome.estimate), highlight=False, markup=False, soft_wrap=True)
    for note in outcome.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for failure in outcome.failures[:20]:
        console.print(f"pair {failure.place}: {failure.reason}", highlight=False, markup=False, soft_wrap=True)
    if outcome.failures:
        console.print(f"{len(outcome.failures)} of {len(outcome.rows)} pairs were bad", highlight=False)
        raise typer.Exit(3)


@app.command(epilog="Example: `mmg-diffusers report shapes photos/ --prompt 'a large red circle on the left'`")
def report(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder, or a table of pairs.")],
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images; else a column of the table.")] = None,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("runs/report.html"),
    marginal: Against = "null",
    levels: Levels = None,
    draws: Annotated[int, typer.Option(min=1, help="Noise draws per level.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Names the noise.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Bring images to the model's own size.")] = False,
    batch_size: Batch = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """One self-contained HTML page: table, curves, maps, settings, certificates."""
    with _told(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        import matplotlib

        matplotlib.use("Agg")
        from mmg_diffusers.commands.report import build_report

        if output.is_dir():
            raise ValueError(f"{output} is a folder; expected the file to write, such as {output / 'report.html'}")
        check_writable(output.parent)
        pairs = read_pairs(source, prompt)
        against = read_marginal(marginal, pairs.prompts)
        pipe = _load(model, device, quiet)
        found = _measure(
            pipe,
            pairs,
            pairs.given,
            against,
            integrand="auto",
            levels=levels,
            draws=draws,
            keep="pixel",
            seed=seed,
            batch_size=batch_size,
            resize=resize,
        )
        title = f"What prompts say: {source.name}"
        page = build_report(found, pairs.images, pairs.prompts, convention=pipe.denoiser.convention, title=title)
        write_whole(output, page.encode())
        console.print(f"wrote {output}", highlight=False)


@app.command(epilog="Example: `mmg-diffusers inspect shapes`")
def inspect(
    model: Model,
    variant: Annotated[str | None, typer.Option(help="Variant of the weights, e.g. fp16.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision on the hub.")] = None,
) -> None:
    """Say what the adapter finds in a model: family, prediction, levels, null, latent, and what is missing."""
    with _told():
        pipe = _load(model, "cpu", True, variant=variant, revision=revision)
        table = Table(show_header=False)
        for key, value in pipe.describe().items():
            table.add_row(key, str(value))
        console.print(table)
