"""Z-Image: a transformer that takes lists of VAE latents and texts, rectified flow told by its signal, a chat with Qwen 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family, stack
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that the language model is given, those of its chat among them: the default of the pipeline.
_TOKENS = 512


class _Transformer(Network):
    """The transformer's call: lists of images of one frame, and of texts as long as each is."""

    def forward(self, x: Tensor, time: Tensor, cap_feats: Tensor, mask: Tensor) -> Tensor:
        texts = [row[:length] for row, length in zip(cap_feats.to(x.dtype), mask.sum(1).tolist(), strict=True)]
        out = self.module(list(x[:, :, None].unbind()), told(time, x), texts, return_dict=False)[0]
        return torch.stack(list(out))[:, :, 0]


class ZImageCodec(LatentCodec):
    """VAE latents, shifted and scaled; the language model's token states of a chat that consists of the prompt."""

    @property
    def patch(self) -> int:
        return self.network.config.all_patch_size[0]

    @property
    def places(self) -> int:
        return min(self.network.config.axes_lens[1:])

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        # A copy of the prompts, in whose place the pipeline writes its chats.
        texts, _ = self.pipe.encode_prompt(list(prompts), self.device, False, max_sequence_length=_TOKENS)
        return stack(
            [{"cap_feats": text[None], "mask": text.new_ones(1, len(text), dtype=torch.int64)} for text in texts]
        )

    def rewritten(self, prompt: str) -> str:
        chat = self.pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        # As far as the prompt goes: it can be cut, and what is put after it is no part of it.
        return chat[: chat.rfind(prompt) + len(prompt)] if prompt else chat

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), _TOKENS)

    def text_settings(self) -> dict[str, Any]:
        return {"text_tokens": _TOKENS, "prompts": "as a chat, by the tokenizer's template, with thinking"}


@register
class ZImage(Family):
    """Z-Image. No prompt is the chat of the empty prompt. Z-Image-Turbo, which was distilled to a few steps, is refused."""

    name = "Z-Image"
    pipelines = ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {"prediction": "reversed_flow_prediction", "time_scale": 1.0, "told": "signal"}
    refused: ClassVar = {
        "ZImageOmniPipeline": "its network is also given images; measure ZImagePipeline, whose network is given noise and text"
    }

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> ZImageCodec:
        return ZImageCodec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        reason = distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
        if reason is None and transformer.config.get("siglip_feat_dim") is not None:
            return "the transformer is also given images (siglip_feat_dim), which is not supported"
        return reason
