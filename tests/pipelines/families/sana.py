"""Rows of Sana."""

from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline(scheduler, twice=1, **config):
    def make():
        return SanaPipeline(
            transformer=SanaTransformer2DModel(
                in_channels=4,
                out_channels=4 * twice,
                num_attention_heads=2,
                attention_head_dim=4,
                num_layers=1,
                num_cross_attention_heads=2,
                cross_attention_head_dim=4,
                cross_attention_dim=8,
                caption_channels=16,
                sample_size=16,
                **config,
            ),
            scheduler=scheduler(),
            vae=AutoencoderDC(
                latent_channels=4,
                attention_head_dim=2,
                encoder_block_types=("ResBlock", "EfficientViTBlock"),
                decoder_block_types=("ResBlock", "EfficientViTBlock"),
                encoder_block_out_channels=(8, 8),
                decoder_block_out_channels=(8, 8),
                encoder_layers_per_block=(1, 1),
                decoder_layers_per_block=(1, 1),
                encoder_qkv_multiscales=((), (5,)),
                decoder_qkv_multiscales=((), (5,)),
                scaling_factor=0.41407,
            ),
            text_encoder=parts.gemma(),
            tokenizer=parts.gemma_tokenizer(),
        )

    return parts.ready(make)


def dpm():
    return DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")


OWN_SIZE = {"use_resolution_binning": False}
ROWS = [
    Row("sana-dpm", pipeline(dpm), flow(1000), "flow", call=OWN_SIZE),
    Row(
        "sana-euler-scaled",
        pipeline(FlowMatchEulerDiscreteScheduler, twice=2, timestep_scale=0.001),
        flow(1),
        "flow",
        call=OWN_SIZE,
        learned_variance=True,
    ),
]
