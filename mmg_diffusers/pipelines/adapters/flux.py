"""Flux: a transformer of packed latents, rectified flow, pooled CLIP and T5; with true guidance alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, grid_ids, pack, told, unpack
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES, distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that T5 is given, the default of the pipeline.
_T5_TOKENS = 512


class _Transformer(Network):
    """The transformer's call, with packed latents and the ids of their tokens."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        states = encoder_hidden_states.to(x.dtype)
        out = self.module(
            hidden_states=pack(x),
            timestep=told(time, x),
            pooled_projections=pooled_projections.to(x.dtype),
            encoder_hidden_states=states,
            txt_ids=states.new_zeros(states.shape[1], 3),
            img_ids=grid_ids(x),
            return_dict=False,
        )[0]
        return unpack(out, x)


class FluxCodec(LatentCodec):
    """VAE latents, shifted and scaled; T5's token states and CLIP's pooled one."""

    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
    packed = 2

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, pooled, _ = self.pipe.encode_prompt(list(prompts), device=self.device, max_sequence_length=_T5_TOKENS)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def limits(self) -> dict[str, int]:
        there = super().limits()
        return {name: _T5_TOKENS if name == "tokenizer_2" else most for name, most in there.items()}

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _T5_TOKENS}


@register
class Flux(Family):
    """Flux with an unconditional branch: de-distilled checkpoints, and others that were trained with prompts left out.

    Refused are Flux.1-dev, whose network is told the guidance, and Flux.1-schnell, which was distilled to a few steps. A
    transformer that isn't told the guidance, and whose scheduler is schnell's (no shift of times), is measured if one states
    ``null="empty"``: nothing in its config tells one of schnell's from one that was trained anew.
    """

    name = "Flux"
    pipelines = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    flow: ClassVar = {"time_scale": 1.0}
    refused: ClassVar = {
        **dict.fromkeys(
            ("FluxFillPipeline", "FluxControlPipeline", "FluxControlImg2ImgPipeline", "FluxControlInpaintPipeline"),
            "its network is also given an image or mask, and the guidance; measure a de-distilled FluxPipeline",
        ),
        **dict.fromkeys(
            ("FluxKontextPipeline", "FluxKontextInpaintPipeline"),
            "its network is also given the image that is edited, and the guidance; measure a de-distilled FluxPipeline",
        ),
        "FluxPriorReduxPipeline": "it makes embeddings of images and denoises none; measure a de-distilled FluxPipeline",
        "Flux2Pipeline": (
            f"its network is told the guidance (guidance-distilled), and has no unconditional branch; {CANDIDATES}, with a "
            "denoiser and a codec of your own"
        ),
    }

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> FluxCodec:
        return FluxCodec(self.pipe)

    def null_training(self) -> str:
        return self.describe()["unconditional_branch"]

    def describe(self) -> dict[str, Any]:
        by = "that the user stated null" if self.chosen is not None else "its scheduler, which is not schnell's"
        return {**super().describe(), "unconditional_branch": f"taken to be trained, by {by}"}

    def refusal(self) -> str | None:
        transformer, scheduler = self.pipe.transformer, self.pipe.scheduler.config
        reason = distilled(self.pipe, transformer) or other_input(transformer, 4 * self.pipe.vae.config.latent_channels)
        shifted = scheduler.get("use_dynamic_shifting") or scheduler.get("shift", 1.0) != 1
        if reason is not None or self.chosen is not None or shifted:
            return reason
        return (
            "this Flux transformer is not told the guidance, and its scheduler does not shift times: it is either schnell's, "
            "distilled to a few steps and without an unconditional branch, or was trained with prompts left out, and nothing in "
            f"its config tells which. If it was, say so with null='empty'; else {CANDIDATES}."
        )
