"""Cheap readings of two arrays, before any network is fitted: what a fit has to explain.

Nearest neighbours, the Gaussian part in closed form, and the best pair of columns by a table of counts. The information of
a part never exceeds that of the whole (data processing), so that a fit that finds less than a reading has missed something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.bends import bent
from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.arrays.counts import Table
from mmg_diffusers.measure.value import Value

GAUSSIAN, NEIGHBOURS = "Gaussian part", "nearest neighbours"
# The same of more pairs than other readings look at: these scatter with it where they see the same pairs, so that it is no floor.
EVERY = "Gaussian part of all pairs"
# The reading of what second and third powers show beyond it; no floor, since it is right to second order only.
BENDS = "bends beyond the Gaussian part"
# Nearest neighbours of a pair of columns are believed both ways up to so many nats, to this share.
BOTH_WAYS, CLOSE = 2.0, 0.05
# Pairs that readings look at, and those that neighbours in more than a few dimensions are counted among.
MOST, MOST_NEIGHBOURS = 10_000, 4_000
# Values that the Gaussian part, which is cheaper, is read from.
MOST_VALUES = 2_000_000
# Dimensions in all up to which nearest neighbours are believed: beyond, they tell less than there is, and slowly.
NEAR = 10
# Cells of a table of ranks, coarse to fine, by column of x and of y.
TABLES = ((8, 8), (16, 16), (32, 8), (8, 32), (128, 8), (8, 128), (32, 32))
# Cells of a column where two are looked at together (twice as many of the third), and how many threes are looked at.
TWO, THREES = 4, 600
# Pairs in the mean cell below which a table is not tried.
HELD = 5
# A reading counts as found if chance gives it in fewer cases than this.
CHANCE = 1e-3
# ... and what bends in fewer than this, since its shuffles know nothing of what least squares took out of many columns.
SURE = 1e-4
# ... or, without a test, if it is so many of its errors above what the bias of small distances may be, in nats.
SIGMAS, SLIGHT = 3, 0.01
# So many pairs more than columns are needed for a Gaussian part.
ROOM = 20
# The pairs from which, and the share within which nearest and farther neighbours agree, if distances are small beside what the law's shape bends on.
MANY, AGREE = 4_000, 0.05


class Reading(NamedTuple):
    """What one cheap look found: its name, the information in nats, and the p-value of independence if there is a test."""

    name: str
    value: Value
    chance: float | None = None
    both_ways: bool = False
    """Whether more than this is as suspicious as less: the reading is of all that there is, not of a part."""


@dataclass(frozen=True)
class Floors:
    """The readings of one data set, and what they ask of a fit."""

    readings: tuple[Reading, ...] = ()

    @property
    def least(self) -> Reading | None:
        """The reading that asks for most: the greatest value less two of its errors, if that is above 0.

        What has no test of its own has to be clear of chance, unless bends have shown already that there is something to see.
        """
        bent = self.bends > 0
        real = [r for r in self.readings if _beyond_chance(r) or (bent and r.chance is None)]
        found = [r for r in real if _sure(r.value) > 0 and r.name not in (BENDS, EVERY)]
        return max(found, key=lambda r: _sure(r.value)) if found else None

    def missed(self, value: Value) -> tuple[Reading, float] | None:
        """The reading that a value is below by more than both errors, and by how much it is; ``None`` if there is none."""
        reading = self.least
        if reading is None:
            return None
        lack = reading.value.value - value.value
        allowed = max(2 * math.hypot(reading.value.stderr, value.stderr), 0.02 * reading.value.value)
        return (reading, lack) if lack > allowed else None

    @property
    def gaussian(self) -> Reading | None:
        """The Gaussian part, if it explains all other readings but that of what bends."""
        for reading in self.readings:
            if reading.name == GAUSSIAN and self.missed(reading.value) is None and self.above(reading.value) == 0:
                return reading
        return None

    @property
    def told(self) -> Reading | None:
        """The Gaussian part of as many pairs as were read for it, if that of the pairs that other readings look at explains these."""
        every = [reading for reading in self.readings if reading.name == EVERY]
        return every[0] if every and self.gaussian is not None else self.gaussian

    @property
    def bends(self) -> float:
        """About how many nats second and third powers show beyond the Gaussian part; 0 if that may be chance."""
        return next((r.value.value for r in self.readings if r.name == BENDS and (r.chance or 0.0) < SURE), 0.0)

    @property
    def bends_read(self) -> bool:
        """Whether second and third powers were looked at."""
        return any(r.name == BENDS for r in self.readings)

    def above(self, value: Value) -> float:
        """By how many nats a value is above a reading that is believed both ways, beyond the errors of both; 0 if it is not."""
        for reading in self.readings:
            apart = value.value - reading.value.value
            allowed = max(2 * math.hypot(value.stderr, reading.value.stderr), CLOSE * reading.value.value)
            if reading.both_ways and reading.value.value < BOTH_WAYS and apart > allowed:
                return apart
        return 0.0

    def record(self) -> dict[str, list[float | None]]:
        """By name: nats, standard error and p-value, in what JSON can hold."""
        return {
            r.name: [
                round(r.value.value, 5),
                round(r.value.stderr, 5),
                None if r.chance is None else float(f"{r.chance:.3g}"),
            ]
            for r in self.readings
        }


def _beyond_chance(reading: Reading) -> bool:
    if reading.chance is not None:
        return reading.chance < CHANCE
    return reading.value.value > SIGMAS * reading.value.stderr + SLIGHT


def _agree(one: Value, two: Value) -> bool:
    return abs(one.value - two.value) <= max(2 * one.stderr, AGREE * abs(one.value))


def _sure(value: Value) -> float:
    return value.value - 2 * value.stderr


def read(x: NDArray[np.generic], y: NDArray[np.generic], seed: int = 0) -> Floors:
    """Read two variables in some seconds at most: `(N, d)` floats or `(N,)` labels, of independent rows.

    Args:
        x, y: the variables.
        seed: breaks ties, and chooses the rows if there are many.
    """
    rng = np.random.default_rng([seed, 2])
    every = x, y
    rows = np.arange(len(x)) if len(x) <= MOST else rng.permutation(len(x))
    x, y = x[rows[:MOST]], y[rows[:MOST]]
    labels = x.ndim == 1, y.ndim == 1
    if all(labels):
        table = Table.of(x, y)
        return Floors((Reading("table of counts", Value(table.nats, table.stderr), table.chance),))
    left, right = _columns(x), _columns(y)
    best = screen(left, right, labels=labels)
    found = [best] if best is not None else []
    if len(left) >= HELD * 2 * TWO**3:
        two = screen_two(left, right, labels)
        found += [two] if two is not None else []
    if not any(labels):
        one, two = normal_scores(left, rng), normal_scores(right, rng)
        total = one.shape[1] + two.shape[1]
        if len(one) > total + ROOM:
            found.append(Reading(GAUSSIAN, *gaussian(one, two)))
            more = rows[: max(MOST, MOST_VALUES // total)]
            if len(more) > MOST:
                found.append(Reading(EVERY, *gaussian(*(normal_scores(_columns(v[more]), rng) for v in every))))
            beyond = bent(one, two, seed) if total > 2 else None
            if beyond is not None:
                found.append(Reading(BENDS, Value(beyond.nats, 0.0), beyond.chance))
        if total <= NEAR:
            few = slice(MOST_NEIGHBOURS if total > 3 else MOST)
            value = nearest_neighbours(one[few], two[few])
            # Believed both ways if neither farther neighbours nor a table see anything else.
            sure = total == 2 and len(one) >= MANY and _agree(value, nearest_neighbours(one[few], two[few], 10))
            sure = sure and (best is None or _sure(best.value) <= value.value)
            found.append(Reading(NEIGHBOURS, value, both_ways=sure))
        elif best is not None and best.chance is not None and best.chance < CHANCE:
            i, j = (int(part) for part in best.name.removeprefix("columns ").split(" and "))
            value = nearest_neighbours(one[:, [i]], two[:, [j]])
            found.append(Reading(f"nearest neighbours of columns {i} and {j}", value))
    return Floors(tuple(found))


def _columns(values: NDArray[np.generic]) -> Array:
    return np.asarray(values, dtype=float).reshape(len(values), -1)


# ---- one by one ----


def normal_scores(values: Array, rng: np.random.Generator) -> Array:
    """Map each column of `(N, d)` to a normal law by its ranks; ties are broken at random."""
    from scipy.special import ndtri

    count = len(values)
    order = np.lexsort((rng.random(values.shape), values), axis=0)
    scores = np.empty(values.shape)
    np.put_along_axis(scores, order, np.broadcast_to(ndtri((np.arange(count) + 0.5) / count)[:, None], values.shape), 0)
    return scores


def nearest_neighbours(x: Array, y: Array, neighbours: int = 5) -> Value:
    """Estimate by distances to the k-th neighbour (Kraskov et al. 2004, eq. 8), in the largest coordinate difference.

    Args:
        x, y: `(N, d)` floats without ties.
        neighbours: k. More of them have less noise and more bias.

    Returns:
        nats, and the spread of the local terms over the root of N.
    """
    from scipy.spatial import KDTree
    from scipy.special import digamma

    count = len(x)
    both = KDTree(np.hstack([x, y]))
    radius = both.query(np.hstack([x, y]), k=neighbours + 1, p=np.inf)[0][:, -1]
    local = np.full(count, digamma(neighbours) + digamma(count))
    for values in (x, y):
        if values.shape[1] == 1:
            line = np.sort(values[:, 0])
            inside = np.searchsorted(line, values[:, 0] + radius, "left") - np.searchsorted(
                line, values[:, 0] - radius, "right"
            )
        else:
            # A hair less than the radius, since only nearer ones count.
            inside = KDTree(values).query_ball_point(values, radius * (1 - 1e-10), p=np.inf, return_length=True)
        local -= digamma(np.maximum(inside, 1))
    return Value(float(local.mean()), float(local.std() / math.sqrt(count)))


def gaussian(x: Array, y: Array) -> tuple[Value, float]:
    """The information of a Gaussian law with the sample's correlations, and the p-value that there is none.

    The plug-in's bias is taken off in closed form: that of three log determinants of Wishart matrices, whatever the
    correlations. The test is Bartlett's, of all canonical correlations at once: no threshold on each, so that many weak
    ones are seen together.

    Args:
        x, y: `(N, d)` with N > the sum of both d.

    Returns:
        nats with their standard error, and the p-value.
    """
    from scipy.special import digamma
    from scipy.stats import chi2

    count, dims = len(x), (x.shape[1], y.shape[1])
    squared = canonical_correlations(x, y) ** 2
    plug_in = -0.5 * float(np.log1p(-squared).sum())

    def bias(dim: int) -> float:
        return 0.5 * float((digamma((count - 1 - np.arange(dim)) / 2) - math.log((count - 1) / 2)).sum())

    value = plug_in - bias(dims[0]) - bias(dims[1]) + bias(sum(dims))
    # Of the correlations that are left when noise is taken off; and what independent variables would scatter by.
    real = float(np.maximum(squared - dims[0] * dims[1] / count / len(squared), 0).sum())
    stderr = math.sqrt(real / count + dims[0] * dims[1] / 2 / count**2)
    statistic = 2 * (count - 1 - (sum(dims) + 1) / 2) * plug_in
    return Value(value, stderr), float(chi2.sf(statistic, dims[0] * dims[1]))


def canonical_correlations(x: Array, y: Array) -> Array:
    """The canonical correlations of two `(N, d)` samples, falling; columns that others determine add none."""
    bases: list[Array] = []
    for values in (x, y):
        left, size, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
        bases.append(left[:, size > 1e-9 * size[0]])
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).clip(0, 1 - 1e-15)


def screen(x: Array, y: Array, labels: Sequence[bool] = (False, False)) -> Reading | None:
    """Look at every pair of columns, one of x and one of y, by tables of their ranks' counts; find the one that says most.

    What a table holds, its bias taken off, is a floor whatever the law. The p-value is that of the best of all tables.

    Args:
        x, y: `(N, d)`.
        labels: whether the one column of x, of y, holds labels, which are cells as they are.
    """
    count, tried = len(x), 0
    best: Reading | None = None
    for cells in TABLES:
        if cells[0] * cells[1] * HELD > count:
            continue
        left, right = (_cells(v, k, label) for v, k, label in zip((x, y), cells, labels, strict=True))
        for i in range(x.shape[1]):
            if x.shape[1] * y.shape[1] > 100 and tried and best is not None and best.chance == 0:
                break  # found beyond doubt; finer tables of thousands of pairs would take long
            for j in range(y.shape[1]):
                tried += 1
                found = _counted(left[:, i], right[:, j])
                if best is None or _sure(found[0]) > _sure(best.value):
                    best = Reading(f"columns {i} and {j}", *found)
    if best is None or best.chance is None:
        return best
    return best._replace(chance=min(1.0, best.chance * tried))


def screen_two(x: Array, y: Array, labels: Sequence[bool] = (False, False)) -> Reading | None:
    """Look at every two columns of one variable together with one of the other, by tables of coarse cells.

    Two columns may tell together what neither tells alone: the parity of two bits, a wave or a square of a sum. ``None`` if
    there are more than so many threes of columns, or no two columns.

    Args:
        x, y: `(N, d)`.
        labels: as in `screen`.
    """
    best: Reading | None = None
    tried = 0
    sides = ((x, y, labels[1], "x"), (y, x, labels[0], "y"))
    if sum(math.comb(one.shape[1], 2) * other.shape[1] for one, other, _, _ in sides) > THREES:
        return None
    for one, other, label, name in sides:
        if one.shape[1] < 2:
            continue
        coarse, fine = _cells(one, TWO, False), _cells(other, TWO * 2, label)
        for i, j in combinations(range(one.shape[1]), 2):
            both = coarse[:, i] * TWO + coarse[:, j]
            for k in range(other.shape[1]):
                tried += 1
                found = _counted(both, fine[:, k])
                if best is None or _sure(found[0]) > _sure(best.value):
                    best = Reading(
                        f"columns {i} and {j} of {name} with column {k} of {'y' if name == 'x' else 'x'}", *found
                    )
    if best is None or best.chance is None:
        return best
    return best._replace(chance=min(1.0, best.chance * tried))


def _counted(row: NDArray[np.int64], column: NDArray[np.int64]) -> tuple[Value, float]:
    width = int(column.max()) + 1
    flat = np.bincount(row * width + column, minlength=(int(row.max()) + 1) * width)
    table = Table(flat.reshape(-1, width))
    corrected = table.plug_in - table.freedom / 2 / table.count
    return Value(corrected, table.stderr), table.chance


def _cells(values: Array, cells: int, label: bool) -> NDArray[np.int64]:
    """The cell of every value, column by column: equally many in each, unless values are tied."""
    if label:
        return np.unique(values[:, 0], return_inverse=True)[1].reshape(-1, 1)
    placed = np.empty(values.shape, dtype=np.int64)
    for k, column in enumerate(values.T):
        edges = np.unique(np.quantile(column, np.arange(1, cells) / cells))
        placed[:, k] = np.searchsorted(edges, column, side="right")
    return placed
