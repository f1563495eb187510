"""Pairs of image and prompt, and candidate prompts, as people keep them: a picture, a folder, a table, a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import Brief, file_path, reason, shown
from mmg_diffusers.files.text import read_lines
from mmg_diffusers.pairs.captions import Captions, several
from mmg_diffusers.pairs.classes import as_prompt, prompt_in
from mmg_diffusers.pairs.folders import Folder, inside
from mmg_diffusers.pairs.frames import (
    CLASSES,
    IMAGE_COLUMNS,
    PROMPT_COLUMNS,
    TABLE_SUFFIXES,
    column_of,
    is_table,
    read_frame,
)
from mmg_diffusers.pairs.images import IMAGE_SUFFIXES, Images, PictureFile
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.prompts import check_caption, check_text, is_blank
from mmg_diffusers.pairs.shards import SHARD_SUFFIX

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class PairTable(Brief):
    """Images with their prompts, and contexts if there are some; lists of one length.

    Args:
        images: paths, or the files' bytes if a table holds them.
        prompts, given: of each pair.
        notes: for the reader of a record, such as how many hidden files were left out.
        faults: what keeps a pair from being measured, by its place; `read_pairs` refuses a table that has any.
    """

    images: list[Path | PictureFile]
    prompts: list[str]
    given: list[str] | None = None
    notes: tuple[str, ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # One path is one pair, also for a model of videos, which takes a plain list of pictures for the frames of one.
        object.__setattr__(self, "images", Images(self.images))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """What each image is called: its path, which may be empty for one that a table holds."""
        return [image.path if isinstance(image, PictureFile) else str(image) for image in self.images]


def read_pairs(source: str | Path, prompt: str | None = None, captions: Captions | None = None) -> PairTable:
    """Read pairs from an image, a folder or a table.

    Args:
        source: an image file; a folder with a table named ``metadata.csv`` (or ``.tsv``, ``.jsonl``, ``.json``,
            ``.parquet``); a folder of images, those in its sub-folders too, in the order of their paths, with captions in
            text files of the same names beside them (``a.txt`` for ``a.png``); or a table. A table has a column of images
            (``image``, ``file_name``, ``path`` or ``img``: paths relative to the table's folder, or in parquet the files' bytes),
            one of prompts (``prompt``, ``text``, ``caption`` or ``captions``, or ``label`` for classes, by number or name), and may have
            one ``given``.
        prompt: the prompt of all images; takes the place of a column, and of text files.
        captions: which ones of a picture that has several; the first, by default.

    Raises:
        FileNotFoundError: when there is no such file or folder.
        ValueError: when there is no image or no prompt, columns are missing, values are empty, or a path leads out of the
            folder.
    """
    table = read_rows(source, prompt, captions)
    if table.faults:
        raise ValueError(f"{source}: {table.faults[min(table.faults)]}")
    return table


def read_pictures(source: str | Path) -> PairTable:
    """The pictures of a source, whatever it says of them: their prompts are left aside.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does.
    """
    return read_pairs(source, "a picture")


def prompt_of_all(prompt: Any) -> str:
    """One prompt for all images, checked.

    Raises:
        TypeError, ValueError: for what is no prompt, or the name of a file that is there.
    """
    prompt = as_prompt(prompt)
    check_caption(prompt, "prompt")
    check_words(prompt, "prompt")
    return prompt


def check_words(text: str, name: str) -> None:
    """Refuse the name of a file where words are expected, which would be measured as if it were some.

    Raises:
        ValueError: for a file that is there.
    """
    try:
        there = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with letters that no name has
        return
    if there:
        raise ValueError(
            f"{name} is {shown(text)}, which is a file; expected words. Captions of single images stand in a table's column "
            "'prompt', or in a.txt beside a.png"
        )


def read_rows(source: str | Path, prompt: str | None = None, captions: Captions | None = None) -> PairTable:
    """`read_pairs` for a run, which measures the good pairs all the same: `PairTable.faults` says what is wrong with others.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does, but for what is wrong with single rows.
    """
    source = file_path(source, "the source")
    chosen = Captions() if captions is None else captions
    if prompt is not None:
        prompt = prompt_of_all(prompt)
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}; expected an image, a folder or a table of pairs")
    if source.is_dir():
        tables = [path for suffix in TABLE_SUFFIXES if (path := source / f"metadata{suffix}").is_file()]
        if not tables:
            return _pictures_in(source, prompt)
        others = ", ".join(path.name for path in tables[1:])
        return _read_table(
            tables[0], prompt, chosen, (f"{tables[0].name} is read, and not {others}",) if others else ()
        )
    if is_table(source):
        return _read_table(source, prompt, chosen)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return PairTable([source], [_needed(prompt, source)])
    if source.suffix.lower() == SHARD_SUFFIX:
        raise ValueError(f"{source} is a webdataset shard, which only a run reads: `mmg-diffusers run`, or pipe.run")
    raise ValueError(
        f"cannot tell what {source} is by its ending; expected an image ({', '.join(IMAGE_SUFFIXES)}), a table "
        f"({', '.join(TABLE_SUFFIXES)}) or a folder"
    )


def _needed(prompt: str | None, source: Path) -> str:
    if prompt is None:
        raise ValueError(
            f"{source} names no prompts; give one for all images, a table with a column 'prompt', or in a folder a.txt beside a.png"
        )
    return prompt


def _pictures_in(path: Path, prompt: str | None) -> PairTable:
    folder = Folder.read(path)
    if not folder.names and any(Path(name).suffix == ARROW for name in folder.others):
        raise ValueError(
            f"{path} is a data set that `datasets` saved; measure it in Python, pipe.run(datasets.load_from_disk(...), ...), or "
            "write it out as .parquet"
        )
    if not folder.names:
        raise ValueError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)}) and no metadata table")
    beside = folder.captions() if prompt is None else None
    deeper = [name for name in folder.others if name.name in _METADATA] if prompt is None and beside is None else []
    if deeper:
        raise ValueError(
            f"{path} names no prompts, but {path / min(deeper)} may: give the folder {path / min(deeper).parent}, or a prompt for "
            "all images"
        )
    prompts, wrong = beside or ([_needed(prompt, path)] * len(folder.names), {})
    images = [path / name for name in folder.names]
    return PairTable([*images], prompts, None, folder.notes(beside is not None), wrong | folder.faults())


# ---- tables ----


def read_candidates(path: str | Path) -> Candidates:
    """Candidate prompts from a file: text with one a line, or a table with a column of prompts and, unless they are equally
    probable, one named ``prior``.

    Raises:
        ValueError: for fewer than two candidates, the same one twice, or a prior that is none.
    """
    path = file_path(path, "the file of candidates")
    if not is_table(path):
        return Candidates(tuple(line.strip() for line in read_lines(path) if line.strip()))
    table = read_frame(path)
    column = _Column.of_prompts(table, PROMPT_COLUMNS, path)
    faults = column.faults()
    if faults:
        raise ValueError(f"{path}: {faults[min(faults)]}")
    if "prior" not in table.columns:
        return Candidates(tuple(column.texts()))
    try:
        return Candidates(tuple(column.texts()), tuple(float(value) for value in table["prior"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {reason(error)}") from error


# Tables that folders have, and what `datasets` keeps data sets in.
_METADATA, ARROW = tuple(f"metadata{suffix}" for suffix in TABLE_SUFFIXES), ".arrow"
PROMPTED = "text, or the number of a class"


@dataclass(frozen=True)
class _Column:
    """Cells of a table that hold text.

    Args:
        name: of the column.
        cells: what it holds, one for each pair.
        rows: of the table, that the cells are of: a row with several captions may be several pairs.
        expected: in a cell, for messages.
    """

    name: str
    cells: Sequence[Any]
    rows: Sequence[int]
    expected: str = "text"

    @classmethod
    def of(cls, table: pandas.DataFrame, names: Sequence[str], path: Path) -> _Column:
        """A column by the first of the names that is there, a pair for each row.

        Raises:
            ValueError: if there is none.
        """
        name, cells = column_of(table, names, path)
        return cls(name, cells, range(len(cells)))

    @classmethod
    def of_prompts(cls, table: pandas.DataFrame, names: Sequence[str], path: Path) -> _Column:
        """A column of texts, or of classes.

        Raises:
            ValueError: if there is none, or it holds neither: it is the table that is wrong then, and not some of its rows.
        """
        name, cells = column_of(table, names, path)
        classes = table.attrs.get(CLASSES, {}).get(name, ())
        column = cls(name, [prompt_in(name, cell, classes) for cell in cells], range(len(cells)), PROMPTED)
        return column.check(path)

    def check(self, path: Path) -> _Column:
        """Refuse a column without any text.

        Raises:
            ValueError: names the file and its first row.
        """
        if not any(isinstance(each, str) or several(each) for each in self.cells):
            raise ValueError(
                f"{path}: row 0 has {shown(self.cells[0])} in column {shown(self.name)}; expected {self.expected}"
            )
        return self

    def picked(self, captions: Captions) -> _Column:
        """The same with those captions of each row that are measured."""
        pairs = [
            (row, text) for row, cell in zip(self.rows, self.cells, strict=True) for text in captions.of(cell, row)
        ]
        return replace(self, cells=[text for _, text in pairs], rows=[row for row, _ in pairs])

    def at(self, rows: Sequence[int]) -> _Column:
        """The cells of some rows, in their order."""
        return replace(self, cells=[self.cells[row] for row in rows], rows=rows)

    def texts(self) -> list[str]:
        """The text of each pair, empty if the cell holds none."""
        return [cell if isinstance(cell, str) else "" for cell in self.cells]

    def faults(self) -> dict[int, str]:
        """What is wrong with the text of each pair, by its place."""
        each = enumerate(zip(self.rows, self.cells, strict=True))
        return {place: fault for place, (row, cell) in each if (fault := self._fault(row, cell))}

    def _fault(self, row: int, cell: Any) -> str | None:
        if not isinstance(cell, str):
            return f"row {row} has {shown(cell)} in column {shown(self.name)}; expected {self.expected}"
        if is_blank(cell) and self.name != "given":
            return f"row {row} has nothing in column {shown(self.name)}; fill it in, or leave the row out"
        try:
            check_text(cell, f"the text of row {row} in column {shown(self.name)}")
        except ValueError as error:
            return str(error)
        return None


def _read_table(path: Path, prompt: str | None, captions: Captions, notes: tuple[str, ...] = ()) -> PairTable:
    table = read_frame(path)
    images = _Column.of(table, IMAGE_COLUMNS, path)
    images = replace(images, cells=[_path_of(cell) for cell in images.cells])
    if all(_held(cell) is None for cell in images.cells):
        images.check(path)
    prompts = _Column("prompt", [prompt] * len(images.cells), images.rows)
    if prompt is None:
        prompts = _Column.of_prompts(table, PROMPT_COLUMNS, path)
        notes = (*notes, captions.note()) if any(several(cell) is not None for cell in prompts.cells) else notes
        prompts = prompts.picked(captions)
    given = _Column.of_prompts(table, ("given",), path).at(prompts.rows) if "given" in table.columns else None
    pictures, faults = _pictures(images.at(prompts.rows), path)
    return PairTable(
        pictures,
        prompts.texts(),
        None if given is None else given.texts(),
        notes,
        faults | ({} if given is None else given.faults()) | prompts.faults(),
    )


def _pictures(column: _Column, path: Path) -> tuple[list[Path | PictureFile], dict[int, str]]:
    """The pictures that a table names or holds, and what is wrong with them by place."""
    held = [_held(cell) for cell in column.cells]
    faults = {place: fault for place, fault in column.faults().items() if held[place] is None}
    for place, name in enumerate(column.texts()):
        if held[place] is None and place not in faults:
            try:
                inside(path.parent, name, f"the table in {path.parent}")
            except ValueError as error:
                faults[place] = str(error)
    return [one or path.parent / name for one, name in zip(held, column.texts(), strict=True)], faults


def _path_of(cell: Any) -> Any:
    """The path of a picture that parquet names and does not hold, as `datasets` may write it; any other cell as it is."""
    named = isinstance(cell, Mapping) and not cell.get("bytes") and isinstance(cell.get("path"), str)
    return cell["path"] if named and cell["path"] else cell


def _held(cell: Any) -> PictureFile | None:
    """The picture that a cell of parquet holds: the bytes of its file, or those with its path, as `datasets` writes them."""
    name = ""
    if isinstance(cell, Mapping):
        name, cell = str(cell.get("path") or ""), cell.get("bytes")
    return PictureFile(name, bytes(cell)) if isinstance(cell, (bytes, bytearray, memoryview)) and cell else None
