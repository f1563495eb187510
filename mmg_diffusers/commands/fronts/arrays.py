"""`arrays` and `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmg_diffusers.commands.answers import Answer, place
from mmg_diffusers.commands.early import check_data
from mmg_diffusers.commands.options import High, Levels, Output, Overwrite, Quiet, Seed

_COLUMNS = "an array of a .npz, or columns, such as a,b; may be repeated."
X = Annotated[list[str] | None, typer.Option("--x", help=f"x: {_COLUMNS}")]
Y = Annotated[list[str] | None, typer.Option("--y", help=f"y: {_COLUMNS}")]


def arrays(
    source: Annotated[
        str,
        typer.Argument(help="A table (.csv, .parquet), a .npz with x and y, a .npy of columns, or x alone as a .npy."),
    ],
    other: Annotated[str | None, typer.Argument(metavar="[Y]", help="y as a .npy, if SOURCE is x.")] = None,
    x: X = None,
    y: Y = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", help="A third variable, for I(x; y | it): columns, alike; of two .npy another."),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            "--test-share",
            help="Share of the pairs that is measured, by what is fitted to the rest; 0.3 of 3,000 or more.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Parts, each measured by what is fitted to the others, so that all are; 5 of fewer than 3,000 pairs.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that folds are shared among, one core each.")] = 1,
    seed: Seed = 0,
    quiet: Quiet = False,
    output: Output = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Mutual information of two arrays, or of columns of a table, with its verdict: fits a small denoiser; labels are counted."""
    if other is None:
        check_data(source)
    folder = place(output, "runs/arrays", ("estimate.safetensors",), overwrite)
    from mmg_diffusers.commands import two_arrays as work

    question = work.Question(source, other, _named(x), _named(y), _named(given))
    return work.estimate(question, work.How(test_share, folds, workers, seed), folder, quiet)


def train(
    source: Annotated[
        str, typer.Argument(help=".npz, .npy, .csv, .parquet, a folder of pictures, or an id on the hub.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", help="Folder for checkpoint, model and estimate; the same command goes on where it stopped."
        ),
    ],
    x: X = None,
    y: Y = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the training, at most.")] = 5000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a step and process.")] = 128,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    average: Annotated[float, typer.Option(help="Decay of the running mean of the weights.")] = 0.999,
    check_every: Annotated[int, typer.Option(min=1, help="Steps between looks at held-out pairs.")] = 250,
    patience: Annotated[int, typer.Option(min=1, help="Looks without a better loss that end the training.")] = 8,
    width: Annotated[list[int] | None, typer.Option(help="Of the MLP; of each level of the U-Net, repeated.")] = None,
    low: Annotated[float, typer.Option(help="Noisiest log-SNR.")] = -8.0,
    high: High = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share of the pairs that is measured; the rest is fitted to.")
    ] = 0.2,
    watch_share: Annotated[float, typer.Option(help="Share of the pairs that decides when to stop.")] = 0.05,
    levels: Levels = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> Answer | None:
    """Train a denoiser of two variables, on as many processes as torchrun or accelerate starts, and measure pairs that took no part.

    Vectors and labels get a residual MLP, pictures a U-Net up to log-SNR 12. OUTPUT gets a checkpoint, model.safetensors and
    estimate.safetensors.
    """
    check_data(source)
    from mmg_diffusers.arrays.trainer import TrainSettings
    from mmg_diffusers.commands.studies import train as work

    settings = TrainSettings(
        steps=steps, batch=batch, lr=lr, average=average, check_every=check_every, patience=patience
    )
    plan = work.TrainPlan(
        settings,
        tuple(width or ()),
        (low, 12.0 if high is None else high),
        test_share,
        watch_share,
        levels or 32,
        seed,
    )
    return work.train(source, _named(x), _named(y), output, plan, quiet)


def _named(texts: list[str] | None) -> tuple[str, ...]:
    """Names that are repeated, or parted by commas."""
    return tuple(name.strip() for text in texts or () for name in text.split(",") if name.strip())
