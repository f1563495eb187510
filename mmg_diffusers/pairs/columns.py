"""Rows of data sets as pairs: which column is the image, which the prompt, and how pictures wait undecoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from mmg_diffusers.checks import file_path, needs, of_type, shown
from mmg_diffusers.pairs.captions import Captions, several
from mmg_diffusers.pairs.classes import CLASS_COLUMNS, ClassNames
from mmg_diffusers.pairs.folders import inside
from mmg_diffusers.pairs.frames import IMAGE_COLUMNS, PROMPT_COLUMNS, by_our_names
from mmg_diffusers.pairs.images import IMAGE_SUFFIXES, PictureFile
from mmg_diffusers.pairs.rows import Row, Unusable

# Webdataset shards keep the parts of a pair by the endings of their files.
IMAGE_KEYS = (*IMAGE_COLUMNS, *(suffix[1:] for suffix in IMAGE_SUFFIXES))
PROMPT_KEYS = (*(name for name in PROMPT_COLUMNS if name not in CLASS_COLUMNS), "txt")
# All that is looked for in a row.
_KNOWN = {*IMAGE_KEYS, *PROMPT_KEYS, *CLASS_COLUMNS, "given", "json"}
# Rows that are looked at before a source is refused for having no images or no prompts.
_PEEKED = 32
# The builder of `datasets` that finds its pictures by itself, so that no path comes from the data.
_FINDER = "imagefolder"
# Where an address of `datasets` may lead to on this machine.
_LOCAL = ("", "file", "local")


class Text(NamedTuple):
    """What a row says of its picture: a caption or several, and the column that it stands in."""

    column: str
    value: Any


def first_of(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that holds something; else the first that is there."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


def text_of(row: Mapping[str, Any], classes: ClassNames) -> Text | None:
    """The caption of a row, or its captions: of a column of prompts, of what a ``json`` holds, or else its class.

    Args:
        row: by the names of columns.
        classes: what the data set calls them.
    """
    name, held = first_of(row, PROMPT_KEYS), row.get("json")
    if name is None and isinstance(held, Mapping) and (inner := first_of(held, PROMPT_KEYS)) is not None:
        return Text("json", held[inner])
    name = first_of(row, CLASS_COLUMNS) if name is None else name
    return None if name is None else Text(name, classes.prompt(name, row[name]))


def notes_of(dataset: Any, captions: Captions, named: bool) -> tuple[str, ...]:
    """What the reader of a record is told of a data set: that prompts are names of classes, or that pictures have several captions.

    Args:
        dataset: of `datasets`, or rows.
        captions: which are measured.
        named: whether classes are told by their names.
    """
    if transformed(dataset):
        return ()
    features: Any = getattr(dataset, "features", None) or {}
    asked = next((name for name in (*PROMPT_KEYS, "json", *CLASS_COLUMNS) if name in features), "")
    names = ClassNames.of(features).columns.get(asked, ())
    notes = (
        [f"prompts are the names of the classes in column {shown(asked)}, such as {shown(names[0])}"] if names else []
    )
    first: Any = dataset[0] if isinstance(dataset, list) and dataset else {}
    written = several(first.get(first_of(first, PROMPT_KEYS) or "")) if isinstance(first, Mapping) else None
    if written is not None or (asked and _is_list(features[asked])):
        notes.append(captions.note())
    return tuple(notes if named else notes[bool(names) :])


def _is_list(kind: Any) -> bool:
    needs("datasets", "data")
    import datasets

    return isinstance(kind, (list, datasets.List, datasets.LargeList))


def rows_of_dataset(
    dataset: Iterable[Mapping[str, Any]], prompt: str | None = None, folder: str | Path | None = None
) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, map-style or streaming, or of any iterable of mappings.

    Columns are found by name: ``image``, ``file_name``, ``path`` or ``img``; ``prompt``, ``text``, ``caption`` or ``captions``
    (or `prompt` for all); ``given`` if there is one. Without text, ``label`` (of a webdataset shard ``cls``) names the class: a
    `datasets.ClassLabel` by its number, which must be called as a model of classes calls it; models of text are told its name.
    Webdataset shards keep theirs under ``jpg`` and the like, ``txt``, or one of these names in ``json``. A picture is what
    `load_image` takes, the bytes of a file, or a mapping of ``bytes`` and ``path``; those of `datasets.Image` columns are
    left undecoded.

    Args:
        dataset: its rows.
        prompt: for all images.
        folder: that paths in text are relative to, and must not lead out of; by default the working directory, for a data set
            of `datasets`. Paths in mappings that you made yourself are taken as they are, unless a folder is given.

    Raises:
        TypeError: for a row that is no mapping.
        ValueError: if the first rows, or all of them, lack a column of images or of prompts. A row that lacks one, or holds nothing
            in it, is a bad pair.
    """
    columns = Columns.of(dataset, folder)
    waiting: list[Row] | None = []
    names: Sequence[str] = ()
    for place, row in enumerate(columns.rows):
        of_type(row, Mapping, f"row {place}", "a mapping of column names to values")
        ours = by_our_names(list(row), _KNOWN)
        row = {ours.get(name, name): value for name, value in row.items()} if ours else row
        pair, complete = columns.row(place, row, prompt)
        if waiting is None:
            yield pair
            continue
        names = names or sorted(row)
        waiting.append(pair)
        if complete:
            yield from waiting
            waiting = None
        elif len(waiting) == _PEEKED or getattr(dataset, "column_names", None):
            break
    if waiting:
        raise ValueError(
            f"row 0 has the columns {shown(names)}; expected an image ({', '.join(IMAGE_COLUMNS)}) and a prompt "
            f"({', '.join(PROMPT_COLUMNS)}). Rename yours with dataset.rename_column."
        )


