"""CogVideoX on still images: transformer on latents of a video VAE, v-prediction with a shifted SNR, T5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family, register
from mmg_diffusers.pipelines.adapters.codecs import StillCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input


class _Transformer(Network):
    """The transformer's call, frames before channels, with the rotary grid of x if it has one.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent.
        grid: the pipeline's rotary grid, from height and width in pixels, frames and device.
    """

    def __init__(self, module: Any, scale: int, grid: Callable[..., Any]) -> None:
        super().__init__(module)
        self.scale, self.grid = scale, grid

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        height, width = (side * self.scale for side in x.shape[-2:])
        rotary = self.module.config.use_rotary_positional_embeddings
        return self.module(
            hidden_states=x.transpose(1, 2),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            timestep=told(time, x),
            image_rotary_emb=self.grid(height, width, x.shape[2], x.device) if rotary else None,
            return_dict=False,
        )[0].transpose(1, 2)


class CogVideoXCodec(StillCodec):
    """Latents, scaled; T5's token states. The transformer is given no mask."""

    @property
    def native_size(self) -> tuple[int, int]:
        config = self.network.config
        return config.sample_height * self.scale, config.sample_width * self.scale

    def limits(self) -> dict[str, int]:
        return {"tokenizer": self.network.config.max_text_seq_length}

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": self.limits()["tokenizer"]}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            max_sequence_length=self.limits()["tokenizer"],
            device=self.device,
        )
        return {"encoder_hidden_states": states}


@register
class CogVideoX(Family):
    """CogVideoX 2B and 5B, measured on images as videos of one frame. No prompt is the encoded empty prompt."""

    name = "CogVideoX"
    pipelines = ("CogVideoXPipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        grid = self.pipe._prepare_rotary_positional_embeddings
        return _Transformer(self.pipe.transformer, self.codec().scale, grid)

    def codec(self) -> CogVideoXCodec:
        return CogVideoXCodec(self.pipe)

    def refusal(self) -> str | None:
        pipe, config = self.pipe, self.pipe.transformer.config
        if config.get("patch_size_t") is not None:
            return (
                f"this CogVideoX (1.5) takes {config.patch_size_t} frames of its latent together, and a still image has one: its "
                "pipeline draws the others of noise, so that they are no data"
            )
        return distilled(pipe, pipe.transformer) or other_input(pipe.transformer, pipe.vae.config.latent_channels)
