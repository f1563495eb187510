"""Long runs over many pairs: shards that are written as they finish, resumed where they stopped, by any number of processes.

Rows are cut into chunks by their place alone, and a chunk is measured as a whole, so a pair's numbers do not depend on how
many processes there are, nor on where a run was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from mmg_diffusers.images import ImageLike
from mmg_diffusers.result import Estimate
from mmg_diffusers.storage import write_whole
from mmg_diffusers.tables import IMAGE_COLUMNS, PROMPT_COLUMNS, PairTable

if TYPE_CHECKING:
    import pandas

CHUNK = 32


class Row(NamedTuple):
    """One pair: its place in the source names its noise."""

    place: int
    image: ImageLike
    prompt: str
    given: str | None


class Failure(NamedTuple):
    """A pair that could not be measured, and why."""

    place: int
    reason: str


Measure = Callable[[Sequence[Row]], Estimate]
"""Measures the rows of a chunk, with their places as pair ids; raises ValueError, TypeError or OSError for a bad one."""


def rows_of_table(table: PairTable) -> Iterator[Row]:
    """Rows of a table that `read_pairs` gave."""
    for place, (image, prompt) in enumerate(zip(table.images, table.prompts, strict=True)):
        yield Row(place, image, prompt, None if table.given is None else table.given[place])


def rows_of_dataset(dataset: Iterable[Mapping[str, Any]], prompt: str | None = None) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, map-style or streaming, or of any iterable of mappings.

    Columns are found by name: ``image``, ``file_name`` or ``path``; ``prompt``, ``text`` or ``caption`` (or `prompt` for all);
    ``given`` where there is one. Webdataset shards keep theirs under ``jpg``, ``png`` and ``txt``.

    Raises:
        ValueError: for a row without an image or a prompt column.
    """
    for place, row in enumerate(dataset):
        images = [name for name in (*IMAGE_COLUMNS, "jpg", "png", "webp") if row.get(name) is not None]
        texts = [name for name in (*PROMPT_COLUMNS, "txt") if row.get(name) is not None]
        if not images or (prompt is None and not texts):
            raise ValueError(
                f"row {place} has the columns {sorted(row)}; expected an image ({', '.join(IMAGE_COLUMNS)}) and a prompt "
                f"({', '.join(PROMPT_COLUMNS)}). Rename yours with dataset.rename_column."
            )
        yield Row(place, row[images[0]], prompt if prompt is not None else row[texts[0]], row.get("given"))


def chunks(rows: Iterable[Row], size: int = CHUNK) -> Iterator[tuple[int, list[Row]]]:
    """Rows in chunks of `size`, numbered."""
    number, part = 0, []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield number, part
            number, part = number + 1, []
    if part:
        yield number, part


class RunFolder:
    """The shards of one run: a file a chunk, named by its own checksum, renamed into place when it is whole.

    Args:
        folder: made where it does not exist.
        settings: what the numbers depend on. A folder of other settings is refused.

    Raises:
        ValueError: when the folder belongs to a run with other settings.
        OSError: when it cannot be written to.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.shards = self.folder / "shards"
        try:
            self.shards.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot write to {self.folder} ({error}); choose a folder that can be written to") from error
        stamp = self.folder / "settings.json"
        asked = json.dumps(dict(settings), sort_keys=True, indent=1, default=str)
        if stamp.exists():
            if stamp.read_text() != asked:
                raise ValueError(
                    f"{self.folder} belongs to a run with other settings ({_difference(stamp.read_text(), asked)}); its numbers "
                    "are not mixed with others. Choose another folder, or remove this one."
                )
        else:
            _write(stamp, asked.encode())

    def _body(self, number: int) -> bytes | None:
        """The whole shard of a chunk, if there is one; damaged ones are removed."""
        for path in sorted(self.shards.glob(f"{number:06d}-*.shard")):
            body = path.read_bytes()
            if _digest(body) == path.stem.split("-")[1]:
                return body
            path.unlink()
        return None

    def holds(self, number: int) -> bool:
        """Whether the shard of a chunk is there, and whole."""
        return self._body(number) is not None

    def write(self, number: int, estimate: Estimate | None, failures: Sequence[Failure]) -> None:
        """Keep a chunk's numbers and failures."""
        body = json.dumps([list(failure) for failure in failures]).encode()
        body = len(body).to_bytes(8, "little") + body + (b"" if estimate is None else estimate.to_bytes())
        _write(self.shards / f"{number:06d}-{_digest(body)}.shard", body)

    def read(self, number: int) -> tuple[Estimate | None, list[Failure]] | None:
        """What `write` kept of a chunk; nothing where it is not there, or not whole."""
        body = self._body(number)
        if body is None:
            return None
        size = int.from_bytes(body[:8], "little")
        failures = [Failure(*entry) for entry in json.loads(body[8 : 8 + size])]
        rest = body[8 + size :]
        return Estimate.from_bytes(rest) if rest else None, failures


