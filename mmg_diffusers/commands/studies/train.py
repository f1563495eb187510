"""Train a denoiser of two variables from a file, and measure pairs that took no part."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing, is_image
from mmg_diffusers.arrays.losses import paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, join_processes, rows_of
from mmg_diffusers.arrays.values import as_array, pairs_in
from mmg_diffusers.arrays.variables import Arrays, read_variables
from mmg_diffusers.commands.answers import Answer, of_record
from mmg_diffusers.commands.console import Stopped, say
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.files.resumed import told_to
from mmg_diffusers.files.whole import check_writable
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
            f"{fitted.steps} steps, {fitted.gained:.3f} nats of held-out loss gained\n"
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
    data: Arrays,
    folder: Path,
    plan: TrainPlan,
    accelerator: Accelerator | None = None,
    *,
    progress: bool = True,
) -> Trained | None:
    """Train a denoiser of two variables, or go on with it, then measure pairs that took no part.

    Args:
        data: x and y; pictures, vectors or labels (see `read_variables`).
        folder: gets checkpoint.safetensors, model.safetensors and estimate.safetensors.
        plan: how.
        accelerator: the processes; those of the launch by default.
        progress: whether a bar is shown.

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
    fitted = trainer.run(progress)
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


def train(source: str, x: Sequence[str], y: Sequence[str], output: Path, plan: TrainPlan, quiet: bool) -> Answer | None:
    """Read two variables, train on them or go on with it, and measure; nothing on other processes than the main one.

    Raises:
        FileNotFoundError, ValueError: as `read_variables` and `train_denoiser` do.
        Stopped: at Ctrl-C, with what is kept.
    """
    data = read_variables(source, x, y)
    check_writable(output)
    accelerator = join_processes()
    checkpoint = output / "checkpoint.safetensors"
    shown = not quiet and sys.stderr.isatty()
    try:
        with told_to(say):
            trained = train_denoiser(data, output, plan, accelerator, progress=shown)
    except KeyboardInterrupt as error:
        kept = f"{checkpoint} is kept" if checkpoint.exists() else "no checkpoint was written yet"
        raise Stopped(f"{kept}; the same command goes on from there") from error
    if trained is None:
        return None
    values = of_record(trained.estimate)
    values["training"] = {
        "steps": trained.model.fitted.steps,
        "gained": {"value": trained.model.fitted.gained, "unit": "nats"},
    }
    return Answer(values, [trained], [trained.path, output / "estimate.safetensors"])
