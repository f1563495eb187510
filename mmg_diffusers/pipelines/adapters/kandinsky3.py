"""Kandinsky 3: UNet on MoVQ latents with T5-like text, epsilon; the answer depends on the length of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family, stack
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, each_length, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens of the text encoder, and what no config of a folder says: latents and channels of the model's own size.
_TOKENS = 128
_LATENTS = 128
_CHANNELS = 4


class _UNet(Network):
    """The UNet's call, once for each length of text: it pools over all tokens, one that fills up among them."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        states, mask, time = encoder_hidden_states.to(x.dtype), encoder_attention_mask.bool(), told(time, x)

        def run(rows: Tensor, length: int) -> Tensor:
            # The pipeline leaves one token after the text's last.
            return self.module(
                x[rows],
                time[rows],
                encoder_hidden_states=states[rows, : length + 1],
                encoder_attention_mask=mask[rows, : length + 1],
                return_dict=False,
            )[0]

        return each_length(mask, run)


class Kandinsky3Codec(LatentCodec):
    """MoVQ latents before they are quantized, not scaled; token states with their mask, each prompt encoded alone."""

    denoiser = "unet"
    variable = "MoVQ latent (before quantization)"

    @property
    def autoencoder(self) -> Any:
        return self.pipe.movq

    @property
    def native_size(self) -> tuple[int, int]:
        side = self.network.config.get("sample_size", _LATENTS) * self.scale
        return side, side

    def scaling(self) -> tuple[Any, Any, float, float]:
        return None, None, 0.0, 1.0

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _TOKENS}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        encoded: list[dict[str, Tensor]] = []
        for prompt in prompts:
            states, _, mask, _ = self.pipe.encode_prompt([prompt], False, device=self.device, _cut_context=True)
            encoded.append({"encoder_hidden_states": states, "encoder_attention_mask": mask})
        return stack(encoded)

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        """One token of zeros, masked: the answer is the same for any number of them."""
        empty = self.encode_prompts([""])
        return {key: torch.zeros_like(value[:, :1]) for key, value in empty.items()}


@register
class Kandinsky3(Family):
    """Kandinsky 3. No prompt is zeros that are masked, as the pipeline has it without a negative prompt.

    An encoded empty prompt is no null here: the pipeline fills it up to the length of the prompt it stands beside, which
    changes the answer.
    """

    name = "Kandinsky 3"
    pipelines = ("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline")
    parts = ("unet", "movq", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet)

    def codec(self) -> Kandinsky3Codec:
        return Kandinsky3Codec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        return {"zeros": "zeros in place of the text's states, masked"}

    def refusal(self) -> str | None:
        unet = self.pipe.unet
        return distilled(self.pipe, unet) or other_input(unet, _CHANNELS)
