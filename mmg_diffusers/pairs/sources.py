"""Where the rows of a run come from: tables of paths, data sets, or plain mappings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from os.path import isdir
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mmg_diffusers.checks import file_path, needs, of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pairs.classes import CLASS_COLUMNS, ClassNames, as_prompt
from mmg_diffusers.pairs.images import ImageLike, Picture, PictureFile, read_picture
from mmg_diffusers.pairs.prompts import check_caption, check_text
from mmg_diffusers.pairs.tables import IMAGE_COLUMNS, PROMPT_COLUMNS, PairTable, inside, read_rows, read_webdataset
from mmg_diffusers.pairs.videos import VideoLike, read_video

# Webdataset shards keep the parts of a pair by the endings of their files.
_IMAGE_KEYS = (*IMAGE_COLUMNS, "jpg", "jpeg", "png", "webp")
_PROMPT_KEYS = (*(name for name in PROMPT_COLUMNS if name not in CLASS_COLUMNS), "txt", *CLASS_COLUMNS)
# The builder of `datasets` that finds its pictures by itself, so that no path comes from the data.
_FINDER = "imagefolder"
# Where an address of `datasets` may lead to on this machine.
_LOCAL = ("", "file", "local")


@dataclass(frozen=True)
class Unusable:
    """In place of an image: why the row can have none."""

    why: str
    path: str = ""


class Label(NamedTuple):
    """What distinguishes a pair from others: the path of its image, its texts, and the digest of its picture, empty if that is not known."""

    image: str
    prompt: str
    given: str | None
    digest: str

    def matches(self, other: Label) -> bool:
        """Whether the two are one pair, wherever its files lie: by the content of the picture if both know it, else by name."""
        if self.digest and other.digest:
            return self.same_texts(other) and self.digest == other.digest
        return self.same_texts(other) and self.same_name(other)

    def same_texts(self, other: Label) -> bool:
        """Whether prompt and context agree."""
        return (self.prompt, self.given) == (other.prompt, other.given)

    def same_name(self, other: Label) -> bool:
        """Whether the files are called the same, in whatever folder they are."""
        return Path(self.image).name == Path(other.image).name


class Row(NamedTuple):
    """One pair: its place in the source names its noise."""

    place: int
    image: VideoLike | Unusable
    prompt: str
    given: str | None

    def picture(self) -> VideoLike:
        """The image, as `read_picture` takes it, or the video, as `read_video` does.

        Raises:
            ValueError: for a row that can have none.
        """
        if isinstance(self.image, Unusable):
            raise ValueError(self.image.why)
        return self.image

    def check(self) -> None:
        """Refuse a row that is no pair.

        Raises:
            ValueError: without an image, or with an empty prompt.
            TypeError: for texts that are none.
        """
        self.picture()
        check_caption(self.prompt, "the prompt")
        if self.given is not None:
            check_text(self.given, "the context")

    def held(self) -> Row:
        """The same with its picture in memory, so that what is compared is what is measured; without, if it cannot be read."""
        image = self.image
        try:
            if isinstance(image, (str, Path, PictureFile)):
                file = image if isinstance(image, PictureFile) else PictureFile(str(image))
                if file.body is None and isdir(file.path):  # the frames of a video
                    return self._replace(image=read_video(file.path))
                return self._replace(image=file.read())
            if isinstance(image, Unusable):
                return self
            read = read_video(image) if _has_frames(image) else read_picture(cast("ImageLike", image))
            return self._replace(image=read)
        except (OSError, ValueError, TypeError):  # which measuring it will say
            return self

    def readable(self) -> bool:
        """Whether the picture's file could be read just now."""
        image = self.held().image
        return not isinstance(image, (str, Path)) and not (isinstance(image, PictureFile) and image.body is None)

    def label(self) -> Label:
        """The pair without its pixels."""
        given = None if self.given is None else str(self.given)
        image = self.held().image
        return Label(_name(image), str(self.prompt), given, _digest(image))


def _has_frames(image: Any) -> bool:
    """Whether something in memory is a video: a list of frames, or an array of them."""
    return isinstance(image, (list, tuple)) or getattr(image, "ndim", 3) == 4


def _name(image: object) -> str:
    if isinstance(image, (str, Path)):
        return str(image)
    if isinstance(image, (PictureFile, Unusable)):
        return image.path
    return image.name if isinstance(image, Picture) else str(getattr(image, "filename", "") or "")


def _digest(image: object) -> str:
    if isinstance(image, Picture) or (isinstance(image, PictureFile) and image.body is not None):
        return image.identity().digest
    try:  # what cannot be measured can still be compared with what takes its place
        return Identity.of(image).digest if not isinstance(image, (str, Path)) else ""
    except TypeError:
        return ""


