"""Where the rows of a run come from: tables of paths, data sets, or plain mappings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from mmg_diffusers.checks import needs, of_type
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.prompts import check_text
from mmg_diffusers.pairs.tables import IMAGE_COLUMNS, PROMPT_COLUMNS, PairTable, read_pairs

# Webdataset shards keep the parts of a pair by the endings of their files.
_IMAGE_KEYS = (*IMAGE_COLUMNS, "jpg", "jpeg", "png", "webp")
_PROMPT_KEYS = (*PROMPT_COLUMNS, "txt")


@dataclass(frozen=True)
class Undecoded:
    """A picture of a data set, decoded when its pair is measured: not for pairs that are done, or that others measure."""

    feature: Any
    value: Mapping[str, Any]

    def decode(self) -> Image.Image:
        """The picture.

        Raises:
            ValueError: when it cannot be decoded.
        """
        try:
            return self.feature.decode_example(self.value)
        except Exception as error:  # decoders raise what they like for broken files
            raise ValueError(f"the picture cannot be decoded ({type(error).__name__}: {error})") from error


class Label(NamedTuple):
    """What tells a pair from others: the path of its image, its texts, and a digest of an image that is no path."""

    image: str
    prompt: str
    given: str | None
    digest: str

    def matches(self, other: Label) -> bool:
        """Whether the two are one pair, wherever its files lie."""
        return (Path(self.image).name, *self[1:]) == (Path(other.image).name, *other[1:])


class Row(NamedTuple):
    """One pair: its place in the source names its noise."""

    place: int
    image: ImageLike | Undecoded
    prompt: str
    given: str | None

    def picture(self) -> ImageLike:
        """The image, decoded where its data set left that to the reader.

        Raises:
            ValueError: when it cannot be decoded.
        """
        return self.image.decode() if isinstance(self.image, Undecoded) else self.image

    def label(self) -> Label:
        """The pair without its pixels."""
        path, content = _identity(self.image)
        digest = "" if content is None else hashlib.sha256(content).hexdigest()[:16]
        given = None if self.given is None else str(self.given)
        return Label(path, str(self.prompt), given, digest)


def _identity(image: Any) -> tuple[str, bytes | None]:
    """The path of an image, and its content where it has none."""
    if isinstance(image, (str, Path)):
        return str(image), None
    if isinstance(image, Undecoded):
        return str(image.value.get("path") or ""), image.value.get("bytes")
    if isinstance(image, Tensor):
        image = image.detach().cpu().float().numpy()
    if isinstance(image, (Image.Image, np.ndarray)):
        try:
            return str(getattr(image, "filename", "")), np.ascontiguousarray(image).tobytes()
        except OSError:  # a picture that is cut off, which its measurement will say
            return "", None
    return "", None


def rows_of_table(table: PairTable) -> Iterator[Row]:
    """Rows of a table that `read_pairs` gave."""
    for place, (image, prompt) in enumerate(zip(table.images, table.prompts, strict=True)):
        yield Row(place, image, prompt, None if table.given is None else table.given[place])


def rows_of_dataset(dataset: Iterable[Mapping[str, Any]], prompt: str | None = None) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, map-style or streaming, or of any iterable of mappings.

    Columns are found by name: ``image``, ``file_name`` or ``path``; ``prompt``, ``text`` or ``caption`` (or `prompt` for all);
    ``given`` where there is one. Webdataset shards keep theirs under ``jpg``, ``png`` and ``txt``. Pictures of
    `datasets.Image` columns are left undecoded.

    Raises:
        TypeError: for a row that is no mapping.
        ValueError: for a row without an image or a prompt column. One that holds nothing in them is a bad pair.
    """
    dataset, features = _leave_undecoded(dataset)
    for place, row in enumerate(dataset):
        of_type(row, Mapping, f"row {place}", "a mapping of column names to values")
        image, text = _first(row, _IMAGE_KEYS), _first(row, _PROMPT_KEYS)
        if image is None or (prompt is None and text is None):
            raise ValueError(
                f"row {place} has the columns {sorted(row)}; expected an image ({', '.join(IMAGE_COLUMNS)}) and a prompt "
                f"({', '.join(PROMPT_COLUMNS)}). Rename yours with dataset.rename_column."
            )
        value = row[image]
        if image in features and isinstance(value, Mapping):
            value = Undecoded(features[image], value)
        yield Row(place, value, row[text] if prompt is None and text is not None else str(prompt), row.get("given"))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the names that holds something; else the first that is there."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


def _leave_undecoded(dataset: Any) -> tuple[Any, dict[str, Any]]:
    """A data set that hands out pictures as files, and how to decode each of its columns of pictures."""
    features = getattr(dataset, "features", None)
    if not features or not hasattr(dataset, "cast_column"):
        return dataset, {}
    needs("datasets", "data")
    import datasets

    # A format or transform of the user's own wants decoded pictures, and returns what it likes.
    streaming = isinstance(dataset, datasets.IterableDataset)
    if (dataset._formatting if streaming else dataset.format["type"]) is not None:
        return dataset, {}
    found = {name: feature for name, feature in features.items() if isinstance(feature, datasets.Image)}
    found = {name: feature for name, feature in found.items() if name in _IMAGE_KEYS}
    for name, feature in found.items():
        dataset = dataset.cast_column(name, datasets.Image(mode=feature.mode, decode=False))
    return dataset, {name: datasets.Image(mode=feature.mode) for name, feature in found.items()}


class Source:
    """Rows of a path, a data set, or a list of mappings.

    Args:
        source: what `read_pairs` reads; a webdataset shard (``.tar``); a `datasets.Dataset`, map-style or streaming; or
            mappings.
        prompt: for all images, where the source has none.

    Raises:
        TypeError: for a source that cannot be gone through twice, or not at all.
        ValueError: as `read_pairs` and `rows_of_dataset` do.
        ImportError: for a webdataset shard where `datasets` is not installed.
    """

    def __init__(self, source: str | Path | Iterable[Mapping[str, Any]], prompt: str | None = None) -> None:
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
        if prompt is not None:
            check_text(prompt, "prompt")
        self._prompt = prompt
        self._rows: PairTable | Iterable[Mapping[str, Any]]
        if not isinstance(source, (str, Path)):
            self.name, self._rows = type(source).__name__, source
        else:
            self.name = str(source)
            shard = Path(source).suffix.lower() == ".tar"
            self._rows = _webdataset(Path(source)) if shard else read_pairs(source, prompt)

    def __iter__(self) -> Iterator[Row]:
        return (
            rows_of_table(self._rows)
            if isinstance(self._rows, PairTable)
            else rows_of_dataset(self._rows, self._prompt)
        )

    def count(self) -> int | None:
        """Number of rows, where it is known beforehand."""
        return len(self._rows) if isinstance(self._rows, Sized) else None


def _webdataset(shard: Path) -> Iterable[Mapping[str, Any]]:
    if not shard.is_file():
        raise FileNotFoundError(f"there is no {shard}; expected a webdataset shard")
    needs("datasets", "data")
    from datasets import load_dataset

    return load_dataset("webdataset", data_files=str(shard), split="train", streaming=True)
