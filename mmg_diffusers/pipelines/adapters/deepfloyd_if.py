"""DeepFloyd IF, stage I: UNet on pixels with T5, epsilon with a learned variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import CleaningCodec, PixelCodec
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that T5 is given, the only number that the pipeline knows.
_TOKENS = 77
_LATER = ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline")


class _UNet(Network):
    """The UNet's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        states = encoder_hidden_states.to(x.dtype)
        return self.module(x, told(time, x), encoder_hidden_states=states, return_dict=False)[0]


class DeepFloydIFCodec(CleaningCodec, PixelCodec):
    """Pixels in [-1, 1]; T5's token states. The UNet is given no mask."""

    denoiser = "unet"

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {**super().text_settings(), "t5_tokens": _TOKENS}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(list(prompts), False, device=self.device, clean_caption=self.cleans)
        return {"encoder_hidden_states": states}


@register
class DeepFloydIF(Family):
    """DeepFloyd IF, stage I. No prompt is the encoded empty prompt.

    Stages II and III are refused: they see the small image, which says what the prompt does.
    """

    name = "DeepFloyd IF stage I"
    pipelines = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline", *_LATER)
    parts = ("unet", "text_encoder", "tokenizer", "scheduler")

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return has_variance(self.pipe.unet)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet)

    def codec(self) -> DeepFloydIFCodec:
        return DeepFloydIFCodec(self.pipe)

    def refusal(self) -> str | None:
        unet = self.pipe.unet
        if type(self.pipe).__name__ in _LATER or unet.config.get("class_embed_type") is not None:
            return (
                "this is a later stage of DeepFloyd IF, whose UNet also sees the small image: what the prompt adds to that is "
                "not what it says of the image. Measure stage I (IFPipeline), whose variable is the small image itself."
            )
        return distilled(self.pipe, unet) or other_input(unet, 3)
