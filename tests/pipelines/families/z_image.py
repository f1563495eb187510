"""Rows of Z-Image."""

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImageImg2ImgPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow
from tests.pipelines.families.stable_diffusion_xl import GREY


def transformer(**config):
    return ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[512, 16, 16],
        **config,
    )


def pipeline(kind=ZImagePipeline):
    def make():
        made = transformer()
        for name in ("x_pad_token", "cap_pad_token"):
            # diffusers leaves these empty, for a checkpoint's.
            getattr(made, name).data.normal_()
        pipe = kind(
            transformer=made,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
            vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.qwen(),
            tokenizer=parts.qwen_tokenizer(),
        )
        pipe.default_sample_size = 8
        return pipe

    return parts.ready(make)


def without_frames(pipe, x):
    return x[:, :, 0] if x.ndim == 5 else x


LISTS = {
    "sign": -1,
    "branches": "cu",
    "time": "t",
    # The pipeline's guidance counts from the prompt's branch.
    "combine": lambda c, u, g: (c + g * (c - u))[:, :, 0],
    "event": without_frames,
    "packed": lambda pipe, x: list(x[:, :, None].unbind()),
}
ROWS = [
    Row("z-image", pipeline(), flow(1, signal=True), "-flow", **LISTS),
    Row(
        "z-image-img2img",
        pipeline(ZImageImg2ImgPipeline),
        flow(1, signal=True),
        "-flow",
        call={"image": GREY, "strength": 0.8},
        **LISTS,
    ),
]
