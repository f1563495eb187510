"""Two variables as people keep them: arrays in a file, columns of a table, an image data set."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.arrays.image_data import read_images
from mmg_diffusers.arrays.values import named
from mmg_diffusers.checks import needs, reason, shown
from mmg_diffusers.files.text import read_text
from mmg_diffusers.pairs.frames import layout_of

Arrays = dict[str, NDArray[np.generic]]


def read_variables(source: str | Path, x: Sequence[str] = (), y: Sequence[str] = ()) -> Arrays:
    """Read x and y, row by row the same pairs.

    Args:
        source: ``.npz`` with an array for each; ``.npy`` of shape (N, columns); ``.csv``, ``.tsv`` or ``.parquet`` with columns of
            numbers (of text, separated by commas, semicolons, tabs or bars); or an image data set (see `read_images`), whose labels are y.
        x, y: names of the arrays (one each) or columns (any number); numbers of columns for ``.npy``. By default "x" and
            "y"; "image" and "label" of an image data set.

    Returns:
        ``{"x": ..., "y": ...}``: `(N, d)`, `(N,)`, or pictures.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for pickled, truncated or foreign files, and names that are not there.
    """
    path = Path(source)
    wanted = {"x": list(x), "y": list(y)}
    kind = path.suffix.lower()
    if kind not in (".npz", ".npy", ".csv", ".tsv", ".parquet") or _holds_pictures(path, wanted["x"] or ["image"]):
        names = [(wanted[key] or [default])[0] for key, default in (("x", "image"), ("y", "label"))]
        pictures = read_images(source, image=names[0], label=names[1])
        if pictures.labels is None:
            raise ValueError(f"{source} has no {shown(names[1])} beside its pictures; name the column of y")
        return {"x": pictures.images, "y": pictures.labels}
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; expected .npz, .npy, .csv, .parquet or an image data set")
    if kind in (".npz", ".npy"):
        return _from_numpy(path, wanted)
    return _from_table(path, wanted)


def _holds_pictures(path: Path, columns: Sequence[str]) -> bool:
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    needs("pyarrow", "data")
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read as parquet: {reason(error)}") from error
    return columns[0] in schema.names and pyarrow.types.is_struct(schema.field(columns[0]).type)


def _from_numpy(path: Path, wanted: dict[str, list[str]]) -> Arrays:
    try:
        # Arrays of objects are pickles, and reading one runs what it holds.
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _columns_of_array(loaded, path, wanted)
        variables: Arrays = {}
        with loaded as arrays:
            for key, names in wanted.items():
                name = _single(names or [key], key, path)
                if name not in arrays.files:
                    raise ValueError(f"there is no array {shown(name)} among {named(arrays.files)}")
                variables[key] = arrays[name]
        return variables
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}") from error


def _single(names: Sequence[str], key: str, path: Path) -> str:
    if len(names) != 1:
        raise ValueError(f"{len(names)} names for {key} of {path}: {named(names)}; an array is one variable")
    return names[0]


def _columns_of_array(array: NDArray[np.generic], path: Path, wanted: dict[str, list[str]]) -> Arrays:
    if array.ndim != 2:
        raise ValueError(f"it has shape {array.shape}; expected (N, columns)")
    chosen = wanted if wanted["x"] or wanted["y"] or array.shape[1] != 2 else {"x": ["0"], "y": ["1"]}
    variables: Arrays = {}
    for key, names in chosen.items():
        if not names or not all(name.isdecimal() and int(name) < array.shape[1] for name in names):
            raise ValueError(
                f"{key} is {named(names) or 'not named'}; expected numbers of columns from 0 to {array.shape[1] - 1}"
            )
        variables[key] = array[:, [int(name) for name in names]]
    return variables


def _from_table(path: Path, wanted: dict[str, list[str]]) -> Arrays:
    needs("pandas", "data")
    if path.suffix.lower() == ".parquet":
        needs("pyarrow", "data")
    import pandas

    try:
        if path.suffix.lower() == ".parquet":
            table = pandas.read_parquet(path)
        else:
            text = read_text(path)
            separator, spaced = layout_of(
                text, {name.lower() for key, names in wanted.items() for name in (names or [key])}
            )
            table = pandas.read_csv(StringIO(text), sep=separator, skipinitialspace=spaced)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table: {reason(error)}") from error
    variables: Arrays = {}
    for key, names in wanted.items():
        names = names or [key]
        missing = [name for name in names if name not in table.columns]
        if missing:
            else_ = "" if wanted[key] else f", or the columns of {key} named"
            raise ValueError(
                f"{path} has the columns {named(table.columns)}; expected {shown(missing[0])} among them{else_}"
            )
        values = table[names].to_numpy()
        if values.dtype.kind not in "biuf":
            held = "text" if values.dtype.kind in "OUST" else str(values.dtype)
            raise ValueError(f"{path}: columns {named(names)} hold {held}; expected numbers")
        # One column of integers is labels; several are counts.
        variables[key] = values if values.dtype.kind == "f" or len(names) == 1 else values.astype(float)
    return variables
