"""Rows of PixArt-alpha and PixArt-Sigma."""

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp

LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}


def transformer(size=8, patch=2, channels=4, **config):
    return PixArtTransformer2DModel(
        sample_size=size,
        num_layers=1,
        patch_size=patch,
        attention_head_dim=6,
        num_attention_heads=2,
        caption_channels=32,
        in_channels=channels,
        cross_attention_dim=12,
        out_channels=2 * channels,
        norm_eps=1e-6,
        **config,
    )


def dpm():
    return DPMSolverMultistepScheduler(**LINEAR)


def ddim():
    return DDIMScheduler(**LINEAR, clip_sample=False)


def pipeline(kind=PixArtAlphaPipeline, scheduler=dpm, scaling=0.18215, channels=4, **config):
    return parts.ready(
        lambda: kind(
            tokenizer=parts.t5_tokenizer(),
            text_encoder=parts.t5(),
            vae=parts.vae(channels, scaling_factor=scaling),
            transformer=transformer(channels=channels, **config),
            scheduler=scheduler(),
        )
    )


CALL = {"use_resolution_binning": False, "clean_caption": False}
ROWS = [
    Row("pixart-alpha", pipeline(), vp, "epsilon", call=CALL, learned_variance=True),
    Row(
        "pixart-sigma",
        pipeline(PixArtSigmaPipeline, scheduler=ddim, scaling=0.13025),
        vp,
        "epsilon",
        call=CALL,
        learned_variance=True,
        prompts=("A Red Dot ", "a large blue square, far off"),
    ),
]
# Told its size in pixels and its aspect ratio, as the 1024-pixel model is, by the size of its latents.
SIZED = Row(
    "pixart-alpha-sizes",
    pipeline(size=128, patch=16, channels=1),
    vp,
    "epsilon",
    call=CALL,
    learned_variance=True,
)
