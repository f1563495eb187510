"""What loops over networks share: pairs with their noise, batches, ranges, checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.base import Condition, Denoiser, condition_rows
from mmg_diffusers.denoisers.levels import add_noise, part_of_range
from mmg_diffusers.denoisers.precision import onto
from mmg_diffusers.measure.draws import PairDraws
from mmg_diffusers.measure.quadrature import Quadrature

Progress = Callable[[int], object]
"""Called with the number of noisy variables that were just evaluated."""


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
        ids = torch.arange(len(x)) if ids is None else _whole_ids(ids)
        if ids.shape != (len(x),) or len(ids.unique()) < len(ids):
            raise ValueError(f"expected {len(x)} different pair ids, got {tuple(ids.shape)}")
        # Nothing that is made of x has a gradient: networks run outside of autograd.
        return cls((x if x.dtype == torch.float64 else x.float()).detach(), ids)

    def __len__(self) -> int:
        return len(self.x)


def _whole_ids(ids: object) -> Tensor:
    """Ids as int64.

    Raises:
        TypeError: unless they are whole numbers.
        ValueError: unless 63 bits hold them.
    """
    try:
        given = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"pair ids are a {type(ids).__name__} ({error}); expected whole numbers below 2**63") from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"pair ids are {given.dtype}; expected whole numbers")
    whole_ids = given.long()
    if given.dtype == torch.uint64 and bool((whole_ids < 0).any()):
        raise ValueError("a pair id needs 64 bits; expected ids below 2**63")
    if bool((whole_ids < 0).any()):
        raise ValueError(f"a pair id is {int(whole_ids[whole_ids < 0][0])}; expected at least 0")
    return whole_ids


@dataclass(frozen=True)
class Batch:
    """Noisy variables on the device: `where` indexes (pair, draw, level) of the block."""

    where: tuple[Tensor, Tensor, Tensor]
    z: Tensor
    logsnr: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Block:
    """A few pairs, the levels and weights of their draws `(P, D, L)`, and their noise; what is alive at one time."""

    pairs: Pairs
    start: int
    logsnr: Tensor
    weight: Tensor

    def batches(
        self, draws: Sequence[range], antithetic: bool, seed: int, rows: int, device: torch.device
    ) -> Iterator[Batch]:  # fmt: skip
        """Noisy variables of each pair's `draws`, in the order pair, draw, level, `rows` at a time."""
        levels = self.logsnr.shape[2]
        event = tuple(self.pairs.x.shape[1:])
        waiting: list[tuple[Tensor, Tensor]] = []  # (index, eps) short of a full batch
        count = 0
        for pair, pair_id in enumerate(self.pairs.ids.tolist()):
            for draw in draws[pair]:
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
        logsnr = self.logsnr[pair, draw, level]
        eps = onto(eps, device)
        z = add_noise(onto(self.pairs.x[pair.to(self.pairs.x.device)], device), logsnr, eps)
        return Batch((pair, draw, level), z, logsnr, eps)


def blocks(
    denoiser: Denoiser, pairs: Pairs, quadrature: Quadrature, draws: int, seed: int, low: float, high: float, size: int
) -> Iterator[Block]:
    """Blocks of `size` pairs, so that memory is bounded by the batch and not by the run.

    Rules that place their levels at random do so anew for each of the `draws`, so that the spread of the draws tells
    the error of the placement as well.

    Raises:
        ValueError: for pairs that the denoiser, or one within it, must not be measured with.
    """
    for part in denoiser.modules():
        if isinstance(part, Denoiser):
            part.check_data(pairs.x)
    for start in range(0, len(pairs), size):
        part = Pairs(pairs.x[start : start + size], pairs.ids[start : start + size])
        shape = (len(part), draws)
        if quadrature.random:
            placed = [PairDraws(seed, pair, draw) for pair in part.ids.tolist() for draw in range(draws)]
            uniform = torch.stack([source.uniform(quadrature.nodes) for source in placed])
            logsnr, weight = (v.unflatten(0, shape) for v in quadrature.place(low, high, denoiser.snap, uniform))
        else:
            unused = torch.zeros(1, quadrature.nodes, dtype=torch.float64)
            logsnr, weight = (v.expand(*shape, -1) for v in quadrature.place(low, high, denoiser.snap, unused))
        yield Block(part, start, logsnr, weight)


class Levels(Protocol):
    """What knows the levels that there are: a denoiser, or its convention."""

    @property
    def logsnr_range(self) -> tuple[float, float]: ...

    def snap(self, logsnr: Tensor, /) -> Tensor: ...


def range_within(denoiser: Levels, asked: tuple[float, float] | None, quadrature: Quadrature) -> tuple[float, float]:
    """The ends of the integral: the denoiser's own, a part of them that is asked for, and what the rule covers."""
    return quadrature.bounds(*part_of_range(denoiser.logsnr_range, asked))


def rows_of(cond: Condition | None, index: Tensor, device: torch.device) -> Condition | None:
    """The rows of a condition, on the device."""
    if cond is None:
        return None
    return {key: onto(value, device) for key, value in condition_rows(cond, index).items()}


def check_condition(cond: Condition | None, count: int, name: str, empty: bool = True) -> None:
    """Raise an error unless a condition, if there is one, holds tensors with `count` finite rows each; one at least, if it may
    not be empty.
    """  # fmt: skip
    of_type(cond, (Mapping, type(None)), name, "a condition: tensors by name, such as {'y': y}")
    if not empty and cond is not None and not cond:
        raise ValueError(f"{name} is {shown(cond)}, which holds nothing; expected None for the marginal, or tensors")
    for key, value in (cond or {}).items():
        of_type(value, Tensor, f"{name}[{shown(key)}]", "a tensor; torch.as_tensor makes one of an array")
        if value.ndim == 0:
            raise ValueError(f"{name}[{shown(key)}] is a single number; expected {count} rows, one for each value of x")
        if len(value) != count:
            raise ValueError(
                f"{name}[{shown(key)}] has {len(value)} rows for {count} values of x; expected one row each"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}[{shown(key)}] has NaN or infinite values")


def check_finite(values: Tensor, logsnr: Tensor) -> None:
    """Raise a ValueError if a network returned NaN or infinity, as seen in what is made of its predictions."""
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"the network returned NaN or infinity between log-SNR {float(logsnr.min()):.2f} and "
            f"{float(logsnr.max()):.2f}; load it with a wider dtype (torch_dtype=torch.float32)"
        )
