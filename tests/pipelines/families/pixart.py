"""Rows of PixArt-alpha and PixArt-Sigma."""

from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp


def pipeline(kind, size=8):
    def make():
        return kind(
            transformer=PixArtTransformer2DModel(
                sample_size=size,
                num_layers=1,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=3,
                in_channels=4,
                out_channels=8,
                cross_attention_dim=24,
                caption_channels=32,
                attention_bias=True,
                activation_fn="gelu-approximate",
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                norm_eps=1e-6,
            ),
            vae=parts.vae(),
            text_encoder=parts.t5(),
            tokenizer=parts.t5_tokenizer(),
            scheduler=DPMSolverMultistepScheduler(),
        )

    return parts.ready(make)


def row(name, build, **more):
    call = {"use_resolution_binning": False}
    prompts = ("A red dot ", "a Large blue square, far off")
    return Row(name, build, vp, "epsilon", learned_variance=True, call=call, prompts=prompts, **more)


ROWS = [
    row("pixart-alpha", pipeline(PixArtAlphaPipeline)),
    row("pixart-alpha-1024", pipeline(PixArtAlphaPipeline, size=128), size=(16, 24)),
    row("pixart-sigma", pipeline(PixArtSigmaPipeline)),
]
