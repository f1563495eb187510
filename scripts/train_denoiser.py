"""Train a denoiser of two variables, save it, and measure held-out pairs.

    python scripts/train_denoiser.py pairs.npz --output runs/denoiser            # arrays x and y
    python scripts/train_denoiser.py pairs.csv --x a --x b --y c --output runs/denoiser
    accelerate launch scripts/train_denoiser.py folder --output runs/digits    # pictures and labels, on all GPUs
    torchrun --nproc_per_node 2 scripts/train_denoiser.py ...                  # several processes of CPUs

Vectors and labels get a residual MLP, pictures a U-Net. OUTPUT gets a checkpoint, from which the same command goes on, then
``model.safetensors`` and the estimate of pairs that took no part in the training::

    from mmg_diffusers.arrays import FittedModel, pairs_in
    FittedModel.load("runs/denoiser/model.safetensors").estimate({"x": x, "y": y})
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mmg_diffusers.arrays.estimate import FittedModel, pairs_in
from mmg_diffusers.arrays.fitting import paired
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing, is_image
from mmg_diffusers.arrays.networks import MultiDenoiser, VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing, as_array
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, join_processes, rows_of
from mmg_diffusers.arrays.variables import Arrays, read_variables
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.quadrature import StratifiedUniform


def split(data: Arrays, shares: Mapping[str, float], seed: int) -> dict[str, Arrays]:
    """Parts of the pairs by name; what the shares leave is named "train".

    Raises:
        ValueError: for variables of different lengths, or too few pairs for a part.
    """
    count = pairs_in(data, 1)
    order = np.random.default_rng(seed).permutation(count)
    found: dict[str, Arrays] = {}
    for name, share in {**shares, "train": 1.0}.items():
        size = len(order) if name == "train" else round(share * count)
        if size < 1:
            raise ValueError(f"{count} pairs leave none for {name}; give more pairs, or larger shares")
        rows, order = order[:size], order[size:]
        found[name] = {key: values[rows] for key, values in data.items()}
    return found


def main(
    source: Annotated[
        str, typer.Argument(help=".npz, .npy, .csv, .parquet, a folder of pictures, or an id on the hub.")
    ],
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
    data = read_variables(source, x or (), y or ())
    pictures = any(is_image(values) for values in data.values())
    if not pictures:
        data = {name: as_array(values, name) for name, values in data.items()}
    parts = split(data, {"test": test_share, "watched": watch_share}, seed)
    torch.manual_seed(seed)
    network: MultiDenoiser
    preprocessing: Preprocessing | ImagePreprocessing
    if pictures:
        preprocessing = ImagePreprocessing.fit(parts["train"])
        widths = width or (32, 64, 64)
        sizes = {name: int(np.prod(shape)) for name, shape in preprocessing.shapes.items()}
        network = ImageNetwork(preprocessing.shapes, preprocessing.covariance, logsnr_range=(low, high), widths=widths)
    else:
        preprocessing = Preprocessing.fit(parts["train"])
        sizes = preprocessing.sizes
        network = VectorNetwork(sizes, preprocessing.covariance, logsnr_range=(low, high), width=(width or [64])[0])
    # Mutual information is symmetric, and the smaller variable is easier to denoise.
    diffused, given = sorted(sizes, key=lambda name: (sizes[name], name))
    settings = TrainSettings(
        steps=steps, batch=batch, lr=lr, average=average, check_every=check_every, patience=patience
    )
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
        seed=seed,
        checkpoint=output / "checkpoint.safetensors",
        accelerator=accelerator,
    )
    fitted = trainer.run()
    if not accelerator.is_main_process:
        return
    recorded = {
        "fit": asdict(settings),
        "fit_seed": seed,
        "pairs_fitted": len(parts["train"]["x"]),
        "processes": accelerator.num_processes,
    }
    model = FittedModel(preprocessing, network, diffused, (given,), (), fitted, recorded)
    path = model.save(output / "model.safetensors")
    estimator = MMG("balanced", StratifiedUniform(nodes), antithetic=True)
    found = model.estimate(parts["test"], estimator=estimator, seed=seed)
    found.save(output / "estimate.safetensors")
    print(f"wrote {path}: {fitted.steps} steps, {fitted.gained:.3f} nats of held-out loss gained")
    print(f"I({diffused}; {given}): {found}")


if __name__ == "__main__":
    typer.run(main)
