"""Tune a diffusers UNet or transformer to pictures by what log p is the integral of, and measure what other pictures gain.

    python scripts/tune_density.py MODEL pictures/ --output runs/tuned --test others/           # the unconditional branch, by LoRA
    python scripts/tune_density.py MODEL pairs.csv --prompts --output runs/tuned --control      # both branches; beside as many steps of
                                                                                                # the loss that it was trained by
    accelerate launch scripts/tune_density.py ...                                               # on all GPUs

MODEL is any pipeline that the library measures, but none that was guidance-distilled. OUTPUT gets the weights, averaged and the best on pictures that
were held out, and a checkpoint from which the same command goes on. Weights of LoRA (``pip install "mmg-diffusers[tune]"``) are read by
diffusers: ``pipe.load_lora_weights("runs/tuned")``.
"""

import typer

from mmg_diffusers.commands.studies.tune import tune_density

if __name__ == "__main__":
    typer.run(tune_density)
