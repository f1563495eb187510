"""What loops over networks share: pairs with their noise, batches, ranges, checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, two_ends, whole
from mmg_diffusers.denoiser import Condition, Denoiser, condition_rows
from mmg_diffusers.draws import PairDraws
from mmg_diffusers.noise import add_noise
from mmg_diffusers.quadrature import Quadrature

Progress = Callable[[int], object]
"""Called with the number of noisy variables that were just evaluated."""

# Numbers in one batch of network inputs that fit comfortably beside the activations of a U-Net, by device type.
_COMFORT = {"cpu": 2**16, "cuda": 2**18}


def auto_batch_size(event: torch.Size, device: torch.device) -> int:
    """Rows per forward pass for events of this shape: between 2 and 8192."""
    return max(2, min(8192, _COMFORT.get(device.type, 2**17) // max(1, event.numel())))


@dataclass(frozen=True)
class Pairs:
    """The variables that are denoised, with ids that name their noise.

    Args:
        x: `(N, *event)`.
        ids: `(N,)` int64; by default 0, 1, 2, ...

    Raises:
        ValueError: for no pair, values that are not finite, or ids that repeat.
    """

    x: Tensor
    ids: Tensor

    @classmethod
    def of(cls, x: Tensor, ids: Tensor | None = None) -> Pairs:
        of_type(x, Tensor, "x", "a tensor; torch.as_tensor makes one of an array")
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, *event) with N >= 1")
        finite = torch.isfinite(x).flatten(1).all(1)
        if not bool(finite.all()):
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"x has NaN or infinite values in rows {bad[:10]}; remove or repair these pairs")
        if not torch.is_floating_point(x):
            raise ValueError(f"x is {x.dtype}; expected floating point")
        ids = torch.arange(len(x)) if ids is None else torch.as_tensor(ids)
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"pair ids are {ids.dtype}; expected whole numbers")
        ids = ids.long()
        if ids.shape != (len(x),) or len(ids.unique()) < len(ids):
            raise ValueError(f"expected {len(x)} different pair ids, got {tuple(ids.shape)}")
        return cls(x if x.dtype == torch.float64 else x.float(), ids)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Batch:
    """Noisy variables on the device: `where` indexes (pair, draw, level) of the block."""

    where: tuple[Tensor, Tensor, Tensor]
    z: Tensor
    logsnr: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Block:
    """A few pairs, their levels and their noise; what is alive at one time."""

    pairs: Pairs
    start: int
    logsnr: Tensor
    weight: Tensor

    def batches(
        self, draws: int, antithetic: bool, seed: int, rows: int, device: torch.device
    ) -> Iterator[Batch]:  # fmt: skip
        """Noisy variables in the order pair, draw, level, `rows` at a time."""
        levels = self.logsnr.shape[1]
        event = tuple(self.pairs.x.shape[1:])
        waiting: list[tuple[Tensor, Tensor]] = []  # (index, eps) short of a full batch
        count = 0
        for pair, pair_id in enumerate(self.pairs.ids.tolist()):
            for draw in range(draws):
                eps = PairDraws(seed, pair_id, draw).normals(levels, event, self.pairs.x.dtype)
                index = torch.tensor([(pair, draw, level) for level in range(levels)])
                if antithetic:
                    index, eps = index.repeat(2, 1), torch.cat([eps, -eps])
                waiting.append((index, eps))
                count += len(eps)
                while count >= rows:
                    index, eps = (torch.cat(parts) for parts in zip(*waiting, strict=True))
                    yield self._batch(index[:rows], eps[:rows], device)
                    waiting, count = [(index[rows:], eps[rows:])], count - rows
        if count:
            index, eps = (torch.cat(parts) for parts in zip(*waiting, strict=True))
            yield self._batch(index, eps, device)

    def _batch(self, index: Tensor, eps: Tensor, device: torch.device) -> Batch:
        pair, draw, level = index.T
        logsnr = self.logsnr[pair, level]
        eps = eps.to(device)
        z = add_noise(self.pairs.x[pair.to(self.pairs.x.device)].to(device), logsnr, eps)
        return Batch((pair, draw, level), z, logsnr, eps)


def blocks(
    denoiser: Denoiser, pairs: Pairs, quadrature: Quadrature, seed: int, low: float, high: float, size: int
) -> Iterator[Block]:
    """Blocks of `size` pairs, so that memory is bounded by the batch and not by the run."""
    for start in range(0, len(pairs), size):
        part = Pairs(pairs.x[start : start + size], pairs.ids[start : start + size])
        uniform = torch.stack([PairDraws(seed, i).uniform(quadrature.nodes) for i in part.ids.tolist()])
        logsnr, weight = quadrature.place(low, high, denoiser.snap, uniform)
        yield Block(part, start, logsnr, weight)


def device_of(denoiser: Denoiser, fallback: Tensor) -> torch.device:
    """Where a denoiser's weights are; of one without weights, where `fallback` is."""
    for tensor in (*denoiser.parameters(), *denoiser.buffers()):
        return tensor.device
    return fallback.device


def range_within(denoiser: Denoiser, asked: tuple[float, float] | None, quadrature: Quadrature) -> tuple[float, float]:
    """The ends of the integral: the denoiser's own, a part of them that is asked for, and what the rule covers."""
    low, high = denoiser.logsnr_range
    if asked is not None:
        asked = two_ends(asked, "logsnr_range")
        if not (low - 1e-9 <= asked[0] < asked[1] <= high + 1e-9):
            raise ValueError(
                f"logsnr_range {asked} is not a rising range within [{low:.3f}, {high:.3f}], the levels that this "
                "network was trained on"
            )
        low, high = max(low, asked[0]), min(high, asked[1])
    return quadrature.bounds(low, high)


def rows_per_forward(asked: int | None, draws: int, pairs: Pairs, device: torch.device) -> int:
    """Rows per forward pass, checked."""
    whole(draws, "draws", 1)
    return auto_batch_size(pairs.x.shape[1:], device) if asked is None else whole(asked, "batch_size", 1)


def rows_of(cond: Condition | None, index: Tensor, device: torch.device) -> Condition | None:
    """The rows of a condition, on the device."""
    if cond is None:
        return None
    return {key: value.to(device) for key, value in condition_rows(cond, index).items()}


def check_condition(cond: Condition | None, count: int, name: str) -> None:
    """Raise an error unless a condition, where there is one, holds tensors with `count` finite rows each."""
    of_type(cond, (Mapping, type(None)), name, "a condition: tensors by name, such as {'y': y}")
    for key, value in (cond or {}).items():
        of_type(value, Tensor, f"{name}[{key!r}]", "a tensor; torch.as_tensor makes one of an array")
        if len(value) != count:
            raise ValueError(f"{name}[{key!r}] has {len(value)} rows for {count} values of x; expected one row each")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}[{key!r}] has NaN or infinite values")


def check_predictions(predictions: Tensor, z: Tensor, logsnr: Tensor) -> None:
    """Raise a ValueError where a network returned another shape than that of z, NaN or infinity."""
    if predictions.shape != z.shape:
        raise ValueError(
            f"the denoiser returned {tuple(predictions.shape)} for z of shape {tuple(z.shape)}; expected the noise in z"
        )
    if not bool(predictions.isfinite().all()):
        raise ValueError(
            f"the network returned NaN or infinity between log-SNR {float(logsnr.min()):.2f} and "
            f"{float(logsnr.max()):.2f}; load it with a wider dtype (torch_dtype=torch.float32)"
        )