def _difference(old: str, new: str) -> str:
    one, other = json.loads(old), json.loads(new)
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return "; ".join(f"{key}: {one.get(key)!r} there, {other.get(key)!r} now" for key in sorted(keys)[:4])


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


def _write(path: Path, body: bytes) -> None:
    try:
        write_whole(path, body)
    except OSError as error:
        raise OSError(
            f"cannot write {path} ({error}). What was finished is kept; make room, or mend the permissions, and run again."
        ) from error


@dataclass(frozen=True)
class Outcome:
    """A finished run: the estimate over all good pairs (none where all failed), and the failures."""

    estimate: Estimate | None
    failures: tuple[Failure, ...]
    rows: Mapping[int, Row]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair, good or bad, in the order of the source."""
        import pandas

        table = pandas.DataFrame({"pair": sorted(self.rows)})
        table["prompt"] = [self.rows[place].prompt for place in table["pair"]]
        reasons = {failure.place: failure.reason for failure in self.failures}
        table["error"] = [reasons.get(place, "") for place in table["pair"]]
        if self.estimate is not None:
            table = table.merge(self.estimate.to_pandas(), on="pair", how="left")
        return table


def _measure_chunk(measure: Measure, rows: Sequence[Row], strict: bool) -> tuple[Estimate | None, list[Failure]]:
    """Measure a chunk; where it fails, find the rows that fail by themselves and measure the others."""
    try:
        return measure(rows), []
    except (ValueError, TypeError, OSError) as error:
        if strict:
            raise
        if len(rows) == 1:
            return None, [Failure(rows[0].place, f"{type(error).__name__}: {error}")]
    failures: list[Failure] = []
    parts: list[Estimate] = []
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        found, bad = _measure_chunk(measure, half, strict)
        failures += bad
        if found is not None:
            parts.append(found)
    return Estimate.merge(parts) if parts else None, failures


def run(
    measure: Measure,
    rows: Iterable[Row],
    folder: RunFolder,
    *,
    rank: int = 0,
    world: int = 1,
    strict: bool = False,
    total: int | None = None,
    progress: bool = True,
    chunk: int = CHUNK,
) -> None:
    """Measure the chunks that FOLDER lacks and that fall to this process.

    Args:
        measure: measures the rows of one chunk.
        rows: all rows; every process is handed the same.
        folder: where shards go.
        rank, world: this process, of how many.
        strict: stop at the first bad row, instead of recording it and going on.
        total: number of rows, for the progress bar.
        progress: whether this process shows the bar; it passes over the rows of others.
        chunk: rows a chunk.

    Raises:
        OSError: when a shard cannot be written; those that were are kept.
    """
    with tqdm(total=total, desc="pairs", unit="pair", disable=not progress) as bar:
        for number, part in chunks(rows, chunk):
            if number % world == rank and not folder.holds(number):
                estimate, failures = _measure_chunk(measure, part, strict)
                folder.write(number, estimate, failures)
            bar.update(len(part))


def collect(rows: Iterable[Row], folder: RunFolder, chunk: int = CHUNK) -> Outcome:
    """Join the shards of a finished run.

    Raises:
        ValueError: when a shard is missing; run again to measure it.
    """
    parts: list[Estimate] = []
    failures: list[Failure] = []
    seen: dict[int, Row] = {}
    for number, members in chunks(rows, chunk):
        kept = folder.read(number)
        if kept is None:
            raise ValueError(
                f"the shard of pairs {members[0].place} to {members[-1].place} is missing from {folder.shards}; run again to "
                "measure these pairs"
            )
        estimate, bad = kept
        failures += bad
        if estimate is not None:
            parts.append(estimate)
        seen |= {row.place: row._replace(image="") for row in members}
    return Outcome(Estimate.merge(parts) if parts else None, tuple(failures), seen)
