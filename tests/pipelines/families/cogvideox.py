"""Rows of CogVideoX, 1.0 and 1.5."""

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row


def transformer(**config):
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        **config,
    )


def pipeline(**config):
    def make():
        return CogVideoXPipeline(
            tokenizer=parts.t5_tokenizer(226),
            text_encoder=parts.t5(),
            vae=AutoencoderKLCogVideoX(
                in_channels=3,
                out_channels=3,
                down_block_types=("CogVideoXDownBlock3D",) * 4,
                up_block_types=("CogVideoXUpBlock3D",) * 4,
                block_out_channels=(8, 8, 8, 8),
                latent_channels=4,
                layers_per_block=1,
                norm_num_groups=2,
                temporal_compression_ratio=4,
                scaling_factor=0.7,
            ),
            transformer=transformer(**config),
            scheduler=CogVideoXDDIMScheduler(
                prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0, clip_sample=False
            ),
        )

    return parts.ready(make)


def shifted(pipe, told):
    """Log-SNR of an index: SNR of scaled linear betas over 3 (Yang et al. 2024), then the last one's root taken off all."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    alphas = np.cumprod(1 - betas)
    root = np.sqrt(alphas / (3 - 2 * alphas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(root**2 / (1 - root**2)))[told.long()]


def row(name, frames=9, **config):
    return Row(
        name,
        pipeline(**config),
        shifted,
        "v",
        call={"num_frames": frames},
        # Frames come before channels there.
        event=lambda pipe, x: x.transpose(1, 2),
        packed=lambda pipe, x: x.transpose(1, 2),
        images=lambda pipe, pixels: pipe.vae.encode(pixels.transpose(1, 2)).latent_dist.mode(),
        frames=frames,
    )


ROTARY = {"use_rotary_positional_embeddings": True}
LEARNED = {"use_learned_positional_embeddings": True}
ROWS = [
    row("cogvideox-2b"),
    row("cogvideox-5b", **ROTARY),
    row("cogvideox-learned-positions", **ROTARY, **LEARNED),
    row("cogvideox-1.5", frames=5, patch_size_t=2, **ROTARY),
]
