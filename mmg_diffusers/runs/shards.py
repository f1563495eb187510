"""Long runs over many pairs: shards that are written as they finish, resumed where they stopped, by any number of processes.

Rows are cut into chunks by their place alone, and a chunk is measured as a whole, so a pair's numbers do not depend on how
many processes there are, nor on where a run was stopped. A shard holds its pairs' texts beside their numbers, so what an
unfinished run has can be read without its source or its model.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from mmg_diffusers.checks import file_path, needs
from mmg_diffusers.files.whole import PARTIAL, claim, write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.pairs.sources import Label, Row

if TYPE_CHECKING:
    import datasets
    import pandas

CHUNK = 32
# Seconds after which a file that is still being written was left behind by a killed process.
_ABANDONED = 3600


class Failure(NamedTuple):
    """A pair that could not be measured, and why."""

    place: int
    reason: str


Measure = Callable[[Sequence[Row]], Estimate]
"""Measures the rows of a chunk, with their places as pair ids; raises ValueError, TypeError or OSError for a bad one."""


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


@dataclass(frozen=True)
class Shard:
    """What was found of one chunk: its pairs, their numbers (none where all are bad), and the bad ones."""

    labels: Mapping[int, Label]
    estimate: Estimate | None
    failures: tuple[Failure, ...]

    def to_bytes(self) -> bytes:
        """A JSON header with its length, and the estimate's file."""
        header = {
            "pairs": [[place, *label] for place, label in self.labels.items()],
            "failures": [list(failure) for failure in self.failures],
        }
        body = json.dumps(header, default=str).encode()
        return len(body).to_bytes(8, "little") + body + (b"" if self.estimate is None else self.estimate.to_bytes())

    @classmethod
    def from_bytes(cls, body: bytes) -> Shard:
        """Read what `to_bytes` gave."""
        size = int.from_bytes(body[:8], "little")
        header, rest = json.loads(body[8 : 8 + size]), body[8 + size :]
        return cls(
            {place: Label(*label) for place, *label in header["pairs"]},
            Estimate.from_bytes(rest) if rest else None,
            tuple(Failure(*entry) for entry in header["failures"]),
        )


class Shards:
    """The shards of a run on disk: a file a chunk, ``<number>-<pairs>-<checksum>.shard``, renamed into place when whole.

    Any number of processes may write to one folder. What is said of it is of the moment when it was looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listed(self) -> dict[int, list[Path]]:
        """Files by the number of their chunk, by name alone."""
        found: dict[int, list[Path]] = {}
        for path in sorted(self.folder.glob("*.shard")):
            found.setdefault(int(path.name.split("-")[0]), []).append(path)
        return found

    def read(self, paths: Iterable[Path]) -> Shard | None:
        """The first of a chunk's files that is whole."""
        return next((Shard.from_bytes(body) for path in paths if (body := _whole(path)) is not None), None)

    def write(self, number: int, shard: Shard) -> None:
        """Keep a chunk's shard.

        Raises:
            OSError: when it cannot be written.
        """
        body = shard.to_bytes()
        _write(self.folder / f"{number:06d}-{len(shard.labels)}-{_digest(body)}.shard", body)

    def set_aside(self, paths: Iterable[Path]) -> None:
        """Rename damaged files, so that they are no shards any more and can still be counted."""
        for path in paths:
            damaged = path.with_suffix(".damaged")
            with suppress(FileNotFoundError):
                path.rename(damaged)
                # Another run may have put a whole one in its place just before.
                if _digest(damaged.read_bytes()) == _checksum(path):
                    damaged.rename(path)

    def damaged(self) -> list[Path]:
        """Files that were set aside."""
        return sorted(self.folder.glob("*.damaged"))


def pairs_in(listed: Mapping[int, Sequence[Path]]) -> int:
    """Pairs in the shards that were listed, by their names alone."""
    return sum(int(paths[0].name.split("-")[1]) for paths in listed.values())


def _checksum(path: Path) -> str:
    return path.stem.rsplit("-", 1)[1]


def _whole(path: Path) -> bytes | None:
    try:
        body = path.read_bytes()
    except FileNotFoundError:  # set aside by another process since it was listed
        return None
    return body if _digest(body) == _checksum(path) else None


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


