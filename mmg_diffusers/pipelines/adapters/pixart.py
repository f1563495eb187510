"""PixArt-alpha and PixArt-Sigma: transformers on VAE latents, T5 text with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import CleaningCodec, LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register


class _Transformer(Network):
    """The transformer's call, with the image's size and aspect in pixels if the model was trained with them.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent; ``None`` tells no sizes.
    """

    def __init__(self, module: Any, scale: int | None) -> None:
        super().__init__(module)
        self.scale = scale

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        return self.module(
            x,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_attention_mask=encoder_attention_mask,
            timestep=told(time, x),
            added_cond_kwargs=self._sizes(x),
            return_dict=False,
        )[0]

    def _sizes(self, x: Tensor) -> dict[str, Tensor | None]:
        if self.scale is None:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.scale for side in x.shape[-2:])
        size, aspect = x.new_tensor([height, width]), x.new_tensor([height / width])
        return {"resolution": size.expand(len(x), -1), "aspect_ratio": aspect.expand(len(x), -1)}


class PixArtCodec(CleaningCodec, LatentCodec):
    """VAE latents, T5 token states and their mask."""

    most: ClassVar[int]
    """Tokens that T5 is given."""

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            clean_caption=self.cleans,
            max_sequence_length=self.most,
        )
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), self.most)


class PixArtAlphaCodec(PixArtCodec):
    """With 120 tokens."""

    most = 120


class PixArtSigmaCodec(PixArtCodec):
    """With 300 tokens."""

    most = 300


class _PixArt(Family):
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

    @property
    def learned_variance(self) -> bool:
        config = self.pipe.transformer.config
        return config.out_channels == 2 * config.in_channels

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)


@register
class PixArtAlpha(_PixArt):
    """PixArt-alpha. No prompt is the encoded empty prompt, with its own mask; models of 1024 pixels are told the image's size."""

    name = "PixArt-alpha"
    pipelines = ("PixArtAlphaPipeline",)

    def network(self) -> nn.Module:
        sized = self.pipe.transformer.config.sample_size == 128
        return _Transformer(self.pipe.transformer, self.codec().scale if sized else None)

    def codec(self) -> PixArtCodec:
        return PixArtAlphaCodec(self.pipe)


@register
class PixArtSigma(_PixArt):
    """PixArt-Sigma. No prompt is the encoded empty prompt, with its own mask."""

    name = "PixArt-Sigma"
    pipelines = ("PixArtSigmaPipeline", "PixArtSigmaPAGPipeline")

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer, None)

    def codec(self) -> PixArtCodec:
        return PixArtSigmaCodec(self.pipe)
