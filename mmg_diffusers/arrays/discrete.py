"""Columns that take few values, or lie on a grid: labels, indicators, counts, rounded numbers; how they are read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.arrays.rows import grid_of

# A variable is discrete if its different rows are met so often in the mean ...
MET = 10
# ... and integers are labels if there are no more of them than this, or each is met at least so many times.
LABELS, RARE = 12, 10
# The share of different values up to which a column on a grid counts as rounded.
ROUNDED = 0.2
# The share of one value above which a column is nearly constant.
NEARLY = 0.99


class Kind(NamedTuple):
    """How a variable is read: values, `(N, d)` float64 or `(N,)` labels; the steps of its columns' grids; what was seen.

    `discrete` are its different rows by number, `(N,)`, if they are few enough for a table of counts.
    """

    values: NDArray[np.generic]
    steps: dict[int, float]
    discrete: NDArray[np.int64] | None
    notes: tuple[str, ...] = ()

    def spread(self, rng: np.random.Generator) -> NDArray[np.generic]:
        """The values with those on a grid spread evenly over its cells.

        The cell tells the value, and where in the cell a point lies tells nothing: mutual information stays as it is, and
        there is no density below the grid that a fit could invent.
        """
        if not self.steps:
            return self.values
        spread = np.array(self.values, dtype=float)
        for column, step in self.steps.items():
            spread[:, column] += step * (rng.random(len(spread)) - 0.5)
        return spread


def kind_of(values: NDArray[np.generic], name: str) -> Kind:
    """Find out how a variable is to be read."""
    notes: list[str] = []
    if values.ndim == 1:
        classes, place, times = np.unique(values, return_inverse=True, return_counts=True)
        if values.dtype == bool or len(classes) <= LABELS or int(times.min()) >= RARE:
            return Kind(values, {}, place.reshape(-1))
        notes.append(
            f"{name} holds {len(classes)} different integers, {int((times < RARE).sum())} of them fewer than {RARE} times, and was "
            "read as numbers; if they are labels, merge the rare ones"
        )
        discrete = place.reshape(-1) if len(classes) * MET <= len(values) else None
        numbers = values.astype(float)[:, None]
        return Kind(numbers, _grid(0, np.unique(numbers), len(numbers)), discrete, tuple(notes))
    numbers = np.asarray(values, dtype=float)
    label = _indicators(numbers)
    if label is not None:
        notes.append(
            f"the {numbers.shape[1]} columns of {name} are indicators of one label each row, and were read as that label; pass the "
            "label itself, as integers"
        )
        return Kind(label, {}, label, tuple(notes))
    steps: dict[int, float] = {}
    for k, column in enumerate(numbers.T):
        found, times = np.unique(column, return_counts=True)
        steps |= _grid(k, found, len(column))
        if len(found) > 1 and times.max() > NEARLY * len(column):
            notes.append(
                f"column {k} of {name} is nearly constant: {len(column) - int(times.max())} of {len(column)} rows differ from "
                f"{found[times.argmax()]:.4g}, and all that it tells lies in them; add such rows, or leave it out"
            )
    if len(steps) > 0:
        first, step = next(iter(steps.items()))
        few = len(np.unique(numbers[:, first]))
        notes.append(
            f"{len(steps)} of {numbers.shape[1]} columns of {name} lie on a grid (column {first}: {few} values, steps of {step:.4g}), and "
            "what is measured is the information of the rounded values; pass more digits if there are any, or integers if they are "
            "labels"
        )
    return Kind(numbers, steps, _discrete(numbers), tuple(notes))


def _grid(column: int, values: Array, count: int) -> dict[int, float]:
    """The step of a column whose sorted different values, few beside so many rows, lie on a grid; nothing if they do not."""
    step = grid_of(values) if 2 < len(values) <= ROUNDED * count else None
    return {} if step is None else {column: step}


def _discrete(numbers: Array) -> NDArray[np.int64] | None:
    """The number of every row among the different ones, if these are few; columns with many values end the search."""
    count = len(numbers)
    number = np.zeros(count, dtype=np.int64)
    for column in numbers.T:
        values, place = np.unique(column, return_inverse=True)
        if len(values) * MET > count:
            return None
        joined, number = np.unique(number * len(values) + place.reshape(-1), return_inverse=True)
        number = number.reshape(-1)
        if len(joined) * MET > count:
            return None
    return number.astype(np.int64)


def _indicators(numbers: Array) -> NDArray[np.int64] | None:
    """The label that three or more columns of indicators stand for; ``None`` unless each row has a single one."""
    if (
        numbers.shape[1] < 3
        or not bool(((numbers == 0) | (numbers == 1)).all())
        or not bool((numbers.sum(1) == 1).all())
    ):
        return None
    return numbers.argmax(1)
