"""Rows of Kandinsky 3."""

import torch
from diffusers import DDPMScheduler, Kandinsky3Pipeline, Kandinsky3UNet, VQModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp


def movq():
    return VQModel(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        num_vq_embeddings=12,
        vq_embed_dim=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )


def unet():
    network = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=8,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(8, 8, 8, 8),
        cross_attention_dim=8,
        encoder_hid_dim=32,
    )
    # A folder does not say it; the pipeline draws 1024 pixels unless it is told otherwise.
    network.register_to_config(sample_size=8)
    # As drawn, what the text is projected to is the same for all tokens of zeros and hides their number.
    torch.nn.init.normal_(network.encoder_hid_proj.projection_norm.bias)
    return network


def pipeline():
    return parts.ready(
        lambda: Kandinsky3Pipeline(
            tokenizer=parts.t5_tokenizer(),
            text_encoder=parts.t5(),
            unet=unet(),
            scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False),
            movq=movq(),
        )
    )


ROWS = [
    Row(
        "kandinsky3",
        pipeline(),
        vp,
        "epsilon",
        network="unet",
        combine=lambda c, u, g: (g + 1) * c - g * u,
        zero_filled=("encoder_hidden_states", "encoder_attention_mask"),
    )
]
