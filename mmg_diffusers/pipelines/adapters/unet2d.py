"""Networks of pixels that are told no text: UNet2DModel, unconditional or told a class, of DDPM and DDIM pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Condition
from mmg_diffusers.pipelines.adapters.base import Encode, Family
from mmg_diffusers.pipelines.adapters.classes import ClassCodec, Classes
from mmg_diffusers.pipelines.adapters.codecs import PixelCodec
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES, distilled
from mmg_diffusers.pipelines.adapters.registry import register


class _UNet(Network):
    """The UNet's call, with a class if it is told one."""

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return self.module(x, told(time, x), class_labels=class_labels, return_dict=False)[0]


class UNet2DCodec(ClassCodec, PixelCodec):
    """Pixels in [-1, 1], and class numbers, with names if a config has `id2label`. An unconditional network takes no prompt."""

    denoiser = "unet"

    @property
    def classes(self) -> Classes | None:
        count = self.network.config.get("num_class_embeds")
        if not count:
            return None
        return Classes.named(count, self.pipe.config.get("id2label") or self.network.config.get("id2label") or {})

    def asked(self, prompts: Sequence[str]) -> dict[str, Any]:
        if self.classes is None:
            return {"batch_size": len(prompts)}
        raise ValueError(f"{type(self.pipe).__name__} draws images of no class that it could be told")

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        assert self.classes is not None
        return {"class_labels": torch.tensor([self.classes.count - 1], device=self.device)}


@register
class UNet2D(Family):
    """UNet2DModel on pixels. An unconditional one is its own marginal, and takes no prompt.

    One that is told a class has no null: its classes can be compared as candidates. If its last class was trained as none,
    say so with ``null="last_class"``.
    """

    name = "UNet2DModel"
    pipelines = ("DDPMPipeline", "DDIMPipeline")
    parts = ("unet", "scheduler")

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return has_variance(self.pipe.unet)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet)

    def codec(self) -> UNet2DCodec:
        return UNet2DCodec(self.pipe)

    def nulls(self) -> Mapping[str, str]:
        classes = self.codec().classes
        if self.chosen is None or classes is None:
            return {}
        return {"last_class": f"class {classes.count - 1}, which the user says was trained as none"}

    @property
    def conditional(self) -> bool:
        return self.codec().classes is not None

    def null_training(self) -> str:
        if not self.conditional:
            return "unconditional: it is its own marginal"
        if self.chosen is not None:
            return "the user says so"
        return "not as far as its config tells; if its last class was trained as none, say null='last_class'"

    def without_null(self) -> str:
        return f"{super().without_null()}; if its last class was trained as none, say null='last_class' (--null last_class)"

    def null(self, encode: Encode) -> Condition | None:
        # Nothing at all is what an unconditional network was trained with.
        return super().null(encode) if self.conditional else {}

    def refusal(self) -> str | None:
        config = self.pipe.unet.config
        if config.in_channels != 3:
            return f"the UNet denoises {config.in_channels} channels, which is not supported; expected the 3 of images"
        if config.get("class_embed_type") is not None:
            return f"the UNet is told {shown(config.class_embed_type)} beside the level, which is not supported; {CANDIDATES}"
        return distilled(self.pipe, self.pipe.unet)
