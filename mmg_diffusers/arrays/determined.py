"""Columns that others determine, along a line, a curve, a fold or a surface: their mutual information is infinite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.columns import Array

# What a smooth function leaves of a column, beside its spread, among the nearest rows: below this it is determined. Noise of
# this size would be 11 nats.
LEFT = 1e-5
# Pairs that are looked at, columns that may be functions, and the dimensions up to which curved
# surfaces and planes are fitted: linear functions of more columns show as canonical correlations of 1.
MOST, COLUMNS, CURVED, MANY = 10_000, 20, 4, 12


def refuse_determined(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse variables of which one holds a column that is a smooth function of another variable, as far as rows tell.

    Around the rows whose neighbours are nearest a polynomial of degree two is fitted: of a smooth function it leaves the cube
    of the distance, of noise it leaves the noise.

    Raises:
        ValueError: for a column that is determined.
    """
    numbers = {name: np.asarray(values, dtype=float)[:MOST] for name, values in arrays.items() if values.ndim == 2}
    untied = {name: [k for k, c in enumerate(v.T) if len(np.unique(c)) > len(c) / 2] for name, v in numbers.items()}
    for source, inputs in numbers.items():
        kept = untied[source]
        # Each column alone as well: many others hide it, since in many dimensions no row is near.
        choices = [kept] if len(kept) == 1 else [kept, *([k] for k in kept[:COLUMNS])]
        for target, outputs in numbers.items():
            wanted = untied[target][:COLUMNS]
            if target == source or not wanted or not kept:
                continue
            for chosen in choices:
                left = _left(_scaled(inputs[:, chosen]), outputs[:, wanted])
                if float(left.min()) < LEFT:
                    which = f"column {chosen[0]} of {source}" if len(chosen) == 1 else f"the columns of {source}"
                    raise ValueError(
                        f"column {wanted[int(left.argmin())]} of {target} is a function of {which}, to {LEFT:g} of its spread: the "
                        "mutual information is infinite, and no estimate is right. Add the noise that the question is about, or "
                        "leave the column out"
                    )


def _scaled(values: Array) -> Array:
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-300)


def _left(inputs: Array, columns: Array) -> Array:
    """What is left of each column among the nearest rows, in units of its spread; the median over them."""
    from scipy.spatial import KDTree

    count, dim = inputs.shape
    quadratic = dim <= CURVED
    terms = 1 + dim + (dim * (dim + 1) // 2 if quadratic else 0)
    near = 2 * terms + 4
    if near >= count / 4 or dim > MANY:
        return np.ones(columns.shape[1])
    spread = np.subtract(*np.quantile(columns, [0.75, 0.25], axis=0))
    spread = np.where(spread > 0, spread, columns.std(0))
    some = np.random.default_rng(0).permutation(count)[: 2000 if quadratic else 400]
    distance, rows = (np.asarray(part) for part in KDTree(inputs).query(inputs[some], k=near))
    left: list[Array] = []
    for k in np.argsort(distance[:, -1])[:30]:
        x = (inputs[rows[k]] - inputs[some[k]]) / max(float(distance[k, -1]), 1e-300)
        bases = [np.ones((near, 1)), x]
        if quadratic:
            bases += [x[:, [i]] * x[:, i:] for i in range(dim)]
        design, target = np.hstack(bases), columns[rows[k]] - columns[some[k]]
        answer = np.linalg.lstsq(design, target, rcond=None)[0]
        left.append(np.sqrt(np.square(target - design @ answer).sum(0) / (near - terms)))
    return np.median(left, axis=0) / spread
