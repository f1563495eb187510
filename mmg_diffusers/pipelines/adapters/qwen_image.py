"""Qwen-Image: a transformer of packed latents, rectified flow, a language model whose template surrounds each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, pack, told, unpack
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens after the template's first ones that the transformer is given, the default of the pipeline.
_TOKENS = 512
# Entries of the transformer's config that are set where it is also given an image to edit or layers.
_MORE_INPUTS = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")


class _Transformer(Network):
    """The transformer's call, with packed latents and their size in tokens; with a mask if something is filled up."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        out = self.module(
            hidden_states=pack(x),
            timestep=told(time, x),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_hidden_states_mask=None if bool(mask.all()) else mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(x),
            return_dict=False,
        )[0]
        return unpack(out, x)


class QwenImageCodec(LatentCodec):
    """Latents of one frame of a video autoencoder, normalised channel by channel; the language model's token states."""

    normalised = True
    packed = 2

    @property
    def scale(self) -> int:
        return 2 ** len(self.pipe.vae.config.temperal_downsample)

    def read(self, images: Tensor) -> Tensor:
        return super().read(images[:, :, None])[:, :, 0]

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask = self.pipe.encode_prompt(list(prompts), device=self.device, max_sequence_length=_TOKENS)
        # The pipeline's mask is None if nothing is filled up.
        return {"encoder_hidden_states": states, "mask": states.new_ones(states.shape[:2]) if mask is None else mask}

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        return self.encode_prompts([" "]) if kind == "space" else super().encode_null(kind)

    def rewritten(self, prompt: str) -> str:
        return self.pipe.prompt_template_encode.split("{}")[0] + prompt

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), int(self.pipe.prompt_template_encode_start_idx) + _TOKENS)

    def text_settings(self) -> dict[str, Any]:
        return {"text_tokens": _TOKENS, "instruction": self.pipe.prompt_template_encode}


@register
class QwenImage(Family):
    """Qwen-Image. No prompt is a space, as its documentation has it; ``null="empty"`` takes the empty prompt.

    What is refused takes an image to edit, is told the guidance, or was distilled.
    """

    name = "Qwen-Image"
    pipelines = ("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {"time_scale": 1.0}
    refused: ClassVar = dict.fromkeys(
        (
            *("QwenImageEditPipeline", "QwenImageEditPlusPipeline", "QwenImageEditInpaintPipeline"),
            "QwenImageLayeredPipeline",
        ),
        "its network is also given the image that is edited; measure QwenImagePipeline, whose network is given noise and text",
    )

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> QwenImageCodec:
        return QwenImageCodec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        return {"space": "the encoded prompt of one space", "empty": "the encoded empty prompt"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        reason = distilled(self.pipe, transformer) or other_input(transformer, 4 * self.pipe.vae.config.z_dim)
        more = [name for name in _MORE_INPUTS if transformer.config.get(name)]
        if reason is None and more:
            return (
                f"the transformer is also given an image to edit or layers ({', '.join(more)}), which is not supported"
            )
        return reason
