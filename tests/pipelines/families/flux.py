"""Rows of Flux, de-distilled."""

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow

SIZE = (16, 24)


def transformer(**config):
    return FluxTransformer2DModel(
        **{
            "patch_size": 1,
            "in_channels": 16,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 16,
            "axes_dims_rope": [4, 4, 8],
            "guidance_embeds": False,
            **config,
        }
    )


def pipeline(**scheduler):
    def make():
        return FluxPipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
            vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.clip(),
            tokenizer=parts.clip_tokenizer(),
            text_encoder_2=parts.t5(),
            tokenizer_2=parts.t5_tokenizer(),
        )

    return parts.ready(make)


def event(pipe, x):
    """Tokens as latents; what is no tokens is latents already."""
    return pipe._unpack_latents(x, *SIZE, pipe.vae_scale_factor) if x.ndim == 3 else x


def packed(pipe, x):
    return pipe._pack_latents(x, *x.shape)


def row(name, **scheduler):
    return Row(
        name,
        pipeline(**scheduler),
        flow(1),
        "flow",
        null="empty",
        branches="c,u",
        guidance="true_cfg_scale",
        call={"negative_prompt": ""},
        size=SIZE,
        event=event,
        packed=packed,
    )


ROWS = [row("flux"), row("flux-dynamic", use_dynamic_shifting=True)]
