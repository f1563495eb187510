"""A device that has no float64, as Apple's GPUs: computed on the CPU, with torch's own refusal wherever float64 would come onto it."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# The one name of a device that this build of torch does not look for when a tensor is moved to it.
DEVICE = torch.device("lazy")
REFUSAL = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please use float32 instead."


class Held(torch.Tensor):
    """A tensor that says it is on the device; its numbers are on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError(REFUSAL)
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Held({self.inner})"

    def tolist(self):
        raise AssertionError("numbers are read from the device without .cpu()")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


def _here(leaf):
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.inner if isinstance(leaf, Held) else leaf


def dispatched(func, args, kwargs):
    """Run an operation: its tensors have to be on one device, but for numbers without axes, as torch wants them."""
    leaves, _ = tree_flatten((args, kwargs))
    held = any(isinstance(leaf, Held) for leaf in leaves)
    asked = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    there = asked[0].type == DEVICE.type if asked else held
    name = func._schema.name
    if name == "aten::_has_compatible_shallow_copy_type":  # a module that moves asks; its parameters are made anew
        return False
    moves = name in ("aten::_to_copy", "aten::copy_", "aten::to")
    if held and not moves:
        indexing = name.startswith(("aten::index", "aten::_index"))
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Held) and leaf.ndim and not indexing:
                raise RuntimeError(f"Expected all tensors to be on the same device, in {name}")
    if there and kwargs.get("dtype") in (torch.float64, torch.complex128):
        raise TypeError(REFUSAL)
    args, kwargs = tree_map(_here, (args, kwargs))
    out = func(*args, **kwargs)
    if name == "aten::_local_scalar_dense" or not there:
        return out
    return tree_map(lambda leaf: Held(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


@contextmanager
def without_float64():
    """Within, ``.to(device)`` moves tensors and modules to the device that is given."""
    with _Mode():
        yield DEVICE
