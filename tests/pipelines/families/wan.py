"""Rows of Wan, on videos of one frame."""

from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def transformer():
    network = WanTransformer3DModel(
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
    # A folder does not say it; the pipeline draws 480 x 832 pixels unless it is told otherwise.
    network.register_to_config(sample_size=(64, 64))
    return network


def pipeline(scheduler, **config):
    def make():
        return WanPipeline(
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
            transformer=transformer(),
            **config,
        )

    return parts.ready(make)


def unipc():
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def euler():
    return FlowMatchEulerDiscreteScheduler(shift=5.0)


def images(pipe, pixels):
    return pipe.vae.encode(pixels[:, :, None]).latent_dist.mode()


def row(name, scheduler):
    return Row(
        name,
        pipeline(scheduler),
        flow(1000),
        "flow",
        call={"num_frames": 1},
        branches="c,u",
        images=images,
    )


ROWS = [row("wan-unipc", unipc), row("wan-euler", euler)]
