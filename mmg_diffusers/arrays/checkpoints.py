"""Checkpoints of a training run: safetensors for every tensor, JSON for the rest, nothing pickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.files.records import within
from mmg_diffusers.files.whole import write_whole


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
        """Them, by the names that they came with."""
        return {key: self.get_buffer(name) for key, name in self.names.items()}


def cosine_rate(lr: float, step: int, steps: int, warmup: int) -> float:
    """A learning rate that rises to `lr` over `warmup` steps, and falls to 0 at `steps` along a cosine."""
    return lr * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def check_same(path: Path, there: object, now: object) -> None:
    """Raise a ValueError where a checkpoint was written with other settings than those of now."""
    if there != now:
        raise ValueError(
            f"{path} was written with other settings or data ({there}, now {now}); continue with those, or delete it"
        )


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Write modules, optimizer moments and a JSON-able state to one safetensors file, atomically.

    Args:
        path: the file; its folder is made.
        modules: named modules; all their parameters and buffers are written.
        optimizer: an optimizer whose per-parameter state is tensors (Adam and its kin).
        state: step counter, seeds, settings.
    """
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    ready = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    write_whole(path, safetensors.torch.save(ready, metadata={"state": json.dumps(dict(state))}))


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its state.

    Raises:
        ValueError: when the file is truncated, not a checkpoint of ours, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}
        state = json.loads(metadata["state"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint of this library, or is truncated ({error}). Delete it.") from error
    for name, module in modules.items():
        try:
            module.load_state_dict(within(tensors, name))
        except RuntimeError as error:
            raise ValueError(
                f"{path} holds another architecture for {shown(name)}; continue with the settings that it was written "
                f"with, or delete it. {error}"
            ) from error
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return state