@dataclass(frozen=True)
class Columns:
    """The rows of a data set with its pictures undecoded, and how each column of pictures wants them."""

    rows: Iterable[Mapping[str, Any]]
    modes: Mapping[str, str | None]
    folder: Path | None
    trusted: bool = False
    classes: ClassNames = field(default_factory=ClassNames)

    @classmethod
    def of(cls, dataset: Any, folder: str | Path | None) -> Columns:
        place = None if folder is None else file_path(folder, "the folder of a data set")
        features = getattr(dataset, "features", None)
        if not hasattr(dataset, "cast_column"):
            return cls(dataset, {}, place)
        classes = ClassNames.of(features or {})
        needs("datasets", "data")
        import datasets

        place = Path() if place is None else place
        if not features or transformed(dataset):
            return cls(dataset, {}, place, classes=classes)
        dataset = unformatted(dataset)
        kinds = {name: feature for name, feature in features.items() if isinstance(feature, datasets.Image)}
        kinds = {name: feature for name, feature in kinds.items() if name in IMAGE_KEYS}
        for name, feature in kinds.items():
            dataset = dataset.cast_column(name, datasets.Image(mode=feature.mode, decode=False))
        modes = {name: feature.mode for name, feature in kinds.items()}
        return cls(dataset, modes, place, _trusted(dataset), classes)

    def row(self, place: int, row: Mapping[str, Any], prompt: str | None) -> tuple[Row, bool]:
        """A row as a pair, and whether it has the columns that a pair needs; without them it is a bad one."""
        image, text = first_of(row, IMAGE_KEYS), text_of(row, self.classes)
        lacks = "an image" if image is None else "a prompt" if prompt is None and text is None else None
        if lacks is None and image is not None:
            words = prompt if prompt is not None else text.value if text is not None else None
            return Row(
                place,
                self.picture(image, row[image], place),
                cast("str", words),
                self.classes.prompt("given", row.get("given")),
            ), True
        name = f" ({shown(row['__key__'])})" if "__key__" in row else ""
        return Row(place, Unusable(f"row {place}{name} lacks {lacks}; it has {shown(sorted(row))}"), "", None), False

    def picture(self, column: str, value: Any, place: int) -> Any:
        """A picture as `read_picture` takes it, or why there is none."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return PictureFile("", bytes(value))
        if isinstance(value, Mapping) and not value.keys() - {"bytes", "path"}:
            path, body = str(value.get("path") or ""), value.get("bytes")
            if body is None and not path:
                return Unusable(f"the picture of row {place} has neither bytes nor a path")
            file = PictureFile(path, body, self.modes.get(column), remote=column in self.modes)
            free = body is not None or _elsewhere(path) or (column in self.modes and self.trusted)
            return file if free or self.folder is None else self._named(path, place, file)
        if isinstance(value, str) and self.folder is not None:
            return self._named(value, place, PictureFile(value))
        return value

    def _named(self, name: str, place: int, file: PictureFile) -> PictureFile | Unusable:
        assert self.folder is not None
        try:
            path = inside(self.folder, name, f"row {place} of the data set in {self.folder.resolve()}")
        except ValueError as error:
            return Unusable(f"{error}, or name its folder: Source(dataset, folder=...)", name)
        return PictureFile(str(path), None, file.mode)


def _trusted(dataset: Any) -> bool:
    """Whether the paths of a data set come from its user, and not from a file: it was made in memory, or found its pictures."""
    builder = getattr(dataset, "builder_name", None)
    # Joined data sets have no builder either, nor have those that were saved; they have files.
    return builder == _FINDER or (builder is None and getattr(dataset, "cache_files", None) == [])


def _elsewhere(address: str) -> bool:
    """Whether an address of `datasets`, maybe of a file in archives, leads to another machine."""
    scheme, found, _ = address.rpartition("::")[2].partition("://")
    return bool(found) and scheme not in _LOCAL


def transformed(dataset: Any) -> bool:
    """Whether rows come out of a transform by the user, which may make its columns of any others."""
    form = getattr(dataset, "format", None)
    return isinstance(form, Mapping) and form["type"] == "custom"


def unformatted(dataset: Any) -> Any:
    """A data set without the format that its pictures would be decoded to, and with the columns of that format."""
    form = getattr(dataset, "format", None)
    columns = form["columns"] if isinstance(form, Mapping) else None
    dataset = dataset.with_format(None)
    return dataset.select_columns(columns) if columns and set(columns) < set(dataset.column_names) else dataset
