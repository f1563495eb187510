"""Equations that all rows of a sample fulfil, and planes that many of them lie on: what determines a column exactly.

Among the nearest rows of many columns no function is smooth; what holds for all rows at once needs no row near another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.arrays.rows import grid_of

if TYPE_CHECKING:
    from scipy.spatial import KDTree

# Terms that an equation has at most, the most that its degree may be, and rows that it has more than terms.
TERMS, DEGREE, ROOM = 250, 4, 40
# Rows that determine a plane and those that are counted on it; how near, in units of the column's spread.
PLANES, COUNTED, ON = 60, 2000, 1e-7
# Inputs from which a third of the planes is tried: they take long, and no rows are near.
MANY = 20
# The share of rows on one plane from which they are no accident; and of rows in which a column is a copy of another.
SHARE, COPIED = 0.04, 0.02
# Lines through two rows that are tried for every two columns.
LINES = 200
# Rows that a weighted sum is looked for on, columns that it has at most, and Chebyshev's polynomials of it: at first, more at a step, most.
SUMMED, WIDE, SMOOTH, MORE, SMOOTHEST = 2000, 16, 8, 4, 60
# Columns among whose nearest rows a direction is looked for: in more dimensions none is near.
CLOSE = 8
# Steps after which less is left, to this share, unless there is nothing to find; and how far weights move in a step at most.
LATER, LESS, FARTHEST = 3, 0.5, 0.3


def polynomials(x: Array, degree: int) -> Array:
    """All products of up to so many of the columns, `(N, terms)`."""
    last = {(): np.ones(len(x))}
    terms = dict(last)
    for _ in range(degree):
        last = {
            (*key, k): value * x[:, k] for key, value in last.items() for k in range(max(key, default=0), x.shape[1])
        }
        terms |= last
    return np.stack(list(terms.values()), 1)


def met_once(column: Array) -> NDArray[np.bool_]:
    """Which values stand in a single row."""
    _, place, times = np.unique(column, return_inverse=True, return_counts=True)
    return times[place.reshape(-1)] == 1


def left_by_products(inputs: Array, columns: Array) -> Array:
    """What is left of the logarithm of each column's size, beside its spread, by those of the inputs, and the inputs themselves.

    So are seen products, quotients and powers of any number of columns, and with them exponentials.
    """
    logs, logged = (np.log(np.abs(np.where(v == 0, np.nan, v))) for v in (inputs, columns))
    usual = np.isfinite(logs).all(1)
    found: list[float] = []
    for column in logged.T:
        rows = usual & np.isfinite(column)
        if rows.sum() < 2 * (2 * inputs.shape[1] + ROOM):
            found.append(np.inf)
            continue
        design = np.hstack([np.ones((int(rows.sum()), 1)), scaled(inputs[rows]), scaled(logs[rows])])
        found.append(_left_by_line(design, column[rows]))
    return np.array(found)


def _left_by_line(design: Array, target: Array) -> float:
    """The median of what a linear law leaves of other rows than it was fitted to, in units of their spread."""
    half = len(design) // 2
    answer = np.linalg.lstsq(design[:half], target[:half], rcond=None)[0]
    spread = _spread(target)
    return float(np.median(np.abs(target[half:] - design[half:] @ answer))) / spread if spread > 0 else np.inf


def left_by_equations(inputs: Array, columns: Array) -> Array:
    """How far each column is, beside its spread, from a root of the polynomial equation with the inputs that fits best.

    The equation is found on some rows, and tried on others. So are seen polynomials, and norms, quotients, roots, absolute
    values of sums.
    """
    count, dim = inputs.shape
    degrees = [k for k in range(2, DEGREE + 1) if math.comb(dim + 1 + k, k) <= TERMS and _rows(dim, k) <= count]
    if not degrees:
        return np.full(columns.shape[1], np.inf)
    # Of columns with long tails the powers of a few rows would be all that counts.
    x = scaled(inputs)
    found: list[float] = []
    for column in columns.T:
        y = scaled(column[:, None])[:, 0]
        rows = np.flatnonzero(met_once(column))[: _rows(dim, degrees[-1])]
        found.append(_left_by_root(x[rows], y[rows], degrees[-1]) if len(rows) >= _rows(dim, degrees[0]) else np.inf)
    return np.array(found)


def _rows(dim: int, degree: int) -> int:
    return 2 * (math.comb(dim + 1 + degree, degree) + ROOM)


def _left_by_root(x: Array, y: Array, degree: int) -> float:
    while _rows(x.shape[1], degree) > len(y):
        degree -= 1
    half = len(y) // 2
    alone = polynomials(x, degree)
    others = [polynomials(x, degree - k) for k in range(1, degree + 1)]
    terms = np.hstack([part * y[:, None] ** (k + 1) for k, part in enumerate(others)])
    slopes = np.hstack([part * ((k + 1) * y[:, None] ** k) for k, part in enumerate(others)])
    size = np.maximum(np.abs(terms[:half]).max(0), 1e-300)
    terms, slopes = terms / size, slopes / size
    alone = alone / np.maximum(np.abs(alone[:half]).max(0), 1e-300)
    # What inputs fulfil among themselves is no equation of the column.
    basis, strength, _ = np.linalg.svd(alone[:half], full_matrices=False)
    basis = basis[:, strength > 1e-12 * strength[0]]
    answer = np.linalg.svd(terms[:half] - basis @ (basis.T @ terms[:half]), full_matrices=False)[2][-1]
    mix = np.linalg.lstsq(alone[:half], terms[:half] @ answer, rcond=1e-13)[0]
    rest = np.abs(terms[half:] @ answer - alone[half:] @ mix)
    steep = np.abs(slopes[half:] @ answer)
    spread = _spread(y)
    return float(np.median(rest / np.maximum(steep, 1e-300))) / spread if spread > 0 else np.inf


def left_by_sums(inputs: Array, columns: Array) -> Array:
    """What is left of each column, beside its spread, by the smooth function of one weighted sum of the inputs that fits best.

    So are seen waves of a sum of any number of columns, and what flattens it. Weights are found by Gauss and Newton's steps on half of
    the rows, from several starts, with polynomials of a degree that grows; what is left is that of the other half.
    """
    dim = inputs.shape[1]
    if not 2 <= dim <= WIDE:
        return np.full(columns.shape[1], np.inf)
    found: list[float] = []
    for column in columns.T:
        rows = np.flatnonzero(met_once(column))[:SUMMED]
        spread = _spread(column[rows]) if len(rows) else 0.0
        if len(rows) < 4 * (dim + ROOM) or spread == 0:
            found.append(np.inf)
            continue
        x, y = scaled(inputs[rows]), (column[rows] - np.median(column[rows])) / spread
        found.append(min(_left_by_sum(x, y, weights) for weights in _directions(x, y)))
    return np.array(found)


def _directions(x: Array, y: Array) -> list[Array]:
    """Weights to start from: where a column rises, where its square and what bends do, and along what it changes among nearest rows."""
    from scipy.spatial import KDTree

    count, dim = x.shape
    design = np.hstack([np.ones((count, 1)), x])
    line = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ line
    found = [line[1:]]
    for values in (rest, rest**2):
        strength, vectors = np.linalg.eigh((x * (values - values.mean())[:, None]).T @ x)
        found.append(vectors[:, np.abs(strength).argmax()])
    if dim <= CLOSE:
        some = x[: count // 4]
        rows = np.asarray(KDTree(x).query(some, k=2 * (dim + 2))[1])
        near = np.concatenate([np.ones((*rows.shape, 1)), x[rows] - some[:, None]], -1)
        slopes = (np.linalg.pinv(near) @ y[rows][..., None])[:, 1:, 0]
        steep = np.linalg.norm(slopes, axis=1, keepdims=True)
        found.append(np.linalg.svd(slopes / np.maximum(steep, 1e-300), full_matrices=False)[2][0])
    return [weights / np.linalg.norm(weights) for weights in found if np.linalg.norm(weights) > 0]


def _left_by_sum(x: Array, y: Array, weights: Array) -> float:
    from numpy.polynomial import chebyshev

    half, lefts = len(y) // 2, [np.inf]
    for degree in range(SMOOTH, min(SMOOTHEST, half // 4) + 1, MORE):
        longest = float(np.abs(x @ weights).max()) or 1.0
        place = x @ weights / longest
        terms = chebyshev.chebvander(place, degree)
        answer = np.linalg.lstsq(terms[:half], y[:half], rcond=None)[0]
        rest = y - terms @ answer
        lefts.append(float(np.median(np.abs(rest[half:]))))
        # Of noise no more is explained however many terms there are.
        if len(lefts) > LATER and lefts[-1] > LESS * lefts[-1 - LATER]:
            break
        slope = chebyshev.chebval(place, chebyshev.chebder(answer)) / longest
        both = np.hstack([terms, x * slope[:, None]])
        step = np.linalg.lstsq(both[:half], rest[:half], rcond=1e-10)[0][-x.shape[1] :]
        step = step - weights * (weights @ step)
        weights = weights + step * min(1.0, FARTHEST / max(float(np.linalg.norm(step)), 1e-300))
        weights = weights / np.linalg.norm(weights)
    return min(lefts)


def left_by_pieces(inputs: Array, columns: Array) -> Array:
    """0 for a column that many rows have from one plane through the inputs, or as a copy of one of them; otherwise infinity.

    So are seen maxima and minima, columns that are chosen by others, absolute values and their sums: pieces of planes.
    """
    from scipy.spatial import KDTree

    found = np.full(columns.shape[1], np.inf)
    all_rows = KDTree(scaled(inputs))
    for k, column in enumerate(columns.T):
        once = np.flatnonzero(met_once(column))
        # Of values on a grid many meet by chance.
        if len(once) < 4 * (inputs.shape[1] + ROOM) or grid_of(np.unique(column)) is not None:
            continue
        x, y = inputs[once], column[once]
        tree = all_rows if len(once) == len(inputs) else KDTree(scaled(x))
        if _copied(x, y) or _on_lines(x, y) or _on_planes(tree, y):
            found[k] = 0.0
    return found


def _copied(x: Array, y: Array) -> bool:
    near = np.abs(np.abs(x) - np.abs(y)[:, None]) <= 1e-12 * np.abs(y)[:, None]
    return bool((near.mean(0) > COPIED).any())


def _on_lines(x: Array, y: Array) -> bool:
    """Whether lines through two rows, of one input and the column, hold many others."""
    rng = np.random.default_rng(1)
    some = rng.permutation(len(y))[: COUNTED // 4]
    ends = rng.permutation(len(y))[: 2 * min(LINES, len(y) // 2)].reshape(2, -1)
    tolerance = ON * _spread(y)
    for column in x.T:
        run = column[ends[1]] - column[ends[0]]
        slope = (y[ends[1]] - y[ends[0]]) / np.where(run == 0, np.inf, run)
        level = y[ends[0]] - slope * column[ends[0]]
        on = np.abs(y[some] - level[:, None] - slope[:, None] * column[some]) <= tolerance
        if (on.mean(1) > 2 * SHARE).any():
            return True
    return False


def _on_planes(tree: KDTree, y: Array) -> bool:
    """Whether planes through the nearest rows of some hold many others; the tree holds the inputs of all rows."""
    if tree.m < 2:
        return False
    near = tree.m + 4
    half = PLANES // 2 if tree.m < MANY else PLANES // 6
    # Where the column is far out, its nearest rows are the most likely to lie on one piece.
    far = np.argsort(-np.abs(y - np.median(y)))[:half]
    chosen = np.concatenate([far, np.random.default_rng(2).permutation(len(y))[:half]])
    rows = np.asarray(tree.query(tree.data[chosen], k=near)[1])
    design = np.hstack([np.ones((tree.n, 1)), np.asarray(tree.data)])
    tolerance = ON * _spread(y)
    for those in rows:
        answer = np.linalg.lstsq(design[those], y[those], rcond=None)[0]
        if np.abs(y[those] - design[those] @ answer).max() > tolerance:
            continue
        if (np.abs(y - design @ answer) <= tolerance).mean() > SHARE:
            return True
    return False


def _spread(values: Array) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


def scaled(values: Array) -> Array:
    """Columns of mean 0 and deviation 1; constant ones of 0."""
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-300)
