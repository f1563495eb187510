"""Rows of DeepFloyd IF's first stage."""

from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp


def unet(**config):
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        **{"in_channels": 3, "out_channels": 6, **config},
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    )


def pipeline(**config):
    return parts.ready(
        lambda: IFPipeline(
            tokenizer=parts.t5_tokenizer(77),
            text_encoder=parts.t5(),
            unet=unet(**config),
            scheduler=DDPMScheduler(
                num_train_timesteps=1000,
                beta_schedule="squaredcos_cap_v2",
                variance_type="learned_range",
                prediction_type="epsilon",
                clip_sample=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            watermarker=None,
            requires_safety_checker=False,
        )
    )


ROWS = [
    Row(
        "deepfloyd-if",
        pipeline(),
        vp,
        "epsilon",
        call={"clean_caption": False},
        network="unet",
        learned_variance=True,
        prompts=("A Red Dot ", "a large blue square, far off"),
    )
]
