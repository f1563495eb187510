"""Wan 2.1 on still images: transformer on latents of a video VAE, rectified flow, one T5-like encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.pipelines.adapters.base import Family, register
from mmg_diffusers.pipelines.adapters.codecs import StillCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input

# Tokens that the text encoder is given, and the size in pixels, the defaults of the pipeline: no config says them.
_TOKENS = 512
_SIZE = (480, 832)


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.module(
            hidden_states=x,
            timestep=told(time, x),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            return_dict=False,
        )[0]


class WanCodec(StillCodec):
    """Latents, normalised by channel; token states, zeros after a prompt's last (the transformer is given no mask)."""

    normalised = True

    @property
    def scale(self) -> int:
        return self.autoencoder.config.scale_factor_spatial

    @property
    def patch(self) -> int:
        return max(self.network.config.patch_size[1:])

    @property
    def native_size(self) -> tuple[int, int]:
        height, width = self.network.config.get("sample_size", _SIZE)
        return height, width

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def rewritten(self, prompt: str) -> str:
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        return prompt_clean(prompt)

    def text_settings(self) -> dict[str, Any]:
        from diffusers.utils import is_ftfy_available

        mended = "mended by ftfy" if is_ftfy_available() else "not mended by ftfy, which is not installed"
        return {"prompts": f"spaces joined, HTML entities read, {mended}", "t5_tokens": _TOKENS}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=_TOKENS, device=self.device
        )
        return {"encoder_hidden_states": states}


@register
class Wan(Family):
    """Wan 2.1, text to video, measured on images as videos of one frame. No prompt is the encoded empty prompt."""

    name = "Wan"
    pipelines = ("WanPipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> WanCodec:
        return WanCodec(self.pipe)

    def refusal(self) -> str | None:
        pipe, config = self.pipe, self.pipe.config
        if config.get("boundary_ratio") is not None or getattr(pipe, "transformer_2", None) is not None:
            return (
                "this is Wan 2.2 with two networks, one for noisy levels and one for clean ones, which is not supported"
            )
        if config.get("expand_timesteps"):
            return "this Wan 2.2 tells every token a time of its own (expand_timesteps), which is not supported"
        reason = distilled(pipe, pipe.transformer) or other_input(pipe.transformer, pipe.vae.config.z_dim)
        if reason is None and not isinstance(self.convention(), RectifiedFlow):
            return (
                f"the scheduler, {type(pipe.scheduler).__name__}, is not set up for a flow, which Wan was trained for"
            )
        return reason
