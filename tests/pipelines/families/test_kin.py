"""Pipelines of other tasks whose network is given the noisy latent and text alone are measured as their base is."""

import diffusers
import pytest
import torch

from tests.pipelines.families import parity
from tests.pipelines.families.table import ROWS
from tests.pipelines.families.test_families import pictures

KIN = {
    "sd-ddim": (
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionPAGPipeline",
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGInpaintPipeline",
    ),
    "sdxl-asked-empty": (
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLPAGPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
    ),
    "sd3": (
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3PAGPipeline",
        "StableDiffusion3PAGImg2ImgPipeline",
    ),
    "flux-dedistilled": ("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
    "chroma": ("ChromaImg2ImgPipeline", "ChromaInpaintPipeline"),
    "sana-dpm": ("SanaPAGPipeline",),
    "pixart-sigma": ("PixArtSigmaPAGPipeline",),
    "hunyuandit-1.1": ("HunyuanDiTPAGPipeline",),
    "kolors": ("KolorsImg2ImgPipeline", "KolorsPAGPipeline"),
    "qwen-image": ("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
    "z-image": ("ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
}


@pytest.mark.parametrize(("base", "kind"), [(base, kind) for base, kinds in KIN.items() for kind in kinds])
def test_kin_is_measured_as_its_base_is(base, kind):
    row = next(row for row in ROWS if row.name == base)
    pipe = row.build()
    kin = getattr(diffusers, kind).from_pipe(pipe)
    if hasattr(pipe, "default_sample_size"):
        kin.default_sample_size = pipe.default_sample_size
    one, other = parity.model_of(row, pipe), parity.model_of(row, kin)
    nats = [model(pictures(row, one), list(row.prompts), levels=2).nats for model in (one, other)]
    assert torch.equal(*nats)
    said, of_kin = one.describe(), other.describe()
    assert {name for name in said if said[name] != of_kin[name]} <= {"pipeline"}
