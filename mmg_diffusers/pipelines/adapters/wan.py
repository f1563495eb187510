"""Wan 2.1 and 2.2: transformer on latents of a video VAE, rectified flow, one T5-like encoder; two networks by level in 2.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.internals import mended
from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import VideoCodec
from mmg_diffusers.pipelines.adapters.networks import Network, each_group, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that the text encoder is given, and the size in pixels and frames, the defaults of the pipeline: no config says them.
_TOKENS = 512
_SIZE, _FRAMES = (480, 832), 81
_SKYREELS_SIZE, _SKYREELS_FRAMES = (544, 960), 97


class _Transformer(Network):
    """The transformer's call.

    Args:
        module: the transformer of diffusers.
        by_token: whether every token is told a time, all of them the same (Wan 2.2 of 5B).
    """

    def __init__(self, module: Any, by_token: bool) -> None:
        super().__init__(module)
        self.by_token = by_token

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        time = told(time, x)
        if self.by_token:
            # The pipeline counts tokens of two latents along either side, whatever the transformer takes.
            frames, height, width = x.shape[2:]
            time = time[:, None].expand(-1, frames * -(-height // 2) * -(-width // 2))
        return self.module(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            return_dict=False,
        )[0]


class _Experts(nn.Module):
    """Two transformers: one for the times from a boundary on, and one for those before it.

    Args:
        noisy, clean: the two, called alike.
        boundary: the least time that the first is told.
    """

    def __init__(self, noisy: _Transformer, clean: _Transformer, boundary: float) -> None:
        super().__init__()
        self.noisy, self.clean, self.boundary = noisy, clean, boundary

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of what both take."""
        return self.noisy.dtype

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        # As the pipeline's times are compared: in float32, in which a time that is on the boundary stays there.
        is_noisy = time.float() >= self.boundary

        def run(rows: Tensor, noisy: Tensor) -> Tensor:
            expert = self.noisy if bool(noisy) else self.clean
            return expert(x[rows], time[rows], encoder_hidden_states[rows])

        return each_group(is_noisy, run)


class WanCodec(VideoCodec):
    """Latents, normalised by channel; token states, zeros after a prompt's last (the transformer is given no mask)."""

    variable = "VAE latent (posterior mode) of a video"
    normalised = True

    @property
    def scale(self) -> int:
        return self.autoencoder.config.scale_factor_spatial

    @property
    def patch(self) -> int:
        return max(self.network.config.patch_size[1:])

    @property
    def places(self) -> int:
        return self.network.config.rope_max_seq_len

    @property
    def taken(self) -> int:
        return self.network.config.patch_size[0]

    @property
    def native_size(self) -> tuple[int, int]:
        height, width = self.network.config.get("sample_size", _SIZE)
        return height, width

    @property
    def native_frames(self) -> int:
        return _FRAMES

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def rewritten(self, prompt: str) -> str:
        return mended(self.pipe, prompt) or ""

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


class SkyReelsCodec(WanCodec):
    """As Wan's, with another size and length of its own."""

    @property
    def native_size(self) -> tuple[int, int]:
        return _SKYREELS_SIZE

    @property
    def native_frames(self) -> int:
        return _SKYREELS_FRAMES


_SEES_MORE = "its network is also given {}; measure WanPipeline, whose network is given noise and text alone"


@register
class Wan(Family):
    """Wan 2.1 and 2.2, text to video. No prompt is the encoded empty prompt.

    With `boundary_ratio` the network at each level is the one that the pipeline would call there.
    """

    name = "Wan"
    pipelines = ("WanPipeline", "WanVideoToVideoPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {}
    refused: ClassVar = {
        "WanImageToVideoPipeline": _SEES_MORE.format("the first frame"),
        "WanVACEPipeline": _SEES_MORE.format("a video and masks"),
        "WanAnimatePipeline": _SEES_MORE.format("a character and its poses"),
        "LucyEditPipeline": _SEES_MORE.format("the video that is edited"),
        "ChronoEditPipeline": _SEES_MORE.format("the image that is edited"),
    }

    @property
    def boundary(self) -> float | None:
        """The least time that the first of two networks is told; ``None`` if there is one network."""
        ratio = self.pipe.config.get("boundary_ratio")
        return None if ratio is None else ratio * self.pipe.scheduler.config.num_train_timesteps

    def networks(self) -> tuple[nn.Module, ...]:
        if self.boundary is None:
            return (self.pipe.transformer,)
        return (self.pipe.transformer, self.pipe.transformer_2)

    def network(self) -> nn.Module:
        by_token = bool(self.pipe.config.get("expand_timesteps"))
        parts = [_Transformer(network, by_token) for network in self.networks()]
        return parts[0] if self.boundary is None else _Experts(*parts, boundary=self.boundary)

    def codec(self) -> WanCodec:
        return WanCodec(self.pipe)

    def describe(self) -> dict[str, Any]:
        boundary = self.boundary
        said = (
            {}
            if boundary is None
            else {"networks": f"transformer for times from {boundary:g}, transformer_2 for others"}
        )
        return {**super().describe(), **said}

    def refusal(self) -> str | None:
        pipe = self.pipe
        if mended(pipe, "") is None:
            return "its pipeline cannot encode a prompt without ftfy; run pip install ftfy"
        if self.boundary is not None and getattr(pipe, "transformer_2", None) is None:
            return "this is Wan 2.2 with two networks (boundary_ratio), and it has no transformer_2; load it with both"
        for network in self.networks():
            reason = distilled(pipe, network) or other_input(network, pipe.vae.config.z_dim)
            if reason is not None:
                return reason
        return None


@register
class SkyReels(Wan):
    """SkyReels V2, text to video without diffusion forcing: a Wan with a transformer of its own."""

    name = "SkyReels V2"
    pipelines = ("SkyReelsV2Pipeline",)
    refused: ClassVar = {}

    def codec(self) -> SkyReelsCodec:
        return SkyReelsCodec(self.pipe)

    def refusal(self) -> str | None:
        config = self.pipe.transformer.config
        if config.get("inject_sample_info"):
            return "the transformer is also told a number of pictures a second (inject_sample_info), as for diffusion forcing"
        return super().refusal()
