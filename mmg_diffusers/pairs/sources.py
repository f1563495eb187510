"""Where the rows of a run come from: tables of paths, data sets, shards, or plain mappings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pairs.captions import Captions
from mmg_diffusers.pairs.classes import CLASS_COLUMNS, ClassNames, name_of
from mmg_diffusers.pairs.columns import (
    PROMPT_KEYS,
    notes_of,
    rows_of_dataset,
    text_of,
    transformed,
    unformatted,
)
from mmg_diffusers.pairs.prompts import check_caption, check_text
from mmg_diffusers.pairs.rows import Row, Unusable
from mmg_diffusers.pairs.shards import Shards
from mmg_diffusers.pairs.tables import PairTable, prompt_of_all, read_rows


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


def _of_one_split(source: Iterable[Any]) -> Iterable[Any]:
    """What `datasets.load_dataset` holds by the names of splits, if it is one; anything else as it is."""
    if not isinstance(source, Mapping) or not source or not all(hasattr(part, "features") for part in source.values()):
        return source
    splits = list(source)
    if len(splits) > 1:
        raise TypeError(
            f"the source is a {type(source).__name__} of the splits {', '.join(map(shown, splits[:4]))}; choose one, as with "
            f"data[{shown(splits[0])}] or load_dataset(..., split={shown(splits[0])})"
        )
    return source[splits[0]]


class Source:
    """Rows of a path, a data set, or a list of mappings.

    Args:
        source: what `read_pairs` reads; webdataset shards (``.tar``), as one path, a folder of them, or a pattern such as
            ``pairs-{000..012}.tar``; a `datasets.Dataset`, map-style or streaming, or the
            dict of a single split; mappings; or another `Source`.
        prompt: for all images; takes the place of a column.
        folder: of the paths that a data set names, see `rows_of_dataset`; a table's paths lie in the folder of the table.
        captions: which are measured of a picture that has several; the first, by default. Those at random depend on their seed and
            on the picture's place. With all of them a pair's place, which names its noise, counts captions.
        named: whether classes are told by their names, as `named` has it.
        given: the context of all pairs, for information about the prompt given that; not beside contexts of their own.

    Raises:
        TypeError: for a source that cannot be gone through twice, or not at all.
        ValueError: as `read_rows` and `rows_of_dataset` do.
        FileNotFoundError: for files that are not there.
    """

    def __init__(
        self,
        source: str | Path | Iterable[Mapping[str, Any]] | Source,
        prompt: str | None = None,
        folder: str | Path | None = None,
        captions: Captions | None = None,
        named: bool = False,
        given: str | None = None,
    ) -> None:
        read: PairTable | Shards | None = None
        if isinstance(source, Source):
            asked = (prompt, captions)
            # A table that stands as it was read is not read again, which may hold the bytes of all pictures.
            if all(
                mine is None or mine == its for mine, its in zip(asked, (source._prompt, source._captions), strict=True)
            ):
                read = source._rows if isinstance(source._rows, (PairTable, Shards)) else None
            named = named or source._named
            prompt = source._prompt if prompt is None else prompt
            folder = source._folder if folder is None else folder
            captions = source._captions if captions is None else captions
            given = source._given if given is None else given
            source = source._origin
        if prompt is not None:
            prompt = prompt_of_all(prompt)
        if given is not None:
            check_text(given, "the context")
        self._origin, self._prompt, self._folder, self._named, self._given = source, prompt, folder, named, given
        of_type(captions, (Captions, type(None)), "captions", "Captions, of mmg_diffusers.pairs")
        self._captions = captions or Captions()
        self._rows: PairTable | Iterable[Mapping[str, Any]]
        self.notes: tuple[str, ...]
        if isinstance(source, (str, Path)):
            self.name = str(source)
            if read is None:
                shards = Shards.find(Path(source))
                read = read_rows(source, prompt, self._captions) if shards is None else shards
            self._rows, self.notes = read, read.notes
            prompts = read.prompts if named and isinstance(read, PairTable) else ()
            names = [name for prompt in prompts if (name := name_of(prompt)) is not prompt]
            if names:
                self.notes = (*read.notes, f"prompts are the names of the classes, such as {shown(names[0])}")
            return
        of_type(source, Iterable, "the source", "a path, or a data set of rows")
        source = _of_one_split(source)
        if isinstance(source, Mapping):
            raise TypeError(
                f"the source is a {type(source).__name__} of {', '.join(map(repr, list(source)[:4]))}; expected rows, which "
                "datasets.Dataset.from_dict makes of columns"
            )
        if isinstance(source, Iterator):
            raise TypeError(
                f"the source is a {type(source).__name__}, which can be gone through once, so that no run could go on with it; "
                "pass a list of rows"
            )
        self.name, self._rows = type(source).__name__, source
        self.notes = () if prompt is not None else notes_of(source, self._captions, self._named)

    def named(self) -> Source:
        """The same with classes by their names, if the data set has some: for models that are told text."""
        return Source(self, named=True)

    def __iter__(self) -> Iterator[Row]:
        if isinstance(self._rows, PairTable):
            rows = rows_of_table(self._rows)
            rows = (row._replace(prompt=name_of(row.prompt)) for row in rows) if self._named else rows
        else:
            rows = rows_of_dataset(self._rows, self._prompt, self._folder)
            rows = rows if self._prompt is not None else self._each(rows)
        return rows if self._given is None else (row._replace(given=self._context(row.given)) for row in rows)

    def _context(self, own: str | None) -> str | None:
        """The context of all pairs, or a pair's own.

        Raises:
            ValueError: for both.
        """
        if self._given is not None and own is not None:
            raise ValueError(f"{self.name} has contexts of its own ('given'), and given was set; leave one of them out")
        return own if self._given is None else self._given

    def _each(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Pairs of rows that may have several captions."""
        count = 0
        for row in rows:
            for text in self._captions.of(row.prompt, row.place):
                yield row._replace(place=count, prompt=name_of(text) if self._named else text)
                count += 1

    def count(self) -> int | None:
        """Number of pairs, if it is known beforehand."""
        several = self._captions.which == "all" and self._prompt is None
        if isinstance(self._rows, Sized) and (isinstance(self._rows, PairTable) or not several):
            return len(self._rows)
        return None

    def prompts(self, limit: int | None = None) -> SourcePrompts:
        """All prompts with their places, in one pass that decodes no picture, and reads none if the data set says which columns it has.

        Args:
            limit: only those of the first rows.

        Raises:
            TypeError, ValueError: for rows that are no pairs, as `rows_of_dataset` does.
        """
        if limit is not None:
            whole(limit, "limit", 1)
        asked = self._prompt is None and self._given is None
        rows = self._texts() if asked else ((row.prompt, row.given) for row in self)
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
        names = getattr(rows, "column_names", None) or []
        texts = [name for name in names if name in (*PROMPT_KEYS, *CLASS_COLUMNS, "given")]
        # A transform by the user may need the other columns to make these.
        if transformed(rows) or not {*texts} - {"given"}:
            yield from ((row.prompt, row.given) for row in self)
            return
        classes = ClassNames.of(getattr(rows, "features", None) or {})
        for place, row in enumerate(unformatted(rows.select_columns(texts))):
            said = text_of(row, classes)
            for text in self._captions.of(None if said is None else said.value, place):
                yield name_of(text) if self._named else text, classes.prompt("given", row.get("given"))
