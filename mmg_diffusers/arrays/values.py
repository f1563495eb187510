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
    if hasattr(values, "tocsr"):
        raise ValueError(f"{name} is a sparse {type(values).__name__}; pass {name}.toarray(), its rows all written out")
    values = _without_missing(values, name)
    if isinstance(values, Tensor):
        values = values.detach().cpu().to_dense()
        # numpy has no bfloat16.
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no array ({reason(error)}); expected rows of one length") from error
    if array.dtype.kind in "mM":
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected numbers. Of dates, (dates - dates[0]) / np.timedelta64(1, 'D') makes days"
        )
    if array.dtype.names is not None:
        raise ValueError(
            f"{name} has fields {named(array.dtype.names)}; expected columns of numbers: numpy.lib.recfunctions."
            "structured_to_unstructured makes them"
        )
    if array.dtype.kind == "c":
        raise ValueError(f"{name} has dtype {array.dtype}; pass its real and imaginary part as two columns")
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
        if array.ndim == 2 and _one_hot(array):
            return array.argmax(1)
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


def _without_missing(values: ArrayLike | Tensor, name: str) -> ArrayLike | Tensor:
    """Columns of a table as plain numbers, if nothing is missing in them; anything else as it is."""
    missing = getattr(values, "isna", None)
    if missing is None:
        return values
    gone = np.asarray(missing(), dtype=bool)
    rows = np.flatnonzero(gone.reshape(len(gone), -1).any(1)) if gone.ndim else np.zeros(0, dtype=int)
    if len(rows):
        raise ValueError(f"{name} has missing values in rows {rows[:10].tolist()}; remove these pairs, or fill them in")
    array = np.asarray(values)
    if array.dtype == object and array.size and all(isinstance(v, int | float | np.number) for v in array.flat):
        return array.astype(type(array.flat[0]) if isinstance(array.flat[0], int) else float)
    return array


def _one_hot(array: NDArray[np.generic]) -> bool:
    """Whether three or more columns of integers are indicators, of which each row has a single one."""
    zeros_and_ones = bool(((array == 0) | (array == 1)).all())
    return array.shape[1] >= 3 and zeros_and_ones and bool((array.sum(1) == 1).all())


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
