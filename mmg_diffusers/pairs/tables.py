"""Pairs of image and prompt, and candidate prompts, as people keep them: a picture, a folder, a table, a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import file_path, needs
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.prompts import check_text

if TYPE_CHECKING:
    import pandas

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
# Names in use, in the order in which they are looked for. The first of each is ours, the rest are of imagefolder.
IMAGE_COLUMNS = ("image", "file_name", "path")
PROMPT_COLUMNS = ("prompt", "text", "caption")


@dataclass(frozen=True)
class PairTable:
    """Paths of images with their prompts, and contexts where there are some; lists of one length."""

    images: list[Path]
    prompts: list[str]
    given: list[str] | None = None

    def __len__(self) -> int:
        return len(self.images)


def read_pairs(source: str | Path, prompt: str | None = None) -> PairTable:
    """Read pairs from an image, a folder or a table.

    Args:
        source: an image file; a folder with a table named ``metadata.csv``, ``.jsonl`` or ``.parquet``; a folder of
            images alone; or a table. A table has a column of paths (``image``, ``file_name`` or ``path``, relative to
            the table's folder), one of prompts (``prompt``, ``text`` or ``caption``), and may have one ``given``.
        prompt: the prompt of all images; takes the place of a column.

    Raises:
        FileNotFoundError: when there is no such file or folder.
        ValueError: when there is no image or no prompt, columns are missing, values are empty, or a path leaves the
            table's folder.
    """
    source = file_path(source, "the source")
    if prompt is not None:
        check_text(prompt, "prompt")
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}; expected an image, a folder or a table of pairs")
    if source.is_dir():
        tables = [source / f"metadata{suffix}" for suffix in TABLE_SUFFIXES]
        found = [table for table in tables if table.is_file()]
        if found:
            return _read_table(found[0], prompt)
        images = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise ValueError(f"{source} holds no image ({', '.join(IMAGE_SUFFIXES)}) and no metadata table")
        return PairTable(images, [_needed(prompt, source)] * len(images))
    if source.suffix.lower() in TABLE_SUFFIXES:
        return _read_table(source, prompt)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return PairTable([source], [_needed(prompt, source)])
    raise ValueError(
        f"cannot tell what {source} is by its ending; expected an image ({', '.join(IMAGE_SUFFIXES)}), a table "
        f"({', '.join(TABLE_SUFFIXES)}) or a folder"
    )


def _needed(prompt: str | None, source: Path) -> str:
    if prompt is None:
        raise ValueError(f"{source} names no prompts; give one for all images, or a table with a column 'prompt'")
    return prompt


def read_candidates(path: Path) -> Candidates:
    """Candidate prompts from a file: text with one a line, or a table with a column of prompts and, where they are not equally
    probable, one named ``prior``.

    Raises:
        ValueError: for fewer than two candidates, the same one twice, or a prior that is none.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is no text; expected candidate prompts, one a line, or a table of them"
            ) from error
        return Candidates(tuple(line.strip() for line in lines if line.strip()))
    table = _frame(path)
    names = tuple(_column(table, PROMPT_COLUMNS, path))
    if "prior" not in table.columns:
        return Candidates(names)
    try:
        return Candidates(names, tuple(float(value) for value in table["prior"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_table(path: Path, prompt: str | None) -> PairTable:
    table = _frame(path)
    names = _column(table, IMAGE_COLUMNS, path)
    prompts = [prompt] * len(names) if prompt is not None else _column(table, PROMPT_COLUMNS, path)
    given = _column(table, ("given",), path) if "given" in table.columns else None
    return PairTable([_inside(path.parent, name) for name in names], prompts, given)


def _frame(path: Path) -> pandas.DataFrame:
    for package in ("pandas", *(["pyarrow"] if path.suffix.lower() == ".parquet" else [])):
        needs(package, "data")
    import pandas

    try:
        if path.suffix.lower() == ".csv":
            # Names are the first row as it stands: pandas would give a repeated name another number.
            cells = pandas.read_csv(path, header=None, dtype=str, keep_default_na=False)
            table = pandas.DataFrame(cells.to_numpy()[1:], columns=cells.iloc[0].tolist())
        elif path.suffix.lower() == ".jsonl":
            # Line by line: pandas would turn captions that look like numbers or dates into such.
            table = pandas.DataFrame([_json_row(line) for line in path.read_text().splitlines() if line.strip()])
        else:
            table = pandas.read_parquet(path)
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as a table: {str(error).strip()}") from error
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


def _json_row(line: str) -> dict[str, Any]:
    """A line of a .jsonl table; what is no object, or has a name twice, is refused."""
    row = json.loads(line, object_pairs_hook=_once)
    if not isinstance(row, dict):
        raise ValueError(f"a line is {line[:40]!r}; expected an object of names and values")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a line has a name more than once, of {', '.join(name for name, _ in pairs)}")
    return row


def _column(table: pandas.DataFrame, names: Sequence[str], path: Path) -> list[str]:
    found = [name for name in names if name in table.columns]
    if not found:
        raise ValueError(f"{path} has the columns {list(table.columns)}; expected one of {', '.join(names)}")
    if table.columns.tolist().count(found[0]) > 1:
        raise ValueError(f"{path} has the column {found[0]!r} more than once; leave one of them")
    values = table[found[0]].tolist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{path}: row {row} has {value!r} in column {found[0]!r}; expected text")
        if not value.strip() and "given" not in names:
            raise ValueError(f"{path}: row {row} has nothing in column {found[0]!r}; fill it in, or leave the row out")
    return values


def _inside(folder: Path, name: str) -> Path:
    """The path that a table names, which must not lead out of the table's folder."""
    path = folder / name
    try:
        inside = bool(name) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise ValueError(f"the table in {folder} names {name!r}, which is no path: {error}") from error
    if not inside:
        raise ValueError(f"the table in {folder} names {name!r}, which is not a file inside that folder; move it there")
    return path
