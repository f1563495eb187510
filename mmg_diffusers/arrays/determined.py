"""Columns that others determine, along a line, a curve, a fold or a surface: their mutual information is infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.arrays.equations import (
    left_by_equations,
    left_by_pieces,
    left_by_products,
    left_by_sums,
    met_once,
    polynomials,
    scaled,
)

# What a smooth function leaves of a column, beside its spread, among the nearest rows: below this it is determined. Noise of
# this size would be 11 nats.
LEFT = 1e-5
# Pairs that are looked at, columns that may be functions, and the dimensions up to which curved
# surfaces and planes are fitted: linear functions of more columns show as canonical correlations of 1.
MOST, COLUMNS, CURVED, MANY = 10_000, 20, 4, 12
# Rows that are looked at: where rows lie densest, and anywhere.
DENSE, OTHERS, FEWEST = 40, 80, 10
# Columns up to which every two of them are looked at together.
PAIRS = 8


def refuse_determined(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse variables of which one holds a column that is a smooth function of another variable, as far as rows tell.

    Around rows a polynomial of degree one to four is fitted to their nearest neighbours: of a smooth function it leaves a
    high power of the distance, of noise it leaves the noise. And over all rows an equation is looked for that they all fulfil, and
    planes on which many of them lie: see `equations`.

    Raises:
        ValueError: for a column that is determined.
    """
    numbers = {name: np.asarray(values, dtype=float)[:MOST] for name, values in arrays.items() if values.ndim == 2}
    untied = {name: [k for k, c in enumerate(v.T) if len(np.unique(c)) > len(c) / 2] for name, v in numbers.items()}
    for source, inputs in numbers.items():
        kept = untied[source]
        # The fewest first, which a message names: many others hide a column, since in many dimensions no row is near.
        choices = [[k] for k in kept[:COLUMNS]]
        if CURVED < len(kept) <= PAIRS:
            choices += [list(pair) for pair in combinations(kept, 2)]
        if len(kept) > 1:
            choices.append(kept)
        for target, outputs in numbers.items():
            wanted = untied[target][:COLUMNS]
            if target == source or not wanted or not kept:
                continue
            once = np.stack([met_once(column) for column in outputs[:, wanted].T], 1)
            for chosen in choices:
                left = _left(scaled(inputs[:, chosen]), outputs[:, wanted], once)
                if len(chosen) == len(kept):
                    for look in (left_by_products, left_by_equations, left_by_sums, left_by_pieces):
                        left = np.minimum(left, look(inputs[:, chosen], outputs[:, wanted]))
                if float(left.min()) < LEFT:
                    which = {1: f"column {chosen[0]}", 2: f"columns {chosen[0]} and {chosen[-1]}"}.get(
                        len(chosen), "the columns"
                    )
                    which = f"{which} of {source}"
                    raise ValueError(
                        f"column {wanted[int(left.argmin())]} of {target} is a function of {which}, to {LEFT:g} of its spread: the "
                        "mutual information is infinite, and no estimate is right. Add the noise that the question is about, or "
                        "leave the column out"
                    )


def _left(inputs: Array, columns: Array, once: NDArray[np.bool_]) -> Array:
    """What is left of each column among the nearest rows, in units of its spread: the median of the densest, a quartile of all.

    Where rows lie densest the remainder of a curve is least, but a fold may run right there: others are looked at as well.
    A row whose value in a column stands elsewhere too, so that it was not met `once`, says nothing of it, since a column may rest at
    one value.
    """
    from scipy.spatial import KDTree

    count, dim = inputs.shape
    # A higher degree leaves less of a curve, and needs more neighbours, which in many dimensions are far.
    degree = 1 if dim > CURVED else 2 if dim > 2 else 4
    terms = math.comb(dim + degree, degree)
    near = 2 * terms + 4
    if near >= count / 4 or dim > MANY:
        return np.ones(columns.shape[1])
    spread = np.subtract(*np.quantile(columns, [0.75, 0.25], axis=0))
    spread = np.where(spread > 0, spread, columns.std(0))
    some = np.random.default_rng(0).permutation(count)[: 2000 if degree > 1 else 400]
    distance, rows = (np.asarray(part) for part in KDTree(inputs).query(inputs[some], k=near))
    dense = np.argsort(distance[:, -1])
    looked = np.concatenate([dense[:DENSE], np.random.default_rng(1).permutation(dense[DENSE:])[:OTHERS]])
    left: list[Array] = []
    for k in looked:
        x = (inputs[rows[k]] - inputs[some[k]]) / max(float(distance[k, -1]), 1e-300)
        design, target = polynomials(x, degree), columns[rows[k]] - columns[some[k]]
        answer = np.linalg.lstsq(design, target, rcond=None)[0]
        left.append(np.sqrt(np.square(target - design @ answer).sum(0) / (near - terms)))
    found: list[float] = []
    for alone, part in zip(once[some[looked]].T, np.array(left).T, strict=True):
        near_by, any_where = part[:DENSE][alone[:DENSE]], part[alone]
        least = [float(np.quantile(some, q)) for some, q in ((near_by, 0.5), (any_where, 0.25)) if len(some) > FEWEST]
        found.append(min(least, default=np.inf))
    return np.array(found) / spread
