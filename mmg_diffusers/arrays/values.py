"""Values as people pass them, to arrays: numbers in columns, or one column of labels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.checks import reason, shown

# Values above this, and spreads below its inverse, have squares that floats do not hold.
LARGEST = 1e100


def named(names: Iterable[object]) -> str:
    """List names for a message, the first ones if there are many."""
    return textwrap.shorten(", ".join(str(name)[:40] for name in names), 100, placeholder=" ...")


def as_array(values: ArrayLike | Tensor, name: str) -> NDArray[np.generic]:
    """Bring values to `(N, d)` float64, or to `(N,)` integers for labels.

    Raises:
        ValueError: for other shapes and dtypes, values that are not finite or are masked, or none of them.
    """
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values; remove these pairs")
    if isinstance(values, Tensor):
        values = values.detach().cpu().to_dense()
        # numpy has no bfloat16.
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no array ({reason(error)}); expected rows of one length") from error
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected numbers, or integer labels. Of text, "
            "np.unique(..., return_inverse=True)[1] makes labels"
        )
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "biu":
        array = array[:, 0]
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected one row a pair")
    if array.dtype.kind in "biu":
        if array.ndim == 2:
            raise ValueError(
                f"{name} has {array.shape[1]} columns of integers; labels are one column. Convert counts and pixels to float"
            )
        return array
    array = array.astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
    bad = np.flatnonzero(~np.isfinite(array).all(1))
    if len(bad):
        raise ValueError(f"{name} has NaN or infinite values in rows {bad[:10].tolist()}; remove or repair these pairs")
    size = float(np.abs(array).max())
    if size > LARGEST:
        raise ValueError(
            f"{name} has values up to {size:.3g}, whose squares overflow; divide its columns by their size"
        )
    return array


def pairs_in(data: Mapping[str, Sized], fewest: int) -> int:
    """Count the pairs that variables hold, at least `fewest`.

    Raises:
        ValueError: for none or too few, or variables of different lengths.
    """
    counts = {name: len(values) for name, values in data.items()}
    if not counts:
        raise ValueError("there are no variables; expected two or more by name, such as {'x': x, 'y': y}")
    if len(set(counts.values())) > 1:
        raise ValueError(f"variables differ in length: {shown(counts)}; expected one row a pair in each")
    count = next(iter(counts.values()))
    if count < fewest:
        raise ValueError(f"got {count} pairs; expected at least {fewest}, of which a part is held out to be measured")
    return count
