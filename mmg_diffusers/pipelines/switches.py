"""Switches of a pipeline's parts that change numbers: for the record, and what no measurement can live with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

# What FreeU sets on the upper blocks of a UNet.
_FREEU = ("s1", "s2", "b1", "b2")
# Switches of autoencoders that change their latents.
_VAE = ("use_tiling", "use_slicing")


def switches(parts: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """What is switched on in parts of a pipeline and changes numbers, as JSON can hold it; empty if nothing is.

    Adapters (LoRA) with their scales, FreeU, weights that are quantised or kept in another dtype, tiling, merged tokens.

    Args:
        parts: components by name.
        dtype: the network's, by name; parts in another are told.
    """
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if not isinstance(part, nn.Module):
            continue
        said: dict[str, Any] = {
            "adapters": _adapters(part),
            "freeu": _freeu(part),
            "weights": _weights(part),
            "dtype": _other_dtype(part, dtype),
            "switched on": [switch for switch in _VAE if getattr(part, switch, False)],
            "tokens merged": bool(getattr(part, "_tome_info", None)),
        }
        said = {what: value for what, value in said.items() if value}
        if said:
            found[name] = said
    return found


def _adapters(part: nn.Module) -> dict[str, Any]:
    """Names of the adapters of peft that are on, each with the scales that it has in the part's layers; merged ones too."""
    scales: dict[str, set[float]] = {}
    merged: set[str] = set()
    for module in part.modules():
        if not (hasattr(module, "active_adapters") and hasattr(module, "scaling")):
            continue
        own: Any = module
        merged |= set(getattr(own, "merged_adapters", ()))
        if getattr(own, "disable_adapters", False):
            continue
        for name in own.active_adapters:
            if name in own.scaling:
                scales.setdefault(name, set()).add(round(float(own.scaling[name]), 6))
    on: dict[str, Any] = {name: sorted(values) for name, values in sorted(scales.items())}
    return on | ({"merged": sorted(merged)} if merged else {})


def _freeu(part: nn.Module) -> dict[str, float]:
    for block in getattr(part, "up_blocks", ()):
        if getattr(block, "s1", None) is not None:
            return {name: getattr(block, name) for name in _FREEU if getattr(block, name, None) is not None}
    return {}


def _weights(part: nn.Module) -> str | None:
    """How weights are kept, if not as numbers of floating point: by a quantiser's name, or by their dtypes."""
    quantiser = getattr(getattr(part, "config", None), "quantization_config", None)
    if quantiser is not None:
        kind = (
            quantiser.get("quant_method")
            if isinstance(quantiser, Mapping)
            else getattr(quantiser, "quant_method", None)
        )
        return f"quantised, {getattr(kind, 'value', kind) or type(quantiser).__name__}"
    kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in part.parameters() if narrow(weight)})
    modules = sorted({type(module).__name__ for module in part.modules() if "quantized" in type(module).__module__})
    return f"quantised, {', '.join([*kinds, *modules])}" if kinds or modules else None


def narrow(weight: torch.Tensor) -> bool:
    """Whether a weight has 8 bits or fewer."""
    return weight.dtype.itemsize == 1 and weight.dtype != torch.bool


def _other_dtype(part: nn.Module, dtype: str) -> str | None:
    own = {str(weight.dtype).removeprefix("torch.") for weight in part.parameters() if weight.is_floating_point()}
    return None if own <= {dtype} else ", ".join(sorted(own))


def check_switches(networks: Sequence[nn.Module]) -> None:
    """Refuse networks whose answer depends on what they were asked before.

    Raises:
        ValueError: which says how to switch that off.
    """
    for network in networks:
        if getattr(network, "is_cache_enabled", False):
            raise ValueError(
                f"the {type(network).__name__} keeps activations from one call for the next (enable_cache), so that its answer depends on "
                "what it was asked before; call disable_cache() on it"
            )
