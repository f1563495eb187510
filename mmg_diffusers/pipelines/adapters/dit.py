"""DiT: a transformer on VAE latents, conditioned on a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.classes import ClassCodec, Classes
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor) -> Tensor:
        return self.module(x, timestep=told(time, x), class_labels=class_labels, return_dict=False)[0]


class DiTCodec(ClassCodec, LatentCodec):
    """VAE latents and class numbers."""

    @property
    def classes(self) -> Classes:
        return Classes(self.network.config.num_embeds_ada_norm, self.pipe.labels)

    def asked(self, prompts: Sequence[str]) -> dict[str, Any]:
        return {"class_labels": [self.label(prompt) for prompt in prompts]}

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.network.config.num_embeds_ada_norm], device=self.device)}


@register
class DiT(Family):
    """DiT on ImageNet's classes. No class is the one after the last, 1000, which labels were replaced by in training."""

    name = "DiT"
    pipelines = ("DiTPipeline",)
    parts = ("transformer", "vae", "scheduler")

    @property
    def learned_variance(self) -> bool:
        config = self.pipe.transformer.config
        return config.out_channels == 2 * config.in_channels

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> DiTCodec:
        return DiTCodec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        return {"class": f"class {self.pipe.transformer.config.num_embeds_ada_norm}, which stands for none"}

    def null_training(self) -> str:
        classes, rows = self.pipe.transformer.config.num_embeds_ada_norm, self._embedded
        return (
            f"yes: its table embeds {rows} classes, of which the last is none"
            if rows > classes
            else (f"no: its table embeds {rows} classes, and there is none that stands for none")
        )

    @property
    def _embedded(self) -> int:
        """Rows of the table of classes."""
        embedder = self.pipe.transformer.transformer_blocks[0].norm1.emb.class_embedder
        return embedder.embedding_table.num_embeddings

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
