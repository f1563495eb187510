"""Rows of Stable Diffusion XL."""

import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, ln_sigma, vp
from tests.pipelines.families.stable_diffusion import ddim, unet


def pipeline(zeros=True, scheduler=None, **vae):
    def make():
        return StableDiffusionXLPipeline(
            vae=parts.vae(**{"scaling_factor": 0.13025, **vae}),
            text_encoder=parts.clip(),
            text_encoder_2=parts.clip(24, projected=True),
            tokenizer=parts.clip_tokenizer(),
            tokenizer_2=parts.clip_tokenizer(pad="!"),
            unet=unet(
                40,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                transformer_layers_per_block=1,
                projection_class_embeddings_input_dim=24 + 6 * 8,
                use_linear_projection=True,
            ),
            scheduler=(scheduler or ddim)(),
            force_zeros_for_empty_prompt=zeros,
        )

    return parts.ready(make)


def refiner():
    """The second encoder alone, and an aesthetic score in place of the target size."""

    def make():
        return StableDiffusionXLImg2ImgPipeline(
            vae=parts.vae(scaling_factor=0.13025),
            text_encoder=None,
            text_encoder_2=parts.clip(24, projected=True),
            tokenizer=None,
            tokenizer_2=parts.clip_tokenizer(pad="!"),
            unet=unet(
                24,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=24 + 5 * 8,
                use_linear_projection=True,
            ),
            scheduler=ddim(),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
        )

    return parts.ready(make)


def euler():
    return EulerDiscreteScheduler(**parts.SD, timestep_spacing="leading", steps_offset=1)


def edm_playground():
    return DDIMScheduler(**parts.SD, clip_sample=False, prediction_type="v_prediction")


def cosxl():
    return EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.02, sigma_max=100.0
    )


def edm():
    return EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)


PLAYGROUND = {"latents_mean": [-1.6, 1.1, 2.5, -2.0], "latents_std": [8.4, 5.5, 5.2, 4.4], "scaling_factor": 0.5}
GREY = torch.full((1, 3, 16, 16), 0.5)
ROWS = [
    Row("sdxl-zeros-euler", pipeline(scheduler=euler), vp, "epsilon", network="unet"),
    Row("sdxl-asked-empty", pipeline(), vp, "epsilon", network="unet", null="empty", call={"negative_prompt": [""]}),
    Row("sdxl-empty", pipeline(zeros=False), vp, "epsilon", network="unet"),
    Row(
        "sdxl-refiner",
        refiner(),
        vp,
        "epsilon",
        network="unet",
        # The pipeline tells the null another score; that is no matter of the prompt.
        ignore=("added_cond_kwargs.time_ids",),
        call={"image": GREY, "strength": 0.15, "height": ..., "width": ...},
        steps=20,
    ),
    Row("sdxl-normalised-v", pipeline(scheduler=edm_playground, **PLAYGROUND), vp, "v", network="unet"),
    Row("sdxl-normalised-edm", pipeline(scheduler=edm, **PLAYGROUND), ln_sigma, "edm", network="unet"),
    Row("sdxl-continuous-v", pipeline(scheduler=cosxl), ln_sigma, "v", network="unet"),
]
