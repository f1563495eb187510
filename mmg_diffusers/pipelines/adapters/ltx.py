"""LTX-Video: a transformer of packed latents of a video VAE, rectified flow, T5 with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import VideoCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens of text, pictures a second, and the size in pixels and frames, the defaults of the pipeline: no config says them.
_TOKENS, _RATE = 128, 25
_SIZE, _FRAMES = (512, 704), 161


class _Transformer(Network):
    """The transformer's call, with packed latents, their size, and how far apart they lie in pixels and in seconds.

    Args:
        module: the transformer of diffusers.
        scale, group: pixels and pictures for one latent.
    """

    def __init__(self, module: Any, scale: int, group: int) -> None:
        super().__init__(module)
        self.distances = (group / _RATE, scale, scale)

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        frames, height, width = x.shape[2:]
        out = self.module(
            hidden_states=x.flatten(2).transpose(1, 2),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            timestep=told(time, x),
            encoder_attention_mask=encoder_attention_mask,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=self.distances,
            return_dict=False,
        )[0]
        return out.transpose(1, 2).reshape(x.shape)


class LTXCodec(VideoCodec):
    """Latents, normalised by channel; T5's token states with their mask."""

    variable = "VAE latent (posterior mode) of a video"

    @property
    def scale(self) -> int:
        return self.autoencoder.spatial_compression_ratio

    @property
    def group(self) -> int:
        return self.autoencoder.temporal_compression_ratio

    @property
    def native_size(self) -> tuple[int, int]:
        return _SIZE

    @property
    def native_frames(self) -> int:
        return _FRAMES

    def scaling(self) -> tuple[Any, Any, float, float]:
        vae = self.autoencoder
        return vae.latents_mean.tolist(), vae.latents_std.tolist(), 0.0, vae.config.scaling_factor

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _TOKENS}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "pictures_a_second": _RATE}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=_TOKENS, device=self.device
        )
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


@register
class LTX(Family):
    """LTX-Video, text to video. No prompt is the encoded empty prompt. The network is told 25 pictures a second in both branches."""

    name = "LTX-Video"
    pipelines = ("LTXPipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {}

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        codec = self.codec()
        return _Transformer(self.pipe.transformer, codec.scale, codec.group)

    def codec(self) -> LTXCodec:
        return LTXCodec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        patches = transformer.config.patch_size, transformer.config.patch_size_t
        if patches != (1, 1):
            return f"the transformer takes patches of {patches[0]} latents and {patches[1]} along time, where one of each is known"
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
