"""Tables as files keep them: text separated by commas, semicolons, tabs or bars, JSON, lines of JSON, parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import needs, reason, shown
from mmg_diffusers.files.text import read_lines, read_text

if TYPE_CHECKING:
    import pandas

# Among a table's attributes: what it calls the classes of its columns, by column.
CLASSES = "classes"
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# Names in use, in the order in which they are looked for. The first of each is ours, the rest are those of data sets.
IMAGE_COLUMNS = ("image", "file_name", "path", "img")
PROMPT_COLUMNS = ("prompt", "text", "caption", "captions", "label")
# What columns are called.
_KNOWN = {*IMAGE_COLUMNS, *PROMPT_COLUMNS, "given", "prior"}
_SEPARATORS = (",", ";", "\t", "|")


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its ending."""
    return path.suffix.lower() in TABLE_SUFFIXES


def read_frame(path: Path) -> pandas.DataFrame:
    """The cells of a table's file: text, or what JSON and parquet hold.

    Raises:
        ValueError: for a file that is no table, or has no rows.
        OSError: if it cannot be read.
        ImportError: if a package that reads it is not installed.
    """
    kind = path.suffix.lower()
    for package in ("pandas", *(["pyarrow"] if kind == ".parquet" else [])):
        needs(package, "data")
    import pandas

    try:
        if kind in (".csv", ".tsv"):
            table = _separated(read_text(path), "\t" if kind == ".tsv" else None)
        elif kind == ".jsonl":
            # Line by line: pandas would turn captions that look like numbers or dates into such.
            lines = enumerate(read_lines(path), 1)
            rows = [_json_row(line, f"line {number}") for number, line in lines if line.strip()]
            table = pandas.DataFrame(rows, dtype=object)
        elif kind == ".json":
            table = pandas.DataFrame(_json_rows(read_text(path)), dtype=object)
        else:
            table = pandas.read_parquet(path)
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, and not of the table
        raise ValueError(f"{path} cannot be read as a table: {reason(error)}") from error
    if not len(table):
        raise ValueError(f"{path} has no rows")
    ours = by_our_names(list(table.columns), _KNOWN)
    if kind == ".parquet":
        table.attrs[CLASSES] = {ours.get(name, name): names for name, names in _classes_in(path).items()}
    return table.rename(columns=ours)


def _classes_in(path: Path) -> dict[str, list[str]]:
    """What parquet that `datasets` wrote calls the classes of its columns."""
    needs("pyarrow", "data")
    from pyarrow import parquet

    held = (parquet.read_schema(path).metadata or {}).get(b"huggingface")
    try:
        features = {} if held is None else json.loads(held)["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and "names" in feature
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # of another writer, under the same name
        return {}


def by_our_names(columns: Sequence[Any], known: Collection[str]) -> dict[Any, str]:
    """Columns that are ours but for capitals and spaces around them, such as ``Image`` or `` prompt``, by our names.

    None would take the name of another.
    """
    ours = {name: name.strip().lower() for name in columns if isinstance(name, str)}
    return {name: to for name, to in ours.items() if to in known and to != name and [*ours.values()].count(to) == 1}


def column_of(table: pandas.DataFrame, names: Sequence[str], path: Path) -> tuple[str, list[Any]]:
    """The first of the names that a table has, and the cells of that column.

    Raises:
        ValueError: if there is no such column, or there are two.
    """
    there = [name for name in names if name in table.columns]
    if not there:
        raise ValueError(f"{path} has the columns {shown(list(table.columns))}; expected one of {', '.join(names)}")
    name = there[0]
    if table.columns.tolist().count(name) > 1:
        raise ValueError(f"{path} has the column {shown(name)} more than once; leave one of them")
    return name, table[name].tolist()


def layout_of(text: str, known: Collection[str], separators: Sequence[str] = _SEPARATORS) -> tuple[str, bool]:
    """What separates the cells of a table, and whether spaces follow it, told by the first row: whatever makes most names that are known.

    Args:
        text: of the file.
        known: names of columns, in small letters.
        separators: that there may be; the first, unless another makes more names.
    """
    first = text.lstrip("\ufeff").partition("\n")[0].rstrip("\r")
    names = {one: next(csv.reader([first], delimiter=one), []) for one in separators}
    chosen = max(separators, key=lambda one: len({name.strip().lower() for name in names[one]} & {*known}))
    # Where names stand after spaces cells do, and quotes begin after them.
    return chosen, any(name.startswith(" ") for name in names[chosen][1:])


def _separated(text: str, separator: str | None) -> pandas.DataFrame:
    """Cells of text."""
    needs("pandas", "data")
    import pandas

    chosen, spaced = layout_of(text, _KNOWN, _SEPARATORS if separator is None else (separator,))
    # Names are the first row as it stands: pandas would give a repeated name another number.
    stream = io.StringIO(text, newline="")
    cells = pandas.read_csv(stream, sep=chosen, header=None, dtype=str, keep_default_na=False, skipinitialspace=spaced)
    return pandas.DataFrame(cells.to_numpy()[1:], columns=cells.iloc[0].tolist())


def _json_rows(text: str) -> list[Mapping[str, Any]]:
    """The rows of a .json table: a list of objects."""
    rows = json.loads(text, object_pairs_hook=_once)
    if not isinstance(rows, list):
        raise ValueError(f"it holds {_kind(rows)}; expected a list of objects, one a row")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is {shown(row)}; expected an object of names and values")
    return rows


def _kind(value: object) -> str:
    return f"one object of {shown(list(value))}" if isinstance(value, dict) else shown(value)


def _json_row(line: str, where: str) -> dict[str, Any]:
    """A line of a .jsonl table; refuses one that is no object, or has a name twice."""
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"{where}: {reason(error)}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {shown(line)}; expected an object of names and values")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"it has a name more than once, of {shown([name for name, _ in pairs])}")
    return row
