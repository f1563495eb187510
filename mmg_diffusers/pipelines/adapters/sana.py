"""Sana: linear transformer on latents of a deep autoencoder, rectified flow, Gemma with an instruction before each prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.denoisers.conventions import Convention, RectifiedFlow
from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES, distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens of a prompt that the transformer is given, the default of the pipeline.
_TOKENS = 300


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        return self.module(
            x,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_attention_mask=encoder_attention_mask,
            timestep=told(time, x),
            return_dict=False,
        )[0]


class SanaCodec(LatentCodec):
    """Latents of the deep autoencoder, scaled; Gemma's token states with their mask, of prompts in lower case.

    The pipeline puts an instruction before a prompt, by default, and none before the empty one that stands for no prompt: so
    an empty prompt that is measured isn't the null.
    """

    @property
    def scale(self) -> int:
        return 2 ** (len(self.pipe.vae.config.encoder_block_out_channels) - 1)

    @property
    def _instruction(self) -> list[str]:
        """The default of the pipeline's class."""
        parameters = inspect.signature(type(self.pipe).__call__).parameters
        return list(parameters["complex_human_instruction"].default or ())

    @torch.inference_mode()
    def _encode(self, prompts: Sequence[str], instruction: list[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts),
            False,
            device=self.device,
            clean_caption=False,
            max_sequence_length=_TOKENS,
            complex_human_instruction=instruction,
        )
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return self._encode(prompts, self._instruction)

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        return self._encode([""], []) if kind == "empty" else super().encode_null(kind)

    def rewritten(self, prompt: str) -> str:
        return "\n".join(self._instruction) + prompt.lower().strip()

    def limits(self) -> dict[str, int]:
        there = super().limits()
        before = "\n".join(self._instruction)
        return {name: len(getattr(self.pipe, name).encode(before)) + _TOKENS - 2 for name in there}

    def text_settings(self) -> dict[str, Any]:
        said = "\n".join(self._instruction)
        return {"prompts": "in lower case, not cleaned", "text_tokens": _TOKENS, "instruction": said}


@register
class Sana(Family):
    """Sana. No prompt is the encoded empty prompt, without the instruction that stands before the others.

    Sizes are not moved to the nearest of its training, as the pipeline does.
    """

    name = "Sana"
    pipelines = ("SanaPipeline", "SanaPAGPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {}
    refused: ClassVar = dict.fromkeys(
        ("SanaSprintPipeline", "SanaSprintImg2ImgPipeline"),
        "it is distilled to a few steps, told the guidance, and was never trained without a prompt; measure the Sana that it "
        f"was distilled from, or {CANDIDATES}, with a denoiser of your own",
    )

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return has_variance(self.pipe.transformer)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> SanaCodec:
        return SanaCodec(self.pipe)

    def convention(self) -> Convention:
        convention, scale = super().convention(), self.pipe.transformer.config.get("timestep_scale", 1.0)
        assert isinstance(convention, RectifiedFlow)
        return replace(convention, time_scale=convention.time_scale * scale)

    def nulls(self) -> Mapping[str, str]:
        return {"empty": "the encoded empty prompt, without an instruction before it"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
