"""DiT: transformer on VAE latents that is told a class, epsilon with a learned variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.pairs.prompts import Masked
from mmg_diffusers.pipelines.adapters.base import Family, Origin, register
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec, class_named
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor) -> Tensor:
        return self.module(x, timestep=told(time, x), class_labels=class_labels, return_dict=False)[0]


class DiTCodec(LatentCodec):
    """VAE latents, and classes: a prompt is the number of one, or one of its names in the pipeline's ``id2label``."""

    encoders: ClassVar = {}

    @property
    def classes(self) -> int:
        """Number of classes; that of the one that stands for none."""
        return self.network.config.num_embeds_ada_norm

    def label(self, prompt: str) -> int:
        """The class that a prompt names; raises a ValueError for one that names none."""
        return class_named(prompt, self.classes, self.pipe.labels)

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        return None if kind == "prompt" else super().origin(kind)

    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.label(prompt) for prompt in prompts], device=self.device)}

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.classes], device=self.device)}

    def check_masked(self, prompt: Masked) -> None:
        raise ValueError(f"the prompt {shown(prompt.text)} names a class, of which no word can be masked")

    def truncated(self, prompt: str) -> str | None:
        """Nothing; raises a ValueError for a prompt that names no class."""
        self.label(prompt)
        return None


@register
class DiT(Family):
    """DiT. No prompt is the class after the last, which labels were dropped to in training (10 % of them)."""

    name = "DiT"
    pipelines = ("DiTPipeline",)
    parts = ("transformer", "vae", "scheduler")

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return has_variance(self.pipe.transformer)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> DiTCodec:
        return DiTCodec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        return {"class": f"class {self.codec().classes}, which training puts in place of labels that are dropped"}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "prompts": f"one of {self.codec().classes} classes"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
