"""Train a denoiser of two variables, save it, and measure held-out pairs.

    python scripts/train_denoiser.py pairs.npz --output runs/denoiser            # arrays x and y
    python scripts/train_denoiser.py pairs.csv --x a --x b --y c --output runs/denoiser
    accelerate launch scripts/train_denoiser.py folder --output runs/digits    # pictures and labels, on all GPUs
    torchrun --nproc_per_node 2 scripts/train_denoiser.py ...                  # several processes of CPUs

Vectors and labels get a residual MLP, pictures a U-Net. OUTPUT gets a checkpoint, from which the same command goes on, then
``model.safetensors`` and the estimate of pairs that took no part in the training::

    from mmg_diffusers.arrays import FittedModel
    FittedModel.load("runs/denoiser/model.safetensors").estimate({"x": x, "y": y})
"""

import typer

from mmg_diffusers.commands.studies.train import train

if __name__ == "__main__":
    typer.run(train)
