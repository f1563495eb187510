"""CogVideoX 1.0 and 1.5: transformer on latents of a video VAE, v-prediction with a shifted SNR, T5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import VideoCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register
from mmg_diffusers.pipelines.media import Videos


class _Transformer(Network):
    """The transformer's call, frames before channels, with the rotary grid of x if it has one.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent.
        grid: the pipeline's rotary grid, from height and width in pixels, latent frames and device.
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


class CogVideoXCodec(VideoCodec):
    """Latents, scaled; T5's token states. The transformer is given no mask."""

    variable = "VAE latent (posterior mode) of a video"

    @property
    def native_size(self) -> tuple[int, int]:
        config = self.network.config
        return config.sample_height * self.scale, config.sample_width * self.scale

    @property
    def native_frames(self) -> int:
        return self.network.config.sample_frames

    @property
    def taken(self) -> int:
        return self.network.config.get("patch_size_t") or 1

    @property
    def medium(self) -> Videos:
        # Learned positions are of one size; for any other number of frames the transformer would take computed ones.
        learned = self.network.config.use_learned_positional_embeddings
        return Videos(self.group, self.taken, self.native_frames if learned else None)

    def check_size(self, height: int, width: int) -> None:
        if self.network.config.use_learned_positional_embeddings and (height, width) != self.native_size:
            raise ValueError(
                f"{height} x {width} is not the size whose positions this transformer learned; resize to "
                f"{self.native_size[0]} x {self.native_size[1]} with resize=True"
            )

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


_SEES_MORE = "its network is also given {}; measure CogVideoXPipeline, whose network is given noise and text alone"


@register
class CogVideoX(Family):
    """CogVideoX 1.0 (2B, 5B) and 1.5. No prompt is the encoded empty prompt.

    1.5 takes two latents along time together. Where a video's latents are odd in number its pipeline puts one of noise before
    them, that is no data; such videos are refused.
    """

    name = "CogVideoX"
    pipelines = ("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    refused: ClassVar = {
        "CogVideoXImageToVideoPipeline": _SEES_MORE.format("the first frame"),
        "CogVideoXFunControlPipeline": _SEES_MORE.format("a video that controls it"),
        "ConsisIDPipeline": _SEES_MORE.format("a face and the first frame"),
    }

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        grid = self.pipe._prepare_rotary_positional_embeddings
        return _Transformer(self.pipe.transformer, self.codec().scale, grid)

    def codec(self) -> CogVideoXCodec:
        return CogVideoXCodec(self.pipe)

    def refusal(self) -> str | None:
        pipe, config = self.pipe, self.pipe.transformer.config
        if config.get("ofs_embed_dim") is not None:
            return f"the transformer is also told an offset (ofs_embed_dim {shown(config.ofs_embed_dim)}), as for images to video"
        return distilled(pipe, pipe.transformer) or other_input(pipe.transformer, pipe.vae.config.latent_channels)
