"""Rows of CogView4."""

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import GlmConfig, GlmModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row


def glm():
    config = GlmConfig(
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=64,
        pad_token_id=0,
        eos_token_id=1,
    )
    return GlmModel(config)


def tokenizer():
    words = parts.t5_tokenizer()
    words.padding_side = "left"
    return words


def pipeline():
    def make():
        return CogView4Pipeline(
            tokenizer=tokenizer(),
            text_encoder=glm(),
            vae=parts.vae(scaling_factor=0.7),
            transformer=CogView4Transformer2DModel(
                patch_size=2,
                in_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                out_channels=4,
                text_embed_dim=32,
                time_embed_dim=8,
                condition_dim=4,
                sample_size=8,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, time_shift_type="linear", base_shift=0.25, max_shift=0.75
            ),
        )

    return parts.ready(make)


def unshifted(tokens):
    """Log-SNR where a thousand times the time before the shift is told, for an image of so many tokens."""

    def level(pipe, told):
        shift = 0.25 + 0.75 * (tokens / 256) ** 0.5
        u = told.double() / 1000
        return 2 * torch.log((1 - u) / (shift * u))

    return level


# Not its last time, 1 of 1000, where float32 leaves three digits of the noise.
CALL = {"timesteps": [900, 500, 100]}
ROWS = [Row("cogview4", pipeline(), unshifted(16), "flow", call=CALL, branches="c,u")]
