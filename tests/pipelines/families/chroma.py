"""Rows of Chroma."""

from diffusers import (
    ChromaImg2ImgPipeline,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.pipelines.families import parts
from tests.pipelines.families.flux import PACKED
from tests.pipelines.families.row import Row, flow
from tests.pipelines.families.stable_diffusion_xl import GREY


def pipeline(kind=ChromaPipeline):
    def make():
        pipe = kind(
            transformer=ChromaTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                axes_dims_rope=(4, 2, 2),
                approximator_hidden_dim=16,
                approximator_layers=1,
                approximator_num_channels=16,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.t5(),
            tokenizer=parts.t5_tokenizer(),
        )
        pipe.default_sample_size = 8
        return pipe

    return parts.ready(make)


TRUE = {**PACKED, "guidance": "guidance_scale"}
ROWS = [
    Row("chroma", pipeline(), flow(1), "flow", **TRUE),
    Row(
        "chroma-img2img",
        pipeline(ChromaImg2ImgPipeline),
        flow(1),
        "flow",
        call={"image": GREY, "strength": 0.8, "negative_prompt": [""]},
        **TRUE,
    ),
]
