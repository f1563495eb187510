"""Rows of Wan, 2.1 and 2.2."""

from types import SimpleNamespace

from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def transformer(kind=WanTransformer3DModel):
    return kind(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


def pipeline(scheduler, experts=False, kind=WanPipeline, network=WanTransformer3DModel, **config):
    def make():
        more = {"transformer_2": transformer()} if experts else {}
        return kind(
            tokenizer=parts.t5_tokenizer(),
            text_encoder=parts.t5(),
            vae=AutoencoderKLWan(
                base_dim=4,
                z_dim=4,
                dim_mult=[1, 1, 1, 1],
                num_res_blocks=1,
                temperal_downsample=[False, True, True],
                latents_mean=[-0.76, -0.71, 0.91, 0.1],
                latents_std=[2.8, 1.5, 2.3, 2.6],
            ),
            scheduler=scheduler(),
            transformer=transformer(network),
            **more,
            **config,
        )

    return parts.ready(make)


def skyreels():
    # Its pipeline needs ftfy, which leaves the plain letters of the rows as they are.
    if not hasattr(pipeline_skyreels_v2, "ftfy"):
        pipeline_skyreels_v2.ftfy = SimpleNamespace(fix_text=lambda text: text)
    return pipeline(unipc, kind=SkyReelsV2Pipeline, network=SkyReelsV2Transformer3DModel)()


def unipc():
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def euler():
    return FlowMatchEulerDiscreteScheduler(shift=5.0)


def images(pipe, pixels):
    return pipe.vae.encode(pixels.transpose(1, 2)).latent_dist.mode()


def row(name, build, frames=5, **more):
    return Row(
        name,
        build,
        flow(1000),
        "flow",
        call={"num_frames": frames},
        branches="c,u",
        images=images,
        size=(16, 32),
        frames=frames,
        **more,
    )


# Of the row's three times two are from the boundary on, and one is before it.
EXPERTS = pipeline(unipc, experts=True, boundary_ratio=0.7)

ROWS = [
    row("wan-unipc", pipeline(unipc)),
    row("wan-euler", pipeline(euler), frames=9),
    row("wan-still", pipeline(euler), frames=1),
    row("wan-2.2-experts", EXPERTS, second="transformer_2"),
    row("wan-2.2-times-by-token", pipeline(unipc, expand_timesteps=True), each=lambda told: told[:, 0]),
    row("skyreels-v2", skyreels),
]
