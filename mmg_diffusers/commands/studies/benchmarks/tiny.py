"""A Stable Diffusion folder whose networks are as small as they can be, with random weights: for benchmarks of what is around them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

from mmg_diffusers import shapes_model

SIZE = 4  # of images, in pixels


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a pipeline folder: the tokenizer, text encoder and schedule that ship, around random networks for 4x4 images."""
    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline.from_pretrained(shapes_model())
    pipe.register_modules(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=SIZE),
        unet=UNet2DConditionModel(
            sample_size=SIZE,
            in_channels=4,
            out_channels=4,
            block_out_channels=(16,),
            layers_per_block=1,
            mid_block_type=None,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            cross_attention_dim=64,
            attention_head_dim=8,
            norm_num_groups=8,
        ),
    )
    pipe.save_pretrained(folder)
    return folder
