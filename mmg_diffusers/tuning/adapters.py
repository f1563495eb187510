"""What of a model's networks is trained: low-rank additions to their layers (LoRA, through peft), or all weights."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.seeds import seeded
from mmg_diffusers.checks import finite, needs, of_type, shown, whole

Networks = Mapping[str, nn.Module]
"""The networks that denoise, by what the pipeline calls them: ``{"unet": ...}``."""

# What peft calls the adapter while it is on.
_NAME = "tuned"
# Parts of a layer's name that say it belongs to attention.
_ATTENTION = re.compile(r"(^|\.)[\w]*attn[\w]*\.|(^|\.)attentions?\.")


class Adapter(ABC):
    """What is trained of networks, and how it is put on them and taken off."""

    kind: ClassVar[str]

    @abstractmethod
    def on(
        self, networks: Networks, weights: Mapping[str, Tensor] | None = None, seed: int = 0
    ) -> AbstractContextManager[dict[str, Tensor]]:
        """A context in which the networks carry it; afterwards they are as they were before.

        Args:
            networks: by name.
            weights: what was trained, by the names that this context gives; without, it is as a training begins.
            seed: of what it begins with.

        Returns:
            the tensors that are trained, by the name of their network and their own, with a dot between.

        Raises:
            ValueError: for weights of other networks.
        """

    def record(self) -> dict[str, Any]:
        """What JSON can hold; the arguments that make it, and its kind."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @staticmethod
    def of(record: Mapping[str, Any]) -> Adapter:
        """The adapter that `record` is of.

        Raises:
            ValueError: for a kind that there is not.
        """
        kinds: dict[str, type[Adapter]] = {one.kind: one for one in (LowRank, Whole)}
        held = dict(record)
        kind = held.pop("kind", None)
        if kind not in kinds:
            raise ValueError(f"an adapter of kind {shown(kind)}; expected one of {', '.join(kinds)}")
        return kinds[kind](**held)


@dataclass(frozen=True)
class LowRank(Adapter):
    """LoRA (Hu et al., arXiv 2106.09685): to the weight of each layer, scale times a product of two thin matrices is added.

    It begins at 0, so that nothing changes before the first step. Needs peft.

    Args:
        rank: of the products.
        scale: what they are multiplied by: alpha / rank, in peft's words.
        targets: a regular expression that names of layers match in full, ``".*(to_q|to_v)"`` say; by default the linear
            layers of attention, or if there are none all linear and convolutional layers.

    Raises:
        TypeError, ValueError: for a rank below 1, a scale that is not positive, or an expression that is none.
    """

    kind: ClassVar[str] = "low rank"

    rank: int = 8
    scale: float = 1.0
    targets: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", whole(self.rank, "rank", 1))
        object.__setattr__(self, "scale", finite(self.scale, "scale"))
        of_type(self.targets, (str, type(None)), "targets", "a regular expression of layers' names")
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; expected a number above 0")
        if self.targets is not None:
            try:
                re.compile(self.targets)
            except re.error as error:
                raise ValueError(
                    f"targets is {shown(self.targets)}, which is no regular expression: {error}"
                ) from error

    def layers(self, network: nn.Module) -> list[str]:
        """The names of a network's layers that are added to.

        Raises:
            ValueError: if there are none.
        """
        taken = [name for name, module in network.named_modules() if name and _takes(module)]
        if self.targets is not None:
            found = [name for name in taken if re.fullmatch(self.targets, name)]
        else:
            attention = [
                name for name in taken if _ATTENTION.search(name) and isinstance(network.get_submodule(name), nn.Linear)
            ]
            found = attention or taken
        if not found:
            some = ", ".join(taken[:3])
            raise ValueError(
                f"no linear or convolutional layer of the {type(network).__name__} matches {shown(self.targets)}; expected names "
                f"such as {some}"
            )
        return found

    @contextmanager
    def on(
        self, networks: Networks, weights: Mapping[str, Tensor] | None = None, seed: int = 0
    ) -> Iterator[dict[str, Tensor]]:
        """See `Adapter`.

        Raises:
            ModuleNotFoundError: without peft.
            ValueError: for networks that carry an adapter already or have no such layer, and weights of others.
        """
        needs("peft", "tune")
        from diffusers.utils.peft_utils import recurse_remove_peft_layers
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, network in networks.items():
            if any(isinstance(module, BaseTunerLayer) for module in network.modules()):
                raise ValueError(
                    f"the {name} carries an adapter of peft already; fuse it (pipe.fuse_lora()) or take it off "
                    "(pipe.unload_lora_weights()) first"
                )
        chosen = {name: self.layers(network) for name, network in networks.items()}
        asked = {name: [p.requires_grad for p in network.parameters()] for name, network in networks.items()}
        held: dict[str, Tensor] = {}
        put: list[str] = []
        try:
            for name, network in networks.items():
                config = LoraConfig(r=self.rank, lora_alpha=self.rank * self.scale, target_modules=chosen[name])  # type: ignore[arg-type]
                put.append(name)
                with seeded(seed):
                    inject_adapter_in_model(config, network, adapter_name=_NAME)
                held |= {f"{name}.{key}": p for key, p in network.named_parameters() if f".{_NAME}." in key}
            if weights is not None:
                check_fits(held, weights)
                _copy(held, weights)
            yield held
        finally:
            for name in put:
                network = networks[name]
                recurse_remove_peft_layers(network)
                if hasattr(network, "peft_config"):
                    del network.peft_config
                for parameter, flag in zip(network.parameters(), asked[name], strict=True):
                    parameter.requires_grad_(flag)


@dataclass(frozen=True)
class Whole(Adapter):
    """All weights of the networks, which takes memory for four copies of them while it is trained."""

    kind: ClassVar[str] = "whole"

    @contextmanager
    def on(
        self, networks: Networks, weights: Mapping[str, Tensor] | None = None, seed: int = 0
    ) -> Iterator[dict[str, Tensor]]:
        held: dict[str, Tensor] = {
            f"{name}.{key}": parameter
            for name, network in networks.items()
            for key, parameter in network.named_parameters()
        }
        if weights is None:
            yield held
            return
        check_fits(held, weights)
        before = {key: value.detach().clone() for key, value in held.items()}
        try:
            _copy(held, weights)
            yield held
        finally:
            _copy(held, before)


def check_fits(held: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Find out whether weights are of these tensors.

    Raises:
        ValueError: if not; names the first that differs.
    """
    for key in sorted({*held, *weights}):
        here, there = (tuple(one[key].shape) if key in one else None for one in (held, weights))
        if here != there:
            raise ValueError(
                f"these weights are of another model: {key} is {there or 'not'} among them, and {here or 'not'} in this one"
            )


def _copy(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, value in values.items():
            into[key].copy_(value)


def _takes(module: nn.Module) -> bool:
    """Whether a low-rank product can be added to a module: to grouped convolutions it cannot for every rank."""
    return isinstance(module, nn.Linear) or (isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.groups == 1)
