"""Pairs of image and prompt, and candidate prompts, as people keep them: a picture, a folder, a table, a list."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import Brief, file_path, needs, reason, shown
from mmg_diffusers.files.text import read_lines, read_text
from mmg_diffusers.pairs.classes import as_prompt, prompt_in
from mmg_diffusers.pairs.images import IMAGE_SUFFIXES, Images
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.prompts import check_caption, check_text, is_blank

if TYPE_CHECKING:
    import pandas

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
# Names in use, in the order in which they are looked for. The first of each is ours, the rest are of imagefolder.
IMAGE_COLUMNS = ("image", "file_name", "path")
PROMPT_COLUMNS = ("prompt", "text", "caption", "label")


@dataclass(frozen=True, repr=False)
class PairTable(Brief):
    """Paths of images with their prompts, and contexts if there are some; lists of one length.

    Args:
        images, prompts, given: of each pair.
        notes: for the reader of a record, such as how many hidden files were left out.
        faults: what keeps a pair from being measured, by its place; `read_pairs` refuses a table that has any.
    """

    images: list[Path]
    prompts: list[str]
    given: list[str] | None = None
    notes: tuple[str, ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # One path is one pair, also for a model of videos, which takes a plain list of pictures for the frames of one.
        object.__setattr__(self, "images", Images(self.images))

    def __len__(self) -> int:
        return len(self.images)


def read_pairs(source: str | Path, prompt: str | None = None) -> PairTable:
    """Read pairs from an image, a folder or a table.

    Args:
        source: an image file; a folder with a table named ``metadata.csv``, ``.jsonl`` or ``.parquet``; a folder of
            images alone, those in its sub-folders too, in the order of their paths; or a table. A table has a column of
            paths (``image``, ``file_name`` or ``path``, relative to the table's folder), one of prompts (``prompt``,
            ``text`` or ``caption``, or ``label`` for classes, by number or name), and may have one ``given``.
        prompt: the prompt of all images; takes the place of a column.

    Raises:
        FileNotFoundError: when there is no such file or folder.
        ValueError: when there is no image or no prompt, columns are missing, values are empty, or a path leads out of the
            folder.
    """
    table = read_rows(source, prompt)
    if table.faults:
        raise ValueError(f"{source}: {table.faults[min(table.faults)]}")
    return table


def read_pictures(source: str | Path) -> PairTable:
    """The pictures of a source, whatever it says of them: their prompts are left aside.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does.
    """
    return read_pairs(source, "a picture")


def read_rows(source: str | Path, prompt: str | None = None) -> PairTable:
    """`read_pairs` for a run, which measures the good pairs all the same: `PairTable.faults` says what is wrong with others.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does, but for what is wrong with single rows.
    """
    source = file_path(source, "the source")
    if prompt is not None:
        prompt = as_prompt(prompt)
        check_caption(prompt, "prompt")
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}; expected an image, a folder or a table of pairs")
    if source.is_dir():
        tables = [path for suffix in TABLE_SUFFIXES if (path := source / f"metadata{suffix}").is_file()]
        if not tables:
            return _pictures_in(source, prompt)
        others = ", ".join(path.name for path in tables[1:])
        return _read_table(tables[0], prompt, (f"{tables[0].name} is read, and not {others}",) if others else ())
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


# ---- folders ----


def _pictures_in(folder: Path, prompt: str | None) -> PairTable:
    """The pictures of a folder and of its sub-folders, sorted by their paths."""

    def refuse(error: OSError) -> None:
        raise error

    names: list[Path] = []
    hidden: list[Path] = []
    others: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        inner = Path(place).relative_to(folder)
        # Folders that are links are not gone into, which might lead anywhere.
        linked = [name for name in folders if _hides(name) or (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in linked]
        for name in [*files, *linked]:
            kept = hidden if _hides(name) else names if Path(name).suffix.lower() in IMAGE_SUFFIXES else others
            kept.append(inner / name)
    if not names:
        raise ValueError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}) and no metadata table")
    names.sort(key=lambda name: name.parts)
    deep = sum(len(name.parts) > 1 for name in names)
    notes = [f"{deep} of the {len(names)} pictures in {folder} lie in its sub-folders"] if deep else []
    for what, left_out in (("hidden", hidden), ("no pictures by their ending", others)):
        if left_out:
            notes.append(f"of what is in {folder}, {len(left_out)} are left out, {what} (such as {min(left_out)})")
    faults = {}
    for row, name in enumerate(names):
        try:
            inside(folder, str(name), f"the folder {folder}")
        except ValueError as error:
            faults[row] = str(error)
    images = [folder / name for name in names]
    return PairTable(images, [_needed(prompt, folder)] * len(names), None, tuple(notes), faults)


def _hides(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a Mac or Windows puts beside others."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def inside(folder: Path, name: str, who: str) -> Path:
    """The path that somebody names, which must not lead out of a folder.

    Args:
        folder: that it is relative to.
        name: of the file.
        who: names it, for the message.

    Raises:
        ValueError: for one that leads out of it, by whatever links, or that is no path.
    """
    path = folder / name
    try:
        within = bool(name) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise ValueError(f"{who} names {shown(name)}, which is no path: {reason(error)}") from error
    if not within:
        raise ValueError(f"{who} names {shown(name)}, which is not a file inside that folder; move it there")
    return path


# ---- tables ----


def read_candidates(path: str | Path) -> Candidates:
    """Candidate prompts from a file: text with one a line, or a table with a column of prompts and, unless they are equally
    probable, one named ``prior``.

    Raises:
        ValueError: for fewer than two candidates, the same one twice, or a prior that is none.
    """
    path = file_path(path, "the file of candidates")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return Candidates(tuple(line.strip() for line in read_lines(path) if line.strip()))
    table = _frame(path)
    names, faults = _column(table, PROMPT_COLUMNS, path)
    if faults:
        raise ValueError(f"{path}: {faults[min(faults)]}")
    if "prior" not in table.columns:
        return Candidates(tuple(names))
    try:
        return Candidates(tuple(names), tuple(float(value) for value in table["prior"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {reason(error)}") from error


def _read_table(path: Path, prompt: str | None, notes: tuple[str, ...] = ()) -> PairTable:
    table = _frame(path)
    names, faults = _column(table, IMAGE_COLUMNS, path)
    prompts = [prompt] * len(names)
    if prompt is None:
        prompts, wrong = _column(table, PROMPT_COLUMNS, path)
        faults = wrong | faults
    given = None
    if "given" in table.columns:
        given, wrong = _column(table, ("given",), path)
        faults = wrong | faults
    for row, name in enumerate(names):
        try:
            inside(path.parent, name, f"the table in {path.parent}")
        except ValueError as error:
            faults.setdefault(row, str(error))
    images = [path.parent / name for name in names]
    return PairTable(images, [text or "" for text in prompts], given, notes, faults)


def _frame(path: Path) -> pandas.DataFrame:
    for package in ("pandas", *(["pyarrow"] if path.suffix.lower() == ".parquet" else [])):
        needs(package, "data")
    import pandas

    try:
        if path.suffix.lower() == ".csv":
            # Names are the first row as it stands: pandas would give a repeated name another number.
            text = io.StringIO(read_text(path), newline="")
            cells = pandas.read_csv(text, header=None, dtype=str, keep_default_na=False)
            table = pandas.DataFrame(cells.to_numpy()[1:], columns=cells.iloc[0].tolist())
        elif path.suffix.lower() == ".jsonl":
            # Line by line: pandas would turn captions that look like numbers or dates into such.
            lines = enumerate(read_lines(path), 1)
            table = pandas.DataFrame([_json_row(line, number) for number, line in lines if line.strip()], dtype=object)
        else:
            table = pandas.read_parquet(path)
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, and not of the table
        raise ValueError(f"{path} cannot be read as a table: {reason(error)}") from error
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


def _json_row(line: str, number: int) -> dict[str, Any]:
    """A line of a .jsonl table; refuses one that is no object, or has a name twice."""
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"line {number}: {reason(error)}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is {shown(line)}; expected an object of names and values")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"it has a name more than once, of {shown([name for name, _ in pairs])}")
    return row


def _column(table: pandas.DataFrame, names: Sequence[str], path: Path) -> tuple[list[str], dict[int, str]]:
    """The text of a column, and what is wrong with it by row.

    Raises:
        ValueError: when there is no such column, or it holds no text at all.
    """
    there = [name for name in names if name in table.columns]
    if not there:
        raise ValueError(f"{path} has the columns {shown(list(table.columns))}; expected one of {', '.join(names)}")
    name = there[0]
    if table.columns.tolist().count(name) > 1:
        raise ValueError(f"{path} has the column {shown(name)} more than once; leave one of them")
    values = table[name].tolist()
    if IMAGE_COLUMNS[0] not in names:
        values = [prompt_in(name, value) for value in values]
    faults: dict[int, str] = {}
    for row, value in enumerate(values):
        if not isinstance(value, str):
            wanted = "text" if IMAGE_COLUMNS[0] in names else "text, or the number of a class"
            faults[row] = f"row {row} has {shown(value)} in column {shown(name)}; expected {wanted}"
        elif is_blank(value) and "given" not in names:
            faults[row] = f"row {row} has nothing in column {shown(name)}; fill it in, or leave the row out"
        else:
            try:
                check_text(value, f"the text of row {row} in column {shown(name)}")
            except ValueError as error:
                faults[row] = str(error)
    if not any(isinstance(value, str) for value in values):
        pictures = (
            ". Pictures inside of a table are read by datasets.load_dataset, whose rows a run takes"
            if IMAGE_COLUMNS[0] in names
            else ""
        )
        raise ValueError(f"{path}: {faults[0]}{pictures}")
    return [value if isinstance(value, str) else "" for value in values], faults


def read_webdataset(shard: Path) -> Iterable[Mapping[str, Any]]:
    """The rows of a webdataset shard, streaming.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a damaged one.
        ImportError: if `datasets` is not installed.
    """
    if not shard.is_file():
        raise FileNotFoundError(f"there is no {shard}; expected a webdataset shard")
    needs("datasets", "data")
    from datasets import load_dataset

    try:
        return load_dataset("webdataset", data_files=str(shard), split="train", streaming=True)
    except Exception as error:  # of a damaged archive, and of any kind
        raise ValueError(f"{shard} cannot be read as a webdataset shard: {reason(error)}") from error
