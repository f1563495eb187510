"""Where float64 can be had: Apple's GPUs, and some others, know no float64.

Differences of predictions are formed where the network runs, in its own precision; what is summed is float64, on the
device if it has that, and else on the CPU.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def has_float64(kind: str) -> bool:
    """Whether devices of a type, such as ``"cuda"``, compute in float64."""
    if kind in ("cpu", "cuda"):
        return True
    try:
        return bool((torch.ones(1, dtype=torch.float64, device=kind) + 1).cpu() == 2)
    except (TypeError, RuntimeError, AssertionError):  # by Apple's, by others, and by torch that was built without them
        return False


def sums_on(device: torch.device) -> torch.device:
    """Where float64 sums of a device's numbers are made: there, or on the CPU."""
    return device if has_float64(device.type) else torch.device("cpu")


def widened(values: Tensor) -> Tensor:
    """The same in float64, on `sums_on` their device."""
    return values.to(sums_on(values.device)).double()


def onto(values: Tensor, device: torch.device) -> Tensor:
    """The same on a device, in float32 if it has no float64."""
    if values.dtype == torch.float64 and not has_float64(device.type):
        values = values.float()
    return values.to(device)
