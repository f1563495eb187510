"""HiDream-I1: a mixture-of-experts transformer of VAE latents, rectified flow, two CLIP encoders, T5 and Llama 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that every text encoder is given, the default of the pipeline.
_TOKENS = 128
# Names of variants that were distilled to a few steps.
_DISTILLED = r"hidream.*-(dev|fast)\b"


class _Transformer(Network):
    """The transformer's call, which wants Llama's states with the layers before the rows."""

    def forward(self, x: Tensor, time: Tensor, t5: Tensor, llama3: Tensor, pooled_embeds: Tensor) -> Tensor:
        return self.module(
            hidden_states=x,
            timesteps=told(time, x),
            encoder_hidden_states_t5=t5.to(x.dtype),
            encoder_hidden_states_llama3=llama3.to(x.dtype).transpose(0, 1),
            pooled_embeds=pooled_embeds.to(x.dtype),
            return_dict=False,
        )[0]


class HiDreamCodec(LatentCodec):
    """VAE latents, shifted and scaled; the token states of T5 and of each of Llama's layers, and CLIP's pooled ones."""

    encoders: ClassVar = {
        "text_encoder": "tokenizer",
        "text_encoder_2": "tokenizer_2",
        "text_encoder_3": "tokenizer_3",
        "text_encoder_4": "tokenizer_4",
    }

    @property
    def tokens(self) -> int:
        # The pipeline shifts times by the most tokens that there may be, whatever the image's size.
        return self.network.max_seq

    def check_size(self, height: int, width: int) -> None:
        tokens = (height // self.multiple) * (width // self.multiple)
        if tokens > self.network.max_seq:
            raise ValueError(
                f"an image of {height} x {width} has {tokens} tokens, more than the {self.network.max_seq} that the transformer "
                "has room for; crop it, or pass resize=True"
            )

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        t5, _, llama3, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False, max_sequence_length=_TOKENS
        )
        return {"t5": t5, "llama3": llama3.transpose(0, 1).contiguous(), "pooled_embeds": pooled}

    def limits(self) -> dict[str, int]:
        return {name: min(_TOKENS, most) for name, most in super().limits().items()}

    def text_settings(self) -> dict[str, Any]:
        return {"text_tokens": _TOKENS}


@register
class HiDream(Family):
    """HiDream-I1-Full. No prompt is the encoded empty prompt. Dev and Fast, which were distilled to a few steps, are refused.

    Sizes are not moved to the native area, as the pipeline does.
    """

    name = "HiDream-I1"
    pipelines = ("HiDreamImagePipeline",)
    parts = (
        *("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"),
        *("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4", "scheduler"),
    )
    flow: ClassVar = {"prediction": "reversed_flow_prediction"}
    distilled_names = _DISTILLED

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> HiDreamCodec:
        return HiDreamCodec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer, self.distilled_names) or other_input(
            transformer, self.pipe.vae.config.latent_channels
        )
