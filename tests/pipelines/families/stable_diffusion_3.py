"""Rows of Stable Diffusion 3 and 3.5."""

from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline(with_t5=True, **scheduler):
    def make():
        return StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                out_channels=4,
                pos_embed_max_size=8,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
            vae=parts.vae(scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=parts.clip(projected=True),
            tokenizer=parts.clip_tokenizer(),
            text_encoder_2=parts.clip(projected=True),
            tokenizer_2=parts.clip_tokenizer(pad="!"),
            text_encoder_3=parts.t5() if with_t5 else None,
            tokenizer_3=parts.t5_tokenizer() if with_t5 else None,
        )

    return parts.ready(make)


ROWS = [
    Row("sd3", pipeline(), flow(1000), "flow"),
    Row("sd3-without-t5", pipeline(with_t5=False), flow(1000), "flow"),
    Row("sd3-dynamic", pipeline(use_dynamic_shifting=True), flow(1000), "flow"),
]
