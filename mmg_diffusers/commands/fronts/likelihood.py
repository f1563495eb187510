"""`likelihood`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.options import (
    Batch,
    Device,
    Draws,
    Dtype,
    Model,
    Null,
    Prompt,
    Quiet,
    Resize,
    Revision,
    Seed,
    Variant,
)


def likelihood(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder, or a table with a column of pictures.")],
    prompt: Prompt = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Of each image given the prompt that the source names.")
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Other pictures, to fit the Gaussian to that it is measured against, or a file that this command wrote."
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of its covariance; by default kinds are compared.")
    ] = None,
    pilot: Annotated[
        int | None,
        typer.Option(min=0, help="How many of the other pictures say at which levels noise is; 0 for none."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the table, the record and the reference.")] = Path(
        "runs/likelihood"
    ),
    levels: Annotated[int | None, typer.Option("--levels", min=2, help="Noise levels.")] = None,
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
    """How likely each image is, log p in nats, with its standard error; or given a prompt."""
    from mmg_diffusers.commands import likelihood as work
    from mmg_diffusers.commands.inputs import Networks
    from mmg_diffusers.pairs.plan import Plan

    work.likelihood(
        work.Pictures(source, prompt, prompts, reference, rank, pilot),
        Plan(levels=levels, draws=draws, seed=seed, batch_size=batch_size, resize=resize),
        Networks(model, device, dtype, variant, revision, quiet, null),
        output,
    )
