"""What half precision does to a number: a few pairs are measured again with the network in float32, on the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.internals import execution_device_of_hook
from mmg_diffusers.measure.judging import scale_of
from mmg_diffusers.measure.measured import Measured
from mmg_diffusers.measure.verdict import Finding, weighed, worst

_HALF = (torch.float16, torch.bfloat16)


class Moved(NamedTuple):
    """By how much half precision moved the nats of some pairs: on average, and in the root mean square."""

    pairs: int
    mean: float
    root_mean_square: float

    @classmethod
    def between(cls, half: Tensor, full: Tensor) -> Moved:
        """Between the nats `(N,)` of two measurements of the same pairs with the same noise."""
        difference = half - full
        return cls(len(difference), float(difference.mean()), float(difference.square().mean().sqrt()))

    def remark(self, result: Measured) -> Finding | None:
        """What to say beside a result; nothing if its own standard errors are larger, that of the mean and those of its pairs."""
        of_mean = result.mean().stderr
        of_pairs = float(result.stderr.square().mean().sqrt())
        if not (abs(self.mean) > of_mean or self.root_mean_square > of_pairs):
            return None
        return Finding(
            f"the network's half precision moves nats by {self.mean:+.3f} on average and by {self.root_mean_square:.3f} in the root mean "
            f"square of the {self.pairs} pairs that were measured in float32 as well, which is more than their standard error; load the "
            "model with torch_dtype=torch.float32",
            "precision",
            worst(["with caution", weighed(abs(self.mean) / scale_of(result.mean().value))]),
        )


def is_half(networks: Sequence[nn.Module]) -> bool:
    """Whether networks compute in half precision, and can compute in float32: weights that hooks bring from elsewhere cannot."""
    weights = [weight for network in networks for weight in network.parameters()]
    hooked = any(execution_device_of_hook(module) is not None for network in networks for module in network.modules())
    plain = all(weight.is_floating_point() and weight.dtype.itemsize > 1 and not weight.is_meta for weight in weights)
    return plain and not hooked and any(weight.dtype in _HALF for weight in weights)


@contextmanager
def in_float32(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Networks with their half precision weights widened, which is exact; afterwards with the very same tensors as before.

    It needs room for the weights in float32 beside those that there are.
    """
    tensors = {
        id(t): t for network in networks for t in (*network.parameters(), *network.buffers()) if t.dtype in _HALF
    }
    kept = [(tensor, tensor.data) for tensor in tensors.values()]
    try:
        for tensor, values in kept:
            tensor.data = values.float()
        yield
    finally:
        for tensor, values in kept:
            tensor.data = values
