"""How rows go through a network: several at a time, fewer if memory runs out, and never so few that rounding changes."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mmg_diffusers.checks import whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, condition_rows
from mmg_diffusers.internals import execution_device_of_hook

# Numbers in one batch of network inputs that fit comfortably beside the activations of a U-Net, by device type.
_COMFORT = {"cpu": 2**16, "cuda": 2**18}
# From this many rows on the kernels for convolutions and matrices round each row alike, whatever the batch: measured on
# x86 for the model that ships, bit for bit from 16 rows to 192. With fewer rows others are chosen.
_ALIKE = 16
# Rows that fitted into memory after a larger batch did not, by denoiser and shape of the event.
_fitted: WeakKeyDictionary[Denoiser, dict[torch.Size, int]] = WeakKeyDictionary()


def auto_batch_size(event: torch.Size, device: torch.device) -> int:
    """Rows per forward pass for events of this shape: between 2 and 8192."""
    return max(2, min(8192, _COMFORT.get(device.type, 2**17) // max(1, event.numel())))


def device_of(denoiser: Denoiser, fallback: Tensor) -> torch.device:
    """Where a denoiser computes: where its weights are, or are brought by hooks of accelerate that offload them.

    For one without weights: where `fallback` is.
    """
    for module in denoiser.modules():
        device = execution_device_of_hook(module)
        if device is not None:
            return device
    for tensor in (*denoiser.parameters(), *denoiser.buffers()):
        return tensor.device
    return fallback.device


def memory_notes(denoiser: Denoiser) -> tuple[str, ...]:
    """What a record should say of batches that were made smaller because memory ran out."""
    return tuple(
        f"memory ran out: no more than {rows} rows of {tuple(event)} go through the network at a time"
        for event, rows in _fitted.get(denoiser, {}).items()
    )


class Forwards:
    """Runs a denoiser on batches of any size, some rows at a time.

    If memory runs out, half as many rows are tried, and the number that fits is remembered for the denoiser; what
    was computed so far is kept.

    Args:
        denoiser: the network.
        event: shape of one variable.
        device: where it runs.
        asked: rows per forward pass, the one memory knob; by default chosen from the size of the event. Events so small
            that 16 of them take little memory go through in batches of at least 16 rows, filled up with copies
            if there are fewer, so that rounding is the same for every batch size.

    Raises:
        TypeError, ValueError: for a number of rows that is not whole, or below 1.
    """

    def __init__(self, denoiser: Denoiser, event: torch.Size, device: torch.device, asked: int | None = None) -> None:
        self.denoiser, self.event, self.device = denoiser, event, device
        small = _ALIKE * event.numel() <= min(_COMFORT.values())
        self._least = _ALIKE if small else 1
        wanted = auto_batch_size(event, device) if asked is None else whole(asked, "batch_size", 1)
        self._wanted = max(wanted, self._least)

    @property
    def rows(self) -> int:
        """Rows per forward pass."""
        return min(self._wanted, _fitted.get(self.denoiser, {}).get(self.event, self._wanted))

    def __call__(self, z: Tensor, logsnr: Tensor, cond: Condition | None) -> Tensor:
        """The denoiser's prediction, for B rows."""
        return self.branches(z, logsnr, [cond])[0]

    def branches(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor]:
        """Its predictions for several conditions at one z, B rows each, in the same pass if memory allows.

        Raises:
            RuntimeError: if not even one row fits into memory.
            ValueError: if the network returns another shape than that of z.
        """
        parts: list[list[Tensor]] = []
        start = 0
        while start < len(z):
            part = slice(start, start + max(1, self.rows // len(conds)))
            rows = [None if cond is None else {key: value[part] for key, value in cond.items()} for cond in conds]
            predictions = self._attempt(z[part], logsnr[part], rows)
            if predictions is not None:
                _check_shapes(predictions, z[part])
                parts.append(predictions)
                start = part.stop
        return parts[0] if len(parts) == 1 else [torch.cat(branch) for branch in zip(*parts, strict=True)]

    def _attempt(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor] | None:
        """One forward pass; ``None`` if memory ran out, and fewer rows are to be tried."""
        try:
            return self._filled(z, logsnr, conds)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            tried = min(len(z) * len(conds), self.rows)
            if tried == 1:
                raise RuntimeError(
                    f"memory runs out with a single row of {tuple(self.event)} ({error}). Load the model with "
                    "torch_dtype=torch.float16 or bfloat16, offload what is not in use (pipe.pipe.enable_model_cpu_offload()), "
                    "or measure smaller images."
                ) from error
        # Outside of the handler, which holds on to the tensors of the failed pass.
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)
        _fitted.setdefault(self.denoiser, {})[self.event] = tried // 2
        return None

    def _filled(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor]:
        """One forward pass, its batch filled up with copies of its rows to the size from which on rounding is the same."""
        if self.rows < len(conds):
            return [self.denoiser(z, logsnr, cond) for cond in conds]
        count = len(z)
        least = -(-min(self._least, self.rows) // len(conds))
        if count >= least:
            return self.denoiser.branches(z, logsnr, conds)
        index = torch.arange(least) % count
        full = [None if cond is None else condition_rows(cond, index) for cond in conds]
        out = self.denoiser.branches(z[index.to(z.device)], logsnr[index.to(logsnr.device)], full)
        return [branch[:count] for branch in out]


def _check_shapes(predictions: Sequence[Tensor], z: Tensor) -> None:
    """Raise a ValueError if a network returned another shape than that of z."""
    for predicted in predictions:
        if predicted.shape != z.shape:
            raise ValueError(
                f"the denoiser returned {tuple(predicted.shape)} for z of shape {tuple(z.shape)}; expected the noise in z"
            )


def _out_of_memory(error: RuntimeError) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
