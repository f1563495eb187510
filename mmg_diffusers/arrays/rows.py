"""What the rows of the data are to each other: independent draws, copies, a series in time; and which may be parted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.checks import shown

# Of the rows, the share that has to be a copy of another before they are kept together.
COPIES = 1e-3
# A row that is met so often, and in so large a share of all, is a value with a mass of its own (columns that are zero together), not copies.
ATOM, ATOM_SHARE = 30, 0.01
# A correlation of neighbouring rows counts from so many of its errors, in a variable of each side.
SIGMAS = 5.0
# Lengths of memory after which rows count as independent, and the fewest blocks that a series is cut into.
MEMORIES, FEWEST_BLOCKS = 5, 10
# Rows in a row whose memory is looked for.
FOLLOWED = 20_000


@dataclass(frozen=True)
class Rows:
    """Which rows belong together, one number each, and what was seen.

    `blocks` is ``None`` if every row stands alone; `memory` is about how many rows one independent row is spread over;
    `first` are rows of which no two are copies, or of one block, for readings that take rows for independent.
    """

    blocks: NDArray[np.int64] | None = None
    memory: float = 1.0
    first: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def part(self, count: int, share: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Choose about a share of the rows, whole blocks at a time: the chosen ones, and the others, in random order."""
        order = rng.permutation(count)
        cut = max(1, round(share * count))
        if self.blocks is None:
            return order[:cut], order[cut:]
        blocks = self.blocks
        number = int(blocks.max()) + 1
        size = np.bincount(blocks, minlength=number)
        turn = rng.permutation(number)
        # As many whole blocks as come nearest to the share, and at least one on either side.
        reached = np.cumsum(size[turn])
        least = int(np.argmin(np.abs(reached - cut)))
        chosen = np.zeros(number, dtype=bool)
        chosen[turn[: min(max(least + 1, 1), number - 1)]] = True
        taken = chosen[blocks[order]]
        return order[taken], order[~taken]

    def folds(
        self, count: int, number: int, rng: np.random.Generator
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Cut the rows into so many parts of about one size, whole blocks at a time: of each its rows, and all others.

        Raises:
            ValueError: for more folds than there are blocks.
        """
        blocks = np.arange(count) if self.blocks is None else self.blocks
        size = np.bincount(blocks)
        if len(size) < number:
            raise ValueError(f"folds is {number} for {len(size)} blocks of rows; expected no more folds than blocks")
        turn = rng.permutation(len(size))
        fold = np.empty(len(size), dtype=np.int64)
        # A block belongs where its middle lies; as many places as folds if blocks are few.
        place = (
            (np.cumsum(size[turn]) - size[turn] / 2) / count
            if len(size) > 4 * number
            else np.arange(len(size)) / len(size)
        )
        fold[turn] = (place * number).astype(np.int64)
        which = fold[blocks]
        return [(np.flatnonzero(which == k), np.flatnonzero(which != k)) for k in range(number)]

    def of(self, rows: NDArray[np.int64]) -> Rows:
        """The same of some of the rows."""
        if self.blocks is None:
            return self
        return Rows(np.unique(self.blocks[rows], return_inverse=True)[1].reshape(-1), self.memory, None, self.notes)

    def independent(self, count: int, fewest: int) -> NDArray[np.int64] | None:
        """Rows that may be read as independent draws; ``None`` if they are too few."""
        rows = np.arange(count) if self.first is None else self.first
        if self.memory > 1:
            rows = rows[:: math.ceil(self.memory)]
        return rows if len(rows) >= fewest else None


def examine(arrays: Mapping[str, NDArray[np.generic]], blocks: ArrayLike | None = None) -> Rows:
    """Find out which rows of the variables, `(N, d)` floats or `(N,)` labels, may be taken apart.

    Args:
        arrays: by name, of one length; the first two are those whose information is asked for.
        blocks: one label a row, the same for rows that are not independent (one patient, one day); or a number: that
            many rows after each other are a block. By default copies of a row are kept together, and rows that follow in
            time, as their correlation tells, are cut into long blocks.

    Raises:
        TypeError, ValueError: for blocks that are neither, or fewer than four of them.
    """
    count = len(next(iter(arrays.values())))
    if blocks is not None:
        number = _numbered(blocks, count)
        # How much rows of a block depend on each other is not known: readings look at one of each.
        return Rows(number, 1.0, np.unique(number, return_index=True)[1])
    numbers = [values for values in arrays.values() if values.ndim == 2]
    joined = np.hstack([np.asarray(v, dtype=float).reshape(count, -1) for v in arrays.values()])
    tied = any(_untied(column) for values in numbers for column in np.asarray(values, dtype=float).T)
    if tied:
        copies = _copies(joined)
        if copies is not None:
            number, first, repeated = copies
            most = int(np.bincount(number).max())
            said = (
                f"{repeated} of {count} rows repeat another row exactly, one of them {most} times; copies were kept on one side of "
                "every split, and count once in the standard error. Remove them if they are no draws of their own"
            )
            return Rows(number, 1.0, first, (said,))
    memory = _memory(list(arrays.values())[:2])
    if memory is None:
        return Rows()
    length = min(math.ceil(MEMORIES * memory), count // FEWEST_BLOCKS)
    said = (
        f"neighbouring rows depend on each other in all variables (about {memory:.0f} rows say as much as one that is independent, so "
        f"that there are {count / memory:.0f} of {count}); the split and the standard error take blocks of {length} rows in "
        "place of rows. Pass blocks= with one label a row if you know better, or thin the series"
    )
    return Rows(np.arange(count) // length, memory, None, (said,))


def _numbered(blocks: ArrayLike, count: int) -> NDArray[np.int64]:
    if isinstance(blocks, str | bytes | Mapping | bool):
        raise TypeError(f"blocks is {shown(blocks)}; expected one label a row, or how many rows a block has")
    if isinstance(blocks, int | np.integer):
        if not 1 <= blocks <= count // 4:
            raise ValueError(f"blocks is {blocks} for {count} rows; expected 1 to {count // 4} rows a block")
        return np.arange(count) // int(blocks)
    labels = np.asarray(blocks)
    if labels.shape != (count,):
        raise ValueError(f"blocks has shape {labels.shape}; expected one label for each of {count} rows")
    if labels.dtype.kind not in "biuUS" and not (labels.dtype.kind == "f" and bool(np.isfinite(labels).all())):
        raise TypeError(
            f"blocks has dtype {labels.dtype}; expected labels that can be compared, such as integers or text"
        )
    number = np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if number.max() < 3:
        raise ValueError(
            f"blocks has {number.max() + 1} different labels; expected at least 4, to fit some and measure others"
        )
    return number


def _untied(column: Array) -> bool:
    """Whether a column could tell copies of rows from chance: values on no grid, or hardly met twice."""
    values = np.unique(column)
    return len(values) > len(column) / 2 or (len(values) > 32 and grid_of(values) is None)


def _copies(joined: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], int] | None:
    """A number for each row, the same for copies, the first row of each number, and how many rows are copies; ``None`` if hardly any are."""
    # The bytes of whole rows; adding 0 makes -0 the same as 0.
    packed = np.ascontiguousarray(joined + 0.0)
    keys = packed.view(np.dtype((np.void, packed.dtype.itemsize * packed.shape[1]))).reshape(-1)
    _, first, number, times = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    alone = np.flatnonzero((times > max(ATOM, ATOM_SHARE * len(joined)))[number])
    if len(alone):  # each by itself, as many rows as there are
        number = number.copy()
        number[alone] = len(first) + np.arange(len(alone))
        _, first, number = np.unique(number, return_index=True, return_inverse=True)
    repeated = len(joined) - len(first)
    if repeated <= COPIES * len(joined):
        return None
    return number.reshape(-1).astype(np.int64), np.sort(first), repeated


def grid_of(values: Array) -> float | None:
    """The step of the even grid that sorted different values lie on, if there is one with few empty places."""
    if len(values) < 2:
        return None
    gaps = np.diff(values)
    step = float(gaps.min())
    places = (values - values[0]) / step
    size = max(1.0, float(np.abs(values).max()) / step)
    if places[-1] > 50 * len(values) or np.abs(places - np.round(places)).max() > 1e-9 * size + 1e-6:
        return None
    return float(places[-1] and (values[-1] - values[0]) / np.round(places[-1]))


def _memory(arrays: list[NDArray[np.generic]]) -> float | None:
    """How many rows tell as much as an independent one, by the correlation of neighbours in the ranks of all variables.

    Errors of what two variables share grow with the product of their correlations r and s: by (1 + rs) / (1 - rs). ``None``
    unless each variable remembers, or if a column is sorted: the order of rows then tells nothing of time.
    """
    from scipy.stats import rankdata

    strongest: list[float] = []
    for values in arrays:
        columns = np.asarray(values, dtype=float).reshape(len(values), -1)
        if bool((np.diff(columns, axis=0) >= 0).all(0).any() or (np.diff(columns, axis=0) <= 0).all(0).any()):
            return None
        ranks = rankdata(columns[:FOLLOWED], axis=0)
        ranks = (ranks - ranks.mean(0)) / np.maximum(ranks.std(0), 1e-12)
        strongest.append(float((ranks[1:] * ranks[:-1]).mean(0).max()))
    least = SIGMAS / math.sqrt(min(len(arrays[0]), FOLLOWED))
    if len(strongest) < 2 or min(strongest) < least:
        return None
    first, second = sorted(strongest)[-2:]
    product = min(first * second, 1 - 1e-6)
    memory = (1 + product) / (1 - product)
    # Of short memories the errors grow by less than a tenth.
    return memory if memory > 1.2 else None
