"""PixArt-alpha and PixArt-Sigma: DiT on VAE latents with cross attention to T5, epsilon with a learned variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family, register
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input


class _Transformer(Network):
    """The transformer's call, with the image's size in pixels and its aspect ratio if it was made to be told them.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent.
    """

    def __init__(self, module: Any, scale: int) -> None:
        super().__init__(module)
        self.scale = scale

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        size: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.module.use_additional_conditions:
            height, width = (side * self.scale for side in x.shape[-2:])
            size["resolution"] = x.new_tensor([height, width]).expand(len(x), -1)
            size["aspect_ratio"] = x.new_tensor([height / width]).expand(len(x), -1)
        return self.module(
            x,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_attention_mask=encoder_attention_mask,
            timestep=told(time, x),
            added_cond_kwargs=size,
            return_dict=False,
        )[0]


class PixArtCodec(LatentCodec):
    """VAE latents; T5's token states with their mask, of prompts in lower case.

    The pipelines also clean captions, if bs4 and ftfy are installed; that is left out, so that no number depends on it.
    """

    def rewritten(self, prompt: str) -> str:
        return prompt.lower().strip()

    def limits(self) -> dict[str, int]:
        return {"tokenizer": 300 if "Sigma" in type(self.pipe).__name__ else 120}

    def text_settings(self) -> dict[str, Any]:
        return {"prompts": "in lower case, not cleaned", "t5_tokens": self.limits()["tokenizer"]}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts),
            False,
            device=self.device,
            clean_caption=False,
            max_sequence_length=self.limits()["tokenizer"],
        )
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


@register
class PixArt(Family):
    """PixArt-alpha and PixArt-Sigma. No prompt is the encoded empty prompt with its own mask.

    The size that a 1024-pixel alpha is told is the image's own, in both branches; sizes are not moved to the nearest of its
    training, as the pipelines do.
    """

    name = "PixArt"
    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return has_variance(self.pipe.transformer)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer, self.codec().scale)

    def codec(self) -> PixArtCodec:
        return PixArtCodec(self.pipe)

    def describe(self) -> dict[str, Any]:
        is_told = self.pipe.transformer.use_additional_conditions
        return {**super().describe(), "size": "the image's own, told in both branches" if is_told else "not told"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
