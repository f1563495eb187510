"""Rows of Flux: de-distilled, by its scheduler or by what the user states."""

from diffusers import FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow
from tests.pipelines.families.stable_diffusion_xl import GREY

# As the times of de-distilled checkpoints are shifted, but alike at any size, since tiny ones are loaded at another.
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.9, "max_shift": 0.9}


def transformer(channels=16, guidance=False):
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 2, 2),
    )


def pipeline(kind=FluxPipeline, guidance=False, channels=16, **scheduler):
    def make():
        pipe = kind(
            transformer=transformer(channels, guidance),
            scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
            vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.clip(),
            tokenizer=parts.clip_tokenizer(),
            text_encoder_2=parts.t5(),
            tokenizer_2=parts.t5_tokenizer(),
        )
        pipe.default_sample_size = 8
        return pipe

    return parts.ready(make)


def unpacked(pipe, x):
    side = int(pipe.vae_scale_factor * 2 * x.shape[1] ** 0.5)
    return FluxPipeline._unpack_latents(x, side, side, pipe.vae_scale_factor)


def packed(pipe, x):
    return FluxPipeline._pack_latents(x, *x.shape)


PACKED = {"guidance": "true_cfg_scale", "branches": "c,u", "event": unpacked, "packed": packed}
ROWS = [
    Row("flux-dedistilled", pipeline(**DYNAMIC), flow(1), "flow", call={"negative_prompt": ""}, **PACKED),
    Row("flux-stated", pipeline(), flow(1), "flow", null="empty", call={"negative_prompt": ""}, **PACKED),
    Row(
        "flux-img2img",
        pipeline(FluxImg2ImgPipeline, **DYNAMIC),
        flow(1),
        "flow",
        call={"negative_prompt": "", "image": GREY, "strength": 0.8},
        **PACKED,
    ),
]