def _write(path: Path, body: bytes) -> None:
    try:
        write_whole(path, body)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}. What was finished is kept; make room, or mend the permissions, and run again.",
        ) from error


@dataclass(frozen=True)
class Outcome:
    """What a run has: the estimate over its good pairs (none where there are none), the bad ones, and all that were seen.

    `notes` says what happened to the run: shards that were damaged and measured again.
    """

    estimate: Estimate | None
    failures: tuple[Failure, ...]
    rows: Mapping[int, Label]
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> Outcome:
        """What a run has kept so far, finished or not; nothing is measured or changed, and no model is needed.

        Raises:
            FileNotFoundError: when the folder is not of a run, or has no whole shard yet.
        """
        shards = Shards(file_path(folder, "the folder of a run") / "shards")
        if not shards.folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of a run: it has no shards")
        found, bad = [], 0
        for paths in shards.listed().values():
            shard = shards.read(paths)
            bad += shard is None
            found += [] if shard is None else [shard]
        if not found:
            raise FileNotFoundError(f"the run in {folder} has not finished a shard yet; wait, or run it again")
        said = [f"{bad} shard(s) in {shards.folder} are damaged; run again to measure their pairs anew"] if bad else []
        return cls.join(found, (*said, *_remarks(shards)))

    @classmethod
    def join(cls, shards: Sequence[Shard], notes: tuple[str, ...] = ()) -> Outcome:
        """The outcome of several shards, in their order."""
        parts = [shard.estimate for shard in shards if shard.estimate is not None]
        rows = {place: label for shard in shards for place, label in shard.labels.items()}
        failures = tuple(failure for shard in shards for failure in shard.failures)
        return cls(Estimate.merge(parts) if parts else None, failures, rows, notes)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair, good or bad, in the order of the source."""
        needs("pandas", "data")
        import pandas

        table = pandas.DataFrame({"pair": sorted(self.rows)})
        labels = [self.rows[place] for place in table["pair"]]
        table["image"] = [label.image for label in labels]
        table["prompt"] = [str(label.prompt) for label in labels]
        if any(label.given is not None for label in labels):
            table["given"] = [label.given for label in labels]
        reasons = dict(self.failures)
        table["error"] = [reasons.get(place, "") for place in table["pair"]]
        if self.estimate is not None:
            table = table.merge(self.estimate.to_pandas(), on="pair", how="left")
        return table

    def to_dataset(self) -> datasets.Dataset:
        """`to_pandas` as a `datasets.Dataset`.

        Raises:
            ImportError: when `datasets` is not installed.
        """
        needs("datasets", "data")
        import datasets

        return datasets.Dataset.from_pandas(self.to_pandas(), preserve_index=False)

    def save(self, folder: Path) -> None:
        """Write ``estimate.safetensors``, where a pair was good, and ``pairs.parquet``, one row a pair.

        Raises:
            OSError: when they cannot be written.
        """
        if self.estimate is not None:
            _write(folder / "estimate.safetensors", self.estimate.to_bytes())
        table = io.BytesIO()
        self.to_pandas().to_parquet(table, index=False)
        _write(folder / "pairs.parquet", table.getvalue())


def _remarks(shards: Shards) -> tuple[str, ...]:
    return tuple(f"a shard was damaged, and its pairs measured again: {path.name}" for path in shards.damaged())


class RunFolder:
    """Where a run is written.

    Args:
        folder: made where it does not exist.
        settings: what the numbers depend on. A folder of other settings is refused.

    Raises:
        ValueError: when the folder belongs to a run with other settings.
        OSError: when it cannot be written to.
        ModuleNotFoundError: when what its table needs is not installed.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        for package in ("pandas", "pyarrow"):  # for the table at its end
            needs(package, "data")
        self.folder = file_path(folder, "the folder of a run")
        self.shards = Shards(self.folder / "shards")
        try:
            self.shards.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.shards.folder):
                pass
        except OSError as error:
            raise OSError(
                f"cannot write to {self.folder} ({error}); choose a folder that can be written to. What a run has kept there "
                "is read with Outcome.load, or `mmg-diffusers collect`."
            ) from error
        try:
            claim(self.folder, settings)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; make room, or choose another folder") from error
        for path in self.shards.folder.glob(f".*{PARTIAL}"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()

    def verify(self) -> None:
        """Set damaged shards aside, with a warning; their chunks are lacking then."""
        for number, paths in self.shards.listed().items():
            if self.shards.read(paths) is None:
                warnings.warn(
                    f"shard {number:06d} in {self.shards.folder} is damaged; its pairs are measured again", stacklevel=3
                )
                self.shards.set_aside(paths)

    def lacks(self, paths: Sequence[Path], rows: Sequence[Row]) -> bool:
        """Whether a chunk is still to be measured, given its files.

        Raises:
            ValueError: when its shard holds other pairs than these rows.
        """
        shard = self.shards.read(paths)
        if shard is None:
            return True
        labels = {row.place: row.label() for row in rows}
        for place in sorted({**labels, **shard.labels}):
            kept, now = shard.labels.get(place), labels.get(place)
            if kept is None or now is None or not kept.matches(now):
                raise ValueError(
                    f"{self.folder} belongs to a run over other pairs: pair {place} was {_told(kept)} there and is "
                    f"{_told(now)} now. Choose another folder, or remove this one."
                )
        return False


def _told(label: Label | None) -> str:
    if label is None:
        return "missing"
    return f"{label.prompt!r} of {label.image or f'an image with the digest {label.digest}'}"


def _measure_chunk(measure: Measure, rows: Sequence[Row], strict: bool) -> tuple[list[Estimate], list[Failure]]:
    """Measure a chunk; where it fails, find the rows that fail by themselves and measure the others."""
    try:
        return [measure(rows)], []
    except (ValueError, TypeError, OSError) as error:
        if strict:
            raise
        if len(rows) == 1:
            return [], [Failure(rows[0].place, f"{type(error).__name__}: {error}")]
    middle = len(rows) // 2
    (one, bad), (other, worse) = (_measure_chunk(measure, half, strict) for half in (rows[:middle], rows[middle:]))
    return one + other, bad + worse


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
) -> int:
    """Measure the chunks that FOLDER lacks and that fall to this process; returns when those of the others are there too.

    Args:
        measure: measures the rows of one chunk.
        rows: all rows; every process is handed the same.
        folder: where shards go.
        rank, world: this process, of how many. Where one of them fails, its launcher has to end the others, as
            accelerate's does.
        strict: stop at the first bad row, instead of recording it and going on.
        total: number of rows, for the progress bar.
        progress: whether this process shows the bar, which counts the pairs that all processes have finished.
        chunk: rows a chunk.

    Returns:
        the number of chunks.

    Raises:
        ValueError: when the folder holds other pairs; for a bad row where `strict`.
        OSError: when a shard cannot be written; those that were are kept.
    """
    shards, count = folder.shards, 0
    if rank == 0:
        folder.verify()
    listed = shards.listed()
    with tqdm(total=total, initial=pairs_in(listed), desc="pairs", unit="pair", disable=not progress) as bar:
        for number, part in chunks(rows, chunk):
            count = number + 1
            if number % world == rank and folder.lacks(listed.get(number, []), part):
                parts, failures = _measure_chunk(measure, part, strict)
                labels = {row.place: row.label() for row in part}
                shards.write(number, Shard(labels, Estimate.merge(parts) if parts else None, tuple(failures)))
                listed = shards.listed()
                bar.update(pairs_in(listed) - bar.n)
        if any(number >= count for number in listed):
            raise ValueError(
                f"{folder.folder} belongs to a run over other pairs: it has {pairs_in(listed)}, and the source has fewer "
                "now. Choose another folder, or remove this one."
            )
        pause = 0.02
        while any(number not in listed for number in range(count)):
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)
            listed = shards.listed()
            bar.update(pairs_in(listed) - bar.n)
    return count


def collect(folder: RunFolder, count: int) -> Outcome:
    """Join the shards of a finished run of `count` chunks.

    Raises:
        ValueError: when a shard is missing; run again to measure it.
    """
    shards = folder.shards
    listed = shards.listed()
    found: list[Shard] = []
    for number in range(count):
        shard = shards.read(listed.get(number, []))
        if shard is None:
            raise ValueError(f"the shard {number:06d} is missing from {shards.folder}; run again to measure its pairs")
        found.append(shard)
    return Outcome.join(found, _remarks(shards))
