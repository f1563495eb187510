"""Lumina 2: a transformer of VAE latents, rectified flow told by its signal, Gemma with an instruction before each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that Gemma is given, those of the instruction among them: the default of the pipeline.
_TOKENS = 256
# What the pipeline puts between its instruction and a prompt.
_BETWEEN = " <Prompt Start> "


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        return self.module(
            hidden_states=x,
            timestep=told(time, x),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_attention_mask=encoder_attention_mask,
            return_dict=False,
        )[0]


class Lumina2Codec(LatentCodec):
    """VAE latents, shifted and scaled; Gemma's token states with their mask, an instruction before each prompt.

    The empty prompt that stands for no prompt has none: so an empty prompt that is measured isn't the null.
    """

    @property
    def places(self) -> int:
        return min(self.network.config.axes_lens[1:])

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), False, device=self.device, max_sequence_length=_TOKENS
        )
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    @torch.inference_mode()
    def encode_null(self, kind: str) -> dict[str, Tensor]:
        if kind != "empty":
            return super().encode_null(kind)
        _, _, states, mask = self.pipe.encode_prompt([""], True, device=self.device, max_sequence_length=_TOKENS)
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def rewritten(self, prompt: str) -> str:
        return self.pipe.system_prompt + _BETWEEN + prompt

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), _TOKENS)

    def text_settings(self) -> dict[str, Any]:
        return {"text_tokens": _TOKENS, "instruction": self.rewritten("")}


@register
class Lumina2(Family):
    """Lumina 2. No prompt is the encoded empty prompt, without the instruction that stands before the others."""

    name = "Lumina 2"
    pipelines = ("Lumina2Pipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {"prediction": "reversed_flow_prediction", "time_scale": 1.0, "told": "signal"}

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> Lumina2Codec:
        return Lumina2Codec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        return {"empty": "the encoded empty prompt, without an instruction before it"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
