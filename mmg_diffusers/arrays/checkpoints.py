"""Checkpoints of a training: safetensors for every tensor, JSON for the rest, nothing pickled; refused by another training."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmg_diffusers.checks import reason, shown
from mmg_diffusers.files.records import within
from mmg_diffusers.files.whole import write_whole

# Machines round differently; examples that were made ready in another way differ by more.
_ROUNDING = 1e-3


class Tensors(nn.Module):
    """Tensors that travel in a checkpoint."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        # A buffer's name has no dots.
        self.names = {key: key.replace(".", "-") for key in values}
        for key, name in self.names.items():
            self.register_buffer(name, values[key].clone())

    @property
    def values(self) -> dict[str, Tensor]:
        """The tensors, by the names that they came with."""
        return {key: self.get_buffer(name) for key, name in self.names.items()}


@dataclass(frozen=True)
class Origin:
    """What a training depends on; a checkpoint of another origin is refused.

    Args:
        record: settings, names, seed and the identity of the data, by name; what JSON can hold.
        prepared: a few tensors as the network is given them, by name. The identity speaks of content; these show whether
            it was made ready in the same way, up to the rounding of another machine.
    """

    record: Mapping[str, Any]
    prepared: Mapping[str, Tensor] = field(default_factory=dict)

    def check(self, path: Path, record: Any, prepared: Mapping[str, Tensor]) -> None:
        """Compare with what a checkpoint says of its training.

        A checkpoint of version 0.1 does not say which data it belongs to; it is taken, with a warning.

        Raises:
            ValueError: if they differ, naming what does.
        """
        there, here = _flat(record), _flat(json.loads(json.dumps(dict(self.record))))
        if not any(key.split(".")[0] == "data" for key in there):
            warnings.warn(
                f"{path} was written by version 0.1, which did not keep what data a training belongs to; if these are other "
                "data, delete it",
                stacklevel=2,
            )
            here = {key: value for key, value in here.items() if key in there}
        differ = sorted(key for key in {**there, **here} if there.get(key) != here.get(key))
        if differ:
            raise ValueError(
                _refusal(path, [f"{k}: {_short(there.get(k))} there, {_short(here.get(k))} now" for k in differ])
            )
        for name, value in prepared.items():
            now = self.prepared.get(name)
            if now is None or now.shape != value.shape or not torch.allclose(value, now.cpu().to(value), 0, _ROUNDING):
                raise ValueError(_refusal(path, [f"the data are the same, but {name} is made ready in another way"]))


def _flat(record: Any) -> dict[str, Any]:
    """A record without nesting: keys of the inner mappings behind those of the outer ones."""
    if not isinstance(record, Mapping):
        return {}
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _short(value: object) -> str:
    return "nothing" if value is None else shown(value)


def _refusal(path: Path, differ: list[str]) -> str:
    more = f"; and {len(differ) - 4} more" if len(differ) > 4 else ""
    return (
        f"{path} was written with other settings or data ({'; '.join(differ[:4])}{more}); go on with those, choose another "
        "file, or delete it"
    )


def cosine_rate(lr: float, step: int, steps: int, warmup: int) -> float:
    """Compute a learning rate that rises to `lr` over `warmup` steps, and falls to 0 at `steps` along a cosine."""
    return lr * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    origin: Origin | None = None,
) -> None:
    """Write modules, optimizer moments and a JSON-able state to one safetensors file, atomically.

    Args:
        path: the file; its folder is made.
        modules: named modules; all their parameters and buffers are written.
        optimizer: an optimizer whose per-parameter state is tensors (Adam and its kin).
        state: step counter and whatever else changes on the way.
        origin: what the training depends on, to be compared when the file is read.
    """
    state = dict(state)
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    if origin is not None:
        state["record"] = dict(origin.record)
        tensors |= {f"prepared/{name}": value for name, value in origin.prepared.items()}
    ready = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    write_whole(path, safetensors.torch.save(ready, metadata={"state": json.dumps(state)}))


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its state.

    Args:
        path: the file.
        modules, optimizer: as they were when it was written; they are changed in place, and only if nothing is refused.
        origin: what the training depends on now.

    Raises:
        ValueError: if the file is truncated, not a checkpoint of ours, of another origin, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}
        state = json.loads(metadata["state"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint of this library, or is truncated ({error}). Delete it.") from error
    if origin is not None:
        origin.check(path, state.get("record"), within(tensors, "prepared"))
    for name, module in modules.items():
        try:
            module.load_state_dict(within(tensors, name))
        except RuntimeError as error:
            raise ValueError(
                f"{path} holds another architecture for {shown(name)}; continue with the settings that it was written "
                f"with, or delete it. {reason(error)}"
            ) from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": _moments(tensors, optimizer)})
    return state


def _moments(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Moments by the number of their parameter, laid in memory as it is: fused Adam takes them to be."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in within(tensors, "optimizer").items():
        index, name = key.split("/")
        if int(index) < len(parameters) and value.shape == parameters[int(index)].shape:
            value = torch.empty_like(parameters[int(index)], dtype=value.dtype, device="cpu").copy_(value)
        moments.setdefault(int(index), {})[name] = value
    return moments
