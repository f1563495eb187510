"""Rows of Lumina-Next."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LuminaNextDiT2DModel, LuminaPipeline

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline():
    def make():
        return LuminaPipeline(
            transformer=LuminaNextDiT2DModel(
                sample_size=4,
                patch_size=2,
                in_channels=4,
                hidden_size=16,
                num_layers=1,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=16,
                ffn_dim_multiplier=None,
                learn_sigma=True,
                qk_norm=True,
                cross_attention_dim=16,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=parts.vae(scales=4, scaling_factor=0.13025),
            text_encoder=parts.gemma(),
            tokenizer=parts.gemma_tokenizer(),
        )

    return parts.ready(make)


def of_three_channels(c, u, g):
    return torch.cat([u[:, :3] + g * (c[:, :3] - u[:, :3]), c[:, 3:]], 1)


ROWS = [
    Row(
        "lumina",
        pipeline(),
        flow(1, signal=True),
        "-flow",
        sign=-1,
        branches="cu",
        combine=of_three_channels,
        learned_variance=True,
        call={"clean_caption": False},
        # No rows, but the grid of rotary positions.
        axes={"image_rotary_emb": 9},
        # The pipeline fills the null up to the prompt's length.
        filled={"encoder_hidden_states": "encoder_mask", "encoder_mask": "encoder_mask"},
    )
]