@dataclass(frozen=True)
class SourcePrompts:
    """The prompts of a whole source, without its pictures: what negatives are drawn from.

    Args:
        places: of the pairs with a prompt that can be measured, rising; a pair's id is its place.
        prompts: of these pairs.
        given: their contexts, or ``None`` for each that has none.
    """

    places: tuple[int, ...]
    prompts: tuple[str, ...]
    given: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def ids(self) -> Tensor:
        """The places, `(N,)` int64."""
        return torch.tensor(self.places, dtype=torch.int64)

    def identity(self) -> Identity:
        """The digest of all prompts and contexts, with their places."""
        return Identity.of(list(self.places), list(self.prompts), list(self.given))


def rows_of_table(table: PairTable) -> Iterator[Row]:
    """Rows of a table that `read_pairs` or `read_rows` gave."""
    for place, (path, prompt) in enumerate(zip(table.images, table.prompts, strict=True)):
        fault = table.faults.get(place)
        image = path if fault is None else Unusable(fault, str(path))
        yield Row(place, image, prompt, None if table.given is None else table.given[place])


def rows_of_dataset(
    dataset: Iterable[Mapping[str, Any]], prompt: str | None = None, folder: str | Path | None = None
) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, map-style or streaming, or of any iterable of mappings.

    Columns are found by name: ``image``, ``file_name`` or ``path``; ``prompt``, ``text`` or ``caption`` (or `prompt` for all);
    ``given`` if there is one. Without text, ``label`` (of a webdataset shard ``cls``) names the class: a `datasets.ClassLabel` by its
    number, which must be called as the model calls it. Webdataset shards keep theirs under ``jpg``, ``png`` and ``txt``. A picture is what
    `load_image` takes, the bytes of a file, or a mapping of ``bytes`` and ``path``; those of `datasets.Image` columns are
    left undecoded.

    Args:
        dataset: its rows.
        prompt: for all images.
        folder: that paths in text are relative to, and must not lead out of; by default the working directory, for a data set
            of `datasets`. Paths in mappings that you made yourself are taken as they are, unless a folder is given.

    Raises:
        TypeError: for a row that is no mapping.
        ValueError: for a row without an image or a prompt column. One that holds nothing in them is a bad pair.
    """
    columns = _Columns.of(dataset, folder)
    for place, row in enumerate(columns.rows):
        of_type(row, Mapping, f"row {place}", "a mapping of column names to values")
        image, text = _first(row, _IMAGE_KEYS), _first(row, _PROMPT_KEYS)
        if image is None or (prompt is None and text is None):
            raise ValueError(
                f"row {place} has the columns {shown(sorted(row))}; expected an image ({', '.join(IMAGE_COLUMNS)}) and a prompt "
                f"({', '.join(PROMPT_COLUMNS)}). Rename yours with dataset.rename_column."
            )
        words: Any = columns.classes.prompt(text, row[text]) if prompt is None and text is not None else prompt
        given = columns.classes.prompt("given", row.get("given"))
        yield Row(place, columns.picture(image, row[image], place), words, given)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the names that holds something; else the first that is there."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


@dataclass(frozen=True)
class _Columns:
    """The rows of a data set with its pictures undecoded, and how each column of pictures wants them."""

    rows: Iterable[Mapping[str, Any]]
    modes: Mapping[str, str | None]
    folder: Path | None
    trusted: bool = False
    classes: ClassNames = field(default_factory=ClassNames)

    @classmethod
    def of(cls, dataset: Any, folder: str | Path | None) -> _Columns:
        place = None if folder is None else file_path(folder, "the folder of a data set")
        features = getattr(dataset, "features", None)
        if not hasattr(dataset, "cast_column"):
            return cls(dataset, {}, place)
        classes = ClassNames.of(features or {})
        needs("datasets", "data")
        import datasets

        place = Path() if place is None else place
        if not features or _transformed(dataset):
            return cls(dataset, {}, place, classes=classes)
        dataset = _unformatted(dataset)
        kinds = {name: feature for name, feature in features.items() if isinstance(feature, datasets.Image)}
        kinds = {name: feature for name, feature in kinds.items() if name in _IMAGE_KEYS}
        for name, feature in kinds.items():
            dataset = dataset.cast_column(name, datasets.Image(mode=feature.mode, decode=False))
        modes = {name: feature.mode for name, feature in kinds.items()}
        return cls(dataset, modes, place, _trusted(dataset), classes)

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


def _transformed(dataset: Any) -> bool:
    """Whether rows come out of a transform by the user, which may make its columns of any others."""
    form = getattr(dataset, "format", None)
    return isinstance(form, Mapping) and form["type"] == "custom"


def _unformatted(dataset: Any) -> Any:
    """A data set without the format that its pictures would be decoded to, and with the columns of that format."""
    form = getattr(dataset, "format", None)
    columns = form["columns"] if isinstance(form, Mapping) else None
    dataset = dataset.with_format(None)
    return dataset.select_columns(columns) if columns and set(columns) < set(dataset.column_names) else dataset


class Source:
    """Rows of a path, a data set, or a list of mappings.

    Args:
        source: what `read_pairs` reads; a webdataset shard (``.tar``); a `datasets.Dataset`, map-style or streaming;
            mappings; or another `Source`.
        prompt: for all images; takes the place of a column.
        folder: of the paths that a data set names, see `rows_of_dataset`; a table's paths lie in the folder of the table.

    Raises:
        TypeError: for a source that cannot be gone through twice, or not at all.
        ValueError: as `read_rows` and `rows_of_dataset` do.
        ImportError: for a webdataset shard if `datasets` is not installed.
    """

    def __init__(
        self,
        source: str | Path | Iterable[Mapping[str, Any]] | Source,
        prompt: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        if prompt is not None:
            prompt = as_prompt(prompt)
            check_caption(prompt, "prompt")
        self.notes: tuple[str, ...] = ()
        self._rows: PairTable | Iterable[Mapping[str, Any]]
        if isinstance(source, Source):
            self.name, self._rows, self.notes = source.name, source._rows, source.notes
            self._prompt = source._prompt if prompt is None else prompt
            self._folder = source._folder if folder is None else folder
            return
        self._prompt, self._folder = prompt, folder
        of_type(source, (str, Path, Iterable), "the source", "a path, or a data set of rows")
        if isinstance(source, Mapping):
            raise TypeError(
                f"the source is a {type(source).__name__} of {', '.join(map(repr, list(source)[:4]))}; expected rows: choose a "
                "split, or make rows of columns with datasets.Dataset.from_dict"
            )
        if isinstance(source, Iterator):
            raise TypeError(
                f"the source is a {type(source).__name__}, which can be gone through once, so that no run could go on with it; "
                "pass a list of rows"
            )
        if not isinstance(source, (str, Path)):
            self.name, self._rows = type(source).__name__, source
            return
        self.name = str(source)
        if Path(source).suffix.lower() == ".tar":
            self._rows = read_webdataset(Path(source))
        else:
            self._rows = read_rows(source, prompt)
            self.notes = self._rows.notes

    def __iter__(self) -> Iterator[Row]:
        if isinstance(self._rows, PairTable):
            rows = rows_of_table(self._rows)
            return rows if self._prompt is None else (row._replace(prompt=self._prompt) for row in rows)
        return rows_of_dataset(self._rows, self._prompt, self._folder)

    def count(self) -> int | None:
        """Number of rows, if it is known beforehand."""
        return len(self._rows) if isinstance(self._rows, Sized) else None

    def prompts(self, limit: int | None = None) -> SourcePrompts:
        """All prompts with their places, in one pass that decodes no picture, and reads none if the data set says which columns it has.

        Args:
            limit: only those of the first rows.

        Raises:
            TypeError, ValueError: for rows that are no pairs, as `rows_of_dataset` does.
        """
        if limit is not None:
            whole(limit, "limit", 1)
        rows = self._texts() if self._prompt is None else ((row.prompt, row.given) for row in self)
        kept: list[tuple[int, str, str | None]] = []
        for place, (prompt, given) in enumerate(islice(rows, limit)):
            try:
                check_caption(prompt, "the prompt")
            except (TypeError, ValueError):  # a bad pair, which the run records
                continue
            kept.append((place, prompt, None if given is None else str(given)))
        return SourcePrompts(
            tuple(place for place, _, _ in kept),
            tuple(text for _, text, _ in kept),
            tuple(given for _, _, given in kept),
        )

    def _texts(self) -> Iterator[tuple[str, str | None]]:
        rows: Any = self._rows
        texts = [name for name in getattr(rows, "column_names", None) or [] if name in (*_PROMPT_KEYS, "given")]
        # A transform by the user may need the other columns to make these.
        if _transformed(rows) or not {*texts} & {*_PROMPT_KEYS}:
            return ((row.prompt, row.given) for row in self)
        known = ClassNames.of(getattr(rows, "features", None) or {})
        return (
            (known.prompt(found, row[found]), known.prompt("given", row.get("given")))
            for row in _unformatted(rows.select_columns(texts))
            if (found := _first(row, _PROMPT_KEYS)) is not None
        )
