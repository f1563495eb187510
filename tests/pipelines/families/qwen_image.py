"""Rows of Qwen-Image."""

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageImg2ImgPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.flux import PACKED
from tests.pipelines.families.row import Row, flow
from tests.pipelines.families.stable_diffusion_xl import GREY

# As the folder's, but alike at any size, since tiny ones are loaded at another.
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.7, "max_shift": 0.7, "shift_terminal": 0.02}


def transformer(**config):
    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
        **config,
    )


def pipeline(kind=QwenImagePipeline):
    def make():
        pipe = kind(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC),
            vae=AutoencoderKLQwenImage(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 2],
                num_res_blocks=1,
                temperal_downsample=[False],
                latents_mean=[-0.7, 0.9, 0.2, 1.5],
                latents_std=[2.8, 1.4, 2.3, 1.9],
            ),
            text_encoder=parts.qwen_vl(),
            tokenizer=parts.qwen_tokenizer(),
        )
        pipe.default_sample_size = 8
        return pipe

    return parts.ready(make)


def renormed(c, u, g):
    guided = u + g * (c - u)
    return guided * (torch.norm(c, dim=-1, keepdim=True) / torch.norm(guided, dim=-1, keepdim=True))


def frame(pipe, images):
    return pipe.vae.encode(images[:, :, None]).latent_dist.mode()[:, :, 0]


COMMON = {**PACKED, "combine": renormed, "images": frame}
ROWS = [
    Row("qwen-image", pipeline(), flow(1), "flow", call={"negative_prompt": " "}, **COMMON),
    Row("qwen-image-empty", pipeline(), flow(1), "flow", null="empty", call={"negative_prompt": ""}, **COMMON),
    Row(
        "qwen-image-img2img",
        pipeline(QwenImageImg2ImgPipeline),
        flow(1),
        "flow",
        call={"negative_prompt": " ", "image": GREY, "strength": 0.8},
        **COMMON,
    ),
]
