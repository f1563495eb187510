"""Rows of Stable Diffusion 1.x and 2.x."""

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp


def unet(width=16, channels=4, **config):
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=4,
        **config,
    )


def pipeline(scheduler):
    return parts.ready(
        lambda: StableDiffusionPipeline(
            vae=parts.vae(),
            text_encoder=parts.clip(),
            tokenizer=parts.clip_tokenizer(),
            unet=unet(),
            scheduler=scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def ddim():
    return DDIMScheduler(**parts.SD, clip_sample=False, steps_offset=1)


def euler_v():
    return EulerDiscreteScheduler(**parts.SD, prediction_type="v_prediction", timestep_spacing="trailing")


def dpm():
    return DPMSolverMultistepScheduler(**parts.SD)


ROWS = [
    Row("sd-ddim", pipeline(ddim), vp, "epsilon", network="unet"),
    Row("sd-euler-v", pipeline(euler_v), vp, "v", network="unet"),
    Row("sd-dpm", pipeline(dpm), vp, "epsilon", network="unet"),
]
