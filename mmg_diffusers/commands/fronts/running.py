"""`run` and `collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import (
    Batch,
    CaptionsOption,
    Device,
    Draws,
    Dtype,
    EntropyOption,
    Integrand,
    Levels,
    MarginalOption,
    Model,
    Null,
    PlanFor,
    Prompt,
    Quiet,
    Resize,
    Revision,
    Seed,
    Tolerated,
    Variant,
)


def run(
    model: Model,
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder, a table of pairs, or webdataset shards: a .tar, a folder of them, a-{000..012}.tar."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the run; the same command goes on where it stopped.")],
    prompt: Prompt = None,
    captions: CaptionsOption = "first",
    marginal: MarginalOption = "null",
    entropy: EntropyOption = None,
    integrand: Integrand = "auto",
    levels: Levels = None,
    draws: Draws = 1,
    tolerance: Tolerated = None,
    plan: PlanFor = None,
    seed: Seed = 0,
    resize: Resize = False,
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
    dtype: Dtype = "float32",
    variant: Variant = None,
    revision: Revision = None,
    null: Null = None,
    quiet: Quiet = False,
) -> None:
    """Measure a whole data set, on as many processes as torchrun or accelerate starts; resumes. Status 3: bad pairs."""
    from mmg_diffusers.commands import running
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    running.run(
        running.DataSet(source, prompt, limit, not no_truncate, strict, cache, marginal, captions, entropy),
        Plan(
            integrand=integrand,
            levels=levels,
            draws=draws,
            tolerance=tolerance,
            seed=seed,
            batch_size=batch_size,
            resize=resize,
        ),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
        plan,
    )


def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, finished or not, going on or stopped.")],
    table: Annotated[Path | None, typer.Option(help="Write one row a pair: .csv or .parquet.")] = None,
) -> None:
    """What a run has so far, without measuring; nothing in its folder is changed. Status 3: some pairs were bad."""
    from mmg_diffusers.commands import running

    running.collect(folder, table)
