"""Train a denoiser of two variables from a file, or estimate their information: what `scripts/train_denoiser.py` does, in functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from accelerate import Accelerator

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.arrays.estimate import estimate_mi
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing, is_image
from mmg_diffusers.arrays.losses import paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, join_processes, rows_of
from mmg_diffusers.arrays.values import as_array, pairs_in
from mmg_diffusers.arrays.variables import Arrays, read_variables
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.quadrature import StratifiedUniform


@dataclass(frozen=True)
class TrainPlan:
    """How a denoiser is trained and measured.

    Args:
        settings: of the training.
        widths: of the MLP (the first alone), or of each level of the U-Net; of none, 64, or 32, 64 and 64.
        logsnr_range: levels that are trained and measured.
        test_share, watched_share: of the pairs, to be measured, and to decide when to stop.
        nodes: noise levels of the measurement.
        seed: of the split, the weights, the batches and the noise.
    """

    settings: TrainSettings = field(default_factory=lambda: TrainSettings(steps=5000, batch=128))
    widths: tuple[int, ...] = ()
    logsnr_range: tuple[float, float] = (-8.0, 12.0)
    test_share: float = 0.2
    watched_share: float = 0.05
    nodes: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training left in its folder: the model, its file, and the estimate of pairs that took no part."""

    model: FittedModel
    path: Path
    estimate: Estimate

    def __str__(self) -> str:
        fitted = self.model.fitted
        return (
            f"wrote {self.path}: {fitted.steps} steps, {fitted.gained:.3f} nats of held-out loss gained\n"
            f"I({self.model.diffused}; {self.model.given[0]}): {self.estimate}"
        )


def split(data: Arrays, shares: Mapping[str, float], seed: int) -> dict[str, Arrays]:
    """Divide pairs into parts by name; what the shares leave is named "train".

    Raises:
        ValueError: for variables of different lengths, or too few pairs for a part.
    """
    count = pairs_in(data, 1)
    order = np.random.default_rng(seed).permutation(count)
    parts: dict[str, Arrays] = {}
    for name, share in {**shares, "train": 1.0}.items():
        size = len(order) if name == "train" else round(share * count)
        if size < 1:
            raise ValueError(f"{count} pairs leave none for {name}; give more pairs, or larger shares")
        rows, order = order[:size], order[size:]
        parts[name] = {key: values[rows] for key, values in data.items()}
    return parts


def new_network(
    train: Arrays, plan: TrainPlan
) -> tuple[Preprocessing | ImagePreprocessing, MultiDenoiser, dict[str, int]]:
    """Choose what makes the variables ready, the network for them, and the coordinates of each: an MLP, or a U-Net of pictures."""
    if any(is_image(values) for values in train.values()):
        images = ImagePreprocessing.fit(train)
        network = ImageNetwork(
            images.shapes,
            images.covariance,
            logsnr_range=plan.logsnr_range,
            widths=plan.widths or (32, 64, 64),
            seed=plan.seed,
        )
        return images, network, {name: int(np.prod(shape)) for name, shape in images.shapes.items()}
    vectors = Preprocessing.fit(train)
    width = (plan.widths or (64,))[0]
    network = VectorNetwork(
        vectors.sizes, vectors.covariance, logsnr_range=plan.logsnr_range, width=width, seed=plan.seed
    )
    return vectors, network, vectors.sizes


