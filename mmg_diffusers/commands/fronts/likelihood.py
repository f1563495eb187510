"""`likelihood`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer, place
from mmg_diffusers.commands.networks import Measuring, Networks
from mmg_diffusers.commands.options import Output, Overwrite, Pictures, Prompt


def likelihood(
    networks: Networks,
    source: Pictures,
    how: Measuring,
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
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """How likely each image is, log p in nats, with its standard error; or given a prompt."""
    networks.check(source)
    makes = ("likelihood.csv", "likelihood.safetensors", "reference.safetensors")
    folder = place(output, "runs/likelihood", makes, overwrite)
    from mmg_diffusers.commands import likelihood as work

    return work.likelihood(
        work.Pictures(source, prompt, prompts, reference, rank, pilot), how.plan(), networks, folder, high=how.high
    )
