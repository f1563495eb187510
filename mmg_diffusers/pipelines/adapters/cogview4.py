"""CogView4: transformer on VAE latents with GLM text, a rectified flow that is told its time before the shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.denoisers.conventions import Convention, RectifiedFlow
from mmg_diffusers.pipelines.adapters.base import Family, stack
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, each_length, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that the text encoder is given at most, the default of the pipeline.
_TOKENS = 1024


def shift_of(scheduler: Any, tokens: int) -> float:
    """The shift k of s = k u / (1 + (k - 1) u) for an image of so many tokens, linear in their square root."""
    config = scheduler.config
    root = (tokens / config.get("base_image_seq_len", 256)) ** 0.5
    return root * config.get("max_shift", 0.75) + config.get("base_shift", 0.25)


class _Transformer(Network):
    """The transformer's call, once for each length of text (it is given no mask), with sizes in pixels of x.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent.
        scheduler: says how times are shifted by the size of x.
    """

    def __init__(self, module: Any, scale: int, scheduler: Any) -> None:
        super().__init__(module)
        self.scale, self.scheduler = scale, scheduler

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, text_mask: Tensor) -> Tensor:
        height, width = (side * self.scale for side in x.shape[-2:])
        steps, patch = self.scheduler.config.num_train_timesteps, self.module.config.patch_size
        share = time / steps
        shift = shift_of(self.scheduler, (x.shape[-2] // patch) * (x.shape[-1] // patch))
        time = told(steps * share / (shift - (shift - 1) * share), x)
        states, size = encoder_hidden_states.to(x.dtype), x.new_tensor([height, width])

        def run(rows: Tensor, length: int) -> Tensor:
            return self.module(
                hidden_states=x[rows],
                encoder_hidden_states=states[rows, :length],
                timestep=time[rows],
                original_size=size.repeat(len(rows), 1),
                target_size=size.repeat(len(rows), 1),
                crop_coords=x.new_zeros(len(rows), 2),
                return_dict=False,
            )[0]

        return each_length(text_mask, run)


class CogView4Codec(LatentCodec):
    """VAE latents; GLM's token states of the last layer but one, each prompt encoded alone and filled up to a multiple of 16
    in front. `text_mask` counts them for `_Transformer`; the network is not given it.
    """

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {"glm_tokens": f"at most {_TOKENS}, filled up to a multiple of 16"}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        encoded: list[dict[str, Tensor]] = []
        for prompt in prompts:
            states, _ = self.pipe.encode_prompt(
                [prompt], do_classifier_free_guidance=False, device=self.device, max_sequence_length=_TOKENS
            )
            mask = torch.ones(states.shape[:2], dtype=torch.int64, device=states.device)
            encoded.append({"encoder_hidden_states": states, "text_mask": mask})
        return stack(encoded)


@register
class CogView4(Family):
    """CogView4. No prompt is the encoded empty prompt, 16 tokens long. Both branches are told the image's own size, not cropped.

    The network is told the time before the shift, which depends on the size of the image: `_Transformer` undoes it.
    """

    name = "CogView4"
    pipelines = ("CogView4Pipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer, self.codec().scale, self.pipe.scheduler)

    def codec(self) -> CogView4Codec:
        return CogView4Codec(self.pipe)

    def convention(self) -> Convention:
        scheduler, steps = self.pipe.scheduler, self.pipe.scheduler.config.num_train_timesteps
        shift = shift_of(scheduler, self.codec().tokens)
        return RectifiedFlow.shifted(shift=shift, steps=steps, time_scale=float(steps))

    def level_told(self, time: Tensor, x: Tensor) -> Tensor:
        patch, steps = self.pipe.transformer.config.patch_size, self.pipe.scheduler.config.num_train_timesteps
        shift = shift_of(self.pipe.scheduler, (x.shape[-2] // patch) * (x.shape[-1] // patch))
        share = time.double() / steps
        return self.convention().at_timestep(steps * shift * share / (1 + (shift - 1) * share))

    def describe(self) -> dict[str, Any]:
        size = "the image's own, not cropped, told in both branches"
        return {**super().describe(), "size": size, "told_time": "before the shift, by the image's size"}

    def refusal(self) -> str | None:
        pipe, config = self.pipe, self.pipe.scheduler.config
        reason = distilled(pipe, pipe.transformer) or other_input(pipe.transformer, pipe.vae.config.latent_channels)
        if reason is not None:
            return reason
        linear = config.get("use_dynamic_shifting") and config.get("time_shift_type") == "linear"
        if type(pipe.scheduler).__name__ != "FlowMatchEulerDiscreteScheduler" or not linear:
            return (
                f"the scheduler, {type(pipe.scheduler).__name__}, does not shift its times linearly by the image's size; expected "
                "FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type='linear'), which CogView4 was "
                "trained with"
            )
        return None
