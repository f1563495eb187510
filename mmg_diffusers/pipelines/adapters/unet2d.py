"""Networks of pixels that are told no text: UNet2DModel, unconditional or told a class, of DDPM and DDIM pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Condition
from mmg_diffusers.pipelines.adapters.base import Encode, Family, Origin
from mmg_diffusers.pipelines.adapters.codecs import PixelCodec, class_named
from mmg_diffusers.pipelines.adapters.networks import Network, has_variance, told
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES, distilled
from mmg_diffusers.pipelines.adapters.registry import register


class _UNet(Network):
    """The UNet's call, with a class if it is told one."""

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return self.module(x, told(time, x), class_labels=class_labels, return_dict=False)[0]


class UNet2DCodec(PixelCodec):
    """Pixels in [-1, 1]; a prompt is the number of a class ("207"), or one of its names if a config has `id2label`.

    An unconditional network takes none.
    """

    denoiser = "unet"
    encoders: ClassVar = {}

    @property
    def classes(self) -> int:
        """Number of classes; 0 for an unconditional network."""
        return self.network.config.get("num_class_embeds") or 0

    @property
    def names(self) -> dict[str, int]:
        """Classes by name, from `id2label` of the pipeline's config or the network's, as DiT has it: names of one class stand
        between commas. Empty if neither has it.
        """
        known = self.pipe.config.get("id2label") or self.network.config.get("id2label") or {}
        return {name.strip(): int(number) for number, names in known.items() for name in str(names).split(",")}

    def label(self, prompt: str) -> int:
        """The class that a prompt names.

        Raises:
            ValueError: for a prompt that names none, and for an unconditional network.
        """
        if not self.classes:
            raise ValueError(
                f"got the prompt {shown(prompt)}, and this network is unconditional: there is nothing that a prompt could say to "
                "it. Its denoiser works without one: MMGPipeline(pipe).denoiser(z, logsnr)."
            )
        return class_named(prompt, self.classes, self.names)

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        return None

    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.label(prompt) for prompt in prompts], device=self.device)}

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.classes - 1], device=self.device)}

    def truncated(self, prompt: str) -> str | None:
        """Nothing; raises a ValueError for a prompt that names no class."""
        self.label(prompt)
        return None


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
        if self.chosen is None or not classes:
            return {}
        return {"last_class": f"class {classes - 1}, which the user says was trained as none"}

    @property
    def conditional(self) -> bool:
        return bool(self.codec().classes)

    def null_training(self) -> str:
        if not self.conditional:
            return "unconditional: it is its own marginal"
        if self.chosen is not None:
            return "the user says so"
        return "not as far as its config tells; if its last class was trained as none, say null='last_class'"

    def null(self, encode: Encode) -> Condition | None:
        # Nothing at all is what an unconditional network was trained with.
        return super().null(encode) if self.codec().classes else {}

    def describe(self) -> dict[str, Any]:
        classes = self.codec().classes
        return {
            **super().describe(),
            "prompts": f"one of {classes} classes" if classes else "none: it is unconditional",
        }

    def refusal(self) -> str | None:
        config = self.pipe.unet.config
        if config.in_channels != 3:
            return f"the UNet denoises {config.in_channels} channels, which is not supported; expected the 3 of images"
        if config.get("class_embed_type") is not None:
            return f"the UNet is told {shown(config.class_embed_type)} beside the level, which is not supported; {CANDIDATES}"
        return distilled(self.pipe, self.pipe.unet)