def train_denoiser(
    data: Arrays, folder: Path, plan: TrainPlan, accelerator: Accelerator | None = None
) -> Trained | None:
    """Train a denoiser of two variables, or go on with it, then measure pairs that took no part.

    Args:
        data: x and y; pictures, vectors or labels (see `read_variables`).
        folder: gets checkpoint.safetensors, model.safetensors and estimate.safetensors.
        plan: how.
        accelerator: the processes; those of the launch by default.

    Returns:
        what was trained; nothing on other processes than the main one.

    Raises:
        ValueError: for too few pairs, or a folder whose checkpoint belongs to other data or another plan.
    """
    accelerator = accelerator or join_processes()
    if not any(is_image(values) for values in data.values()):
        data = {name: as_array(values, name) for name, values in data.items()}
    identity = str(Identity.of(data))
    parts = split(data, {"test": plan.test_share, "watched": plan.watched_share}, plan.seed)
    preprocessing, network, sizes = new_network(parts["train"], plan)
    # Mutual information is symmetric, and the smaller variable is easier to denoise.
    diffused, given = sorted(sizes, key=lambda name: (sizes[name], name))
    settings = plan.settings
    if isinstance(network, ImageNetwork) and diffused in network.points:
        # A picture is read once for all levels, and noisy ones count: there only the picture tells the label.
        settings = replace(settings, draws=8, weighting="v")
    ready = {name: {k: v.float() for k, v in preprocessing(parts[name]).items()} for name in ("train", "watched")}
    trainer = Trainer(
        network,
        rows_of(ready["train"]),
        ready["watched"],
        paired(diffused, [given]),
        settings,
        seed=plan.seed,
        checkpoint=folder / "checkpoint.safetensors",
        accelerator=accelerator,
        origin={"data": identity, "test_share": plan.test_share, "watched_share": plan.watched_share},
    )
    fitted = trainer.run()
    if not accelerator.is_main_process:
        return None
    recorded = {
        "fit": asdict(settings),
        "fit_seed": plan.seed,
        "fitted_to": identity,
        "pairs_fitted": len(parts["train"]["x"]),
        "processes": accelerator.num_processes,
    }
    model = FittedModel(preprocessing, network, diffused, (given,), (), fitted, recorded)
    path = model.save(folder / "model.safetensors")
    estimator = MMG("balanced", StratifiedUniform(plan.nodes), antithetic=True)
    estimate = model.estimate(parts["test"], estimator=estimator, seed=plan.seed)
    estimate.save(folder / "estimate.safetensors")
    return Trained(model, path, estimate)


# ---- command lines ----

SOURCE = typer.Argument(help=".npz, .npy, .csv, .parquet, a folder of pictures, or an id on the hub.")


def train(
    source: Annotated[str, SOURCE],
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint, the model and the estimate.")],
    x: Annotated[list[str] | None, typer.Option(help="Array or columns of x; may be repeated.")] = None,
    y: Annotated[list[str] | None, typer.Option(help="Array or columns of y; may be repeated.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 5000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a step and process.")] = 128,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    average: Annotated[float, typer.Option(help="Decay of the running mean of the weights.")] = 0.999,
    check_every: Annotated[int, typer.Option(min=1, help="Steps between looks at held-out pairs.")] = 250,
    patience: Annotated[int, typer.Option(min=1, help="Looks without a better loss that end the training.")] = 8,
    width: Annotated[list[int] | None, typer.Option(help="Of the MLP; of each level of the U-Net, repeated.")] = None,
    low: Annotated[float, typer.Option(help="Noisiest log-SNR.")] = -8.0,
    high: Annotated[float, typer.Option(help="Cleanest log-SNR.")] = 12.0,
    test_share: Annotated[float, typer.Option(help="Share of the pairs that is measured.")] = 0.2,
    watch_share: Annotated[float, typer.Option(help="Share of the pairs that decides when to stop.")] = 0.05,
    nodes: Annotated[int, typer.Option(min=2, help="Noise levels of the measurement.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights, the batches and the noise.")] = 0,
) -> None:
    """Train, or go on with it; then write OUTPUT/model.safetensors and OUTPUT/estimate.safetensors."""
    accelerator = join_processes()
    settings = TrainSettings(
        steps=steps, batch=batch, lr=lr, average=average, check_every=check_every, patience=patience
    )
    plan = TrainPlan(settings, tuple(width or ()), (low, high), test_share, watch_share, nodes, seed)
    trained = train_denoiser(read_variables(source, x or (), y or ()), output, plan, accelerator)
    if trained is not None:
        print(trained)


def estimate(
    source: Annotated[str, SOURCE],
    x: Annotated[list[str] | None, typer.Option(help="Array or columns of x; may be repeated.")] = None,
    y: Annotated[list[str] | None, typer.Option(help="Array or columns of y; may be repeated.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of the pairs that is measured.")] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the training and the noise.")] = 0,
    output: Annotated[Path | None, typer.Option(help="File for the estimate, .safetensors.")] = None,
) -> None:
    """Estimate the mutual information of two variables in a file with the quick recipe, `estimate_mi`: no pictures."""
    data = read_variables(source, x or (), y or ())
    measured = estimate_mi(data["x"], data["y"], test_share=test_share, seed=seed)
    if output is not None:
        measured.save(output)
    print(measured)
    for warning in measured.warnings():
        print(f"warning: {warning}")


app = typer.Typer(help="Mutual information of arrays and tables.", no_args_is_help=True)
app.command()(train)
app.command()(estimate)
