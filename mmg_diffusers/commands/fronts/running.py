"""`run` and `collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer
from mmg_diffusers.commands.networks import Measuring, Networks
from mmg_diffusers.commands.options import Integrand, MapsOption, Overwrite, PlanFor, Tolerated
from mmg_diffusers.commands.questions import Going, RunQuestion


def run(
    networks: Networks,
    question: RunQuestion,
    how: Measuring,
    going: Going,
    output: Annotated[
        Path, typer.Option("--output", help="Folder of the run; the same command goes on where it stopped.")
    ],
    integrand: Integrand = "auto",
    tolerance: Tolerated = None,
    maps: MapsOption = None,
    plan: PlanFor = None,
) -> Answer | None:
    """Measure a whole data set, on as many processes as torchrun or accelerate starts; resumes. Status 3: bad pairs."""
    networks.check(question.source)
    from mmg_diffusers.commands import running

    asked = how.plan(integrand=integrand, tolerance=tolerance, keep="pixel" if maps else "pair")
    return running.run(question, going, asked, networks, output, plan, high=how.high)


def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, finished or not, going on or stopped.")],
    table: Annotated[Path | None, typer.Option(help="Write one row a pair: .csv or .parquet.")] = None,
    overwrite: Overwrite = False,
) -> Answer:
    """What a run has so far, and what is missing, without measuring. Status 3: some pairs were bad.

    Parts of a run are merged when all of them are there.
    """
    from mmg_diffusers.commands import running

    return running.collect(folder, table, overwrite)
