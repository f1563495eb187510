"""Long runs over many pairs: shards that are written as they finish, resumed where they stopped, by any number of processes.

Rows are cut into chunks by their place alone, and a chunk is measured as a whole, so a pair's numbers do not depend on how
many processes there are, nor on where a run was stopped. A shard holds its pairs' texts and the digests of their pictures beside
their numbers: what an unfinished run has can be read without its source or its model, and a chunk whose pictures have changed
since, or could not be read then, is measured again.
"""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from mmg_diffusers.checks import file_path, needs, reason, shown, somebody_looks
from mmg_diffusers.files.resumed import tell
from mmg_diffusers.files.whole import PARTIAL, claim, write_whole
from mmg_diffusers.pairs.rows import Label, Row
from mmg_diffusers.runs.outcome import Outcome, mended
from mmg_diffusers.runs.parts import Expected, Part
from mmg_diffusers.runs.shard_files import Failure, Result, Shard, Shards, merged, pairs_in

CHUNK = 32
# Seconds after which a file that is still being written was left behind by a killed process.
_ABANDONED = 3600


Measure = Callable[[Sequence[Row]], Result]
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


class RunFolder:
    """Where a run is written.

    Args:
        folder: made if it does not exist.
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

    def compare(self, paths: Sequence[Path], rows: Sequence[Row]) -> Standing:
        """What is still to be measured of a chunk, given its files; files that another one of them stands for are removed.

        Raises:
            ValueError: when its shard holds other pairs than these rows.
        """
        labels = {row.place: row.label() for row in rows}
        best: Standing | None = None
        for path, shard in self.shards.whole(paths):
            standing = self._against(shard, rows, labels)
            if best is None or (standing.stands and not best.stands):
                best = standing._replace(path=path)
        if best is None:
            return Standing(labels)
        if best.stands:
            self.drop([path for path in paths if path != best.path and self._stale(path, rows, labels)])
        return best

    def drop(self, paths: Iterable[Path]) -> None:
        """Remove shards that do not count any more."""
        for path in paths:
            path.unlink(missing_ok=True)

    def mark(self, launch: str, rank: int) -> None:
        """Tell the other processes of a launch that this one is through."""
        write_whole(self._mark(launch, rank), b"")

    def marked(self, launch: str | None, world: int) -> bool:
        """Whether all processes of a launch are through; taken to be so for a launch without a name."""
        return launch is None or all(self._mark(launch, rank).exists() for rank in range(world))

    def unmark(self, launch: str, world: int) -> None:
        """Clear away what `mark` wrote."""
        self.drop(self._mark(launch, rank) for rank in range(world))

    def _mark(self, launch: str, rank: int) -> Path:
        return self.shards.folder / f".{launch}-{rank}.through"

    def _stale(self, path: Path, rows: Sequence[Row], labels: Mapping[int, Label]) -> bool:
        return any(not self._against(shard, rows, labels).stands for _, shard in self.shards.whole([path]))

    def _against(self, shard: Shard, rows: Sequence[Row], labels: Mapping[int, Label]) -> Standing:
        """How the pairs of a shard compare with those that the source has now."""
        failed = {failure.place for failure in shard.failures}
        by_place = {row.place: row for row in rows}
        added, changed, retried, unread = [], [], [], []
        for place in sorted({**labels, **shard.labels}):
            kept, now = shard.labels.get(place), labels.get(place)
            if now is None:
                raise self._other_pairs(place, kept, now)
            if kept is None:
                added.append(place)
            elif place in failed:
                again = by_place[place].readable() if place in shard.transient else not kept.matches(now)
                retried += [place] if again else []
            elif not kept.same_texts(now):
                raise self._other_pairs(place, kept, now)
            elif not kept.matches(now) or (now.digest and not kept.digest):
                # A picture with a name may have changed; without one, or by another name, it is another picture.
                if not kept.same_name(now) or (kept.digest and not kept.image):
                    raise self._other_pairs(place, kept, now)
                changed.append(place)
            elif kept.digest and not now.digest:
                unread.append(place)
        return Standing(labels, shard, None, tuple(added), tuple(changed), tuple(retried), tuple(unread))

    def _other_pairs(self, place: int, kept: Label | None, now: Label | None) -> ValueError:
        return ValueError(
            f"{self.folder} belongs to a run over other pairs: pair {place} was {_pair(kept)} there and is "
            f"{_pair(now)} now. Choose another folder, or remove this one."
        )


class Standing(NamedTuple):
    """How the shard of a chunk compares with the rows of a source.

    `labels` are of the rows; `added`, `changed` and `retried` are places that are to be measured, and `unread` those whose
    pictures could not be compared.
    """

    labels: Mapping[int, Label]
    shard: Shard | None = None
    path: Path | None = None
    added: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    retried: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether nothing is to be measured."""
        return self.shard is not None and not (self.added or self.changed or self.retried)

    def before(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """All places of the chunk that ever changed, and all that were ever tried again, this time included."""
        old = Shard({}, None, ()) if self.shard is None else self.shard
        return tuple(sorted({*old.changed, *self.changed})), tuple(sorted({*old.retried, *self.retried}))


def _pair(label: Label | None) -> str:
    if label is None:
        return "missing"
    return f"{shown(label.prompt)} of {label.image or f'an image with the digest {label.digest[:16]}'}"


class _Bad(NamedTuple):
    """A row that could not be measured."""

    row: Row
    error: Exception


def _measure_chunk(measure: Measure, rows: Sequence[Row], strict: bool) -> tuple[list[Result], list[_Bad]]:
    """Measure a chunk; if it fails, find the rows that fail by themselves and measure the others."""
    try:
        for row in rows:
            row.check()
        return [measure(rows)], []
    except (ValueError, TypeError, OSError) as error:
        _name_by_place(error, rows)
        if strict:
            raise
        if len(rows) == 1:
            return [], [_Bad(rows[0], error)]
    middle = len(rows) // 2
    (one, bad), (other, worse) = (_measure_chunk(measure, half, strict) for half in (rows[:middle], rows[middle:]))
    return one + other, bad + worse


def _name_by_place(error: Exception, rows: Sequence[Row]) -> None:
    """Let an error that counts the images of a chunk call them by their places in the source."""
    places = {str(k): row.place for k, row in enumerate(rows)}

    def named(text: str) -> str:
        return re.sub(r"\bimage (\d+)", lambda match: f"image {places.get(match[1], match[1])}", text)

    error.args = tuple(named(part) if isinstance(part, str) else part for part in error.args)
    if isinstance(error, OSError) and error.strerror is not None:
        error.strerror = named(error.strerror)


def _refuse_if_away(rows: Sequence[Row], bad: Sequence[_Bad]) -> None:
    """Stop if not one of several rows can be read and their folders are gone, or their disk fails.

    Raises:
        OSError: which says so; recorded as bad, the pairs of a whole data set would be lost for a share that was away.
    """
    if len(rows) < 2 or len(bad) < len(rows):
        return
    for row, error in bad:
        if not isinstance(error, OSError):
            return
        folder = Path(row.label().image).parent
        if isinstance(error, FileNotFoundError) and folder.is_dir() and next(folder.iterdir(), None) is not None:
            return
    raise OSError(
        f"none of the pairs {rows[0].place} to {rows[-1].place} can be read ({reason(bad[0].error)}), and their folder is away, "
        "empty, or on a disk that fails. What was finished is kept: run again when it is back, or leave these rows out"
    ) from bad[0].error


def _measured(measure: Measure, rows: Sequence[Row], standing: Standing, strict: bool) -> Shard:
    parts, bad = _measure_chunk(measure, rows, strict)
    _refuse_if_away(rows, bad)
    failures = tuple(Failure(row.place, f"{type(error).__name__}: {reason(error)}") for row, error in bad)
    transient = frozenset(row.place for row, error in bad if isinstance(error, OSError))
    result = merged(parts) if parts else None
    return Shard(standing.labels, result, failures, transient, *standing.before())


def run(
    measure: Measure,
    rows: Iterable[Row],
    folder: RunFolder,
    *,
    rank: int = 0,
    world: int = 1,
    launch: str | None = None,
    strict: bool = False,
    total: int | None = None,
    progress: bool = True,
    chunk: int = CHUNK,
    part: Part | None = None,
) -> int:
    """Measure the chunks that FOLDER lacks and that fall to this process; returns when those of the others of its launch are there too.

    What is there is compared with the rows by content. A chunk is measured again as a whole if a picture has changed since, if
    one that could not be read can be read now, or if a bad one is another now; the shard says which.

    Args:
        measure: measures the rows of one chunk.
        rows: all rows; every process is handed the same.
        folder: where shards go.
        rank, world: this process, of how many. If one of them fails, its launcher has to end the others, as accelerate's
            does.
        launch: a name of this launch, the same for all of its processes: then a process waits until the others have compared
            theirs, and not only until they are there.
        strict: stop at the first bad row, instead of recording it and going on.
        total: number of rows, for the progress bar.
        progress: whether this process shows the bar, which counts the pairs that all processes have finished.
        chunk: rows a chunk.
        part: of the run, which this launch measures; the others are not waited for.

    Returns:
        the number of chunks.

    Raises:
        ValueError: when the folder holds other pairs; for a bad row if `strict`.
        OSError: when a shard cannot be written, or the folder of the pictures is away; the shards that were written are kept.
    """
    shards, count, unread, seen, told = folder.shards, 0, 0, 0, False
    mine = Part(folder.folder) if part is None else part
    if rank == 0:
        folder.verify()
        if total is not None:
            Expected(-(-total // chunk), total, mine.of).save(folder.folder)
    listed = shards.listed()
    there = pairs_in(mine.within(listed))
    with tqdm(
        total=_share(total, chunk, mine),
        initial=there,
        desc="pairs",
        unit="pair",
        disable=not (progress and somebody_looks()),
    ) as bar:
        for number, some in chunks(rows, chunk):
            count, seen = number + 1, seen + len(some)
            if not mine.own(number, rank, world):
                continue
            some = [row.held() for row in some]
            standing = folder.compare(listed.get(number, []), some)
            unread += len(standing.unread)
            if rank == 0 and there and not told:  # once these pairs are known to be those that were measured
                of = "" if total is None else f" of {total}"
                tell(f"going on: {pairs_in(listed)}{of} pairs are kept in {folder.folder}")
                told = True
            if not standing.stands:
                written = shards.write(number, _measured(measure, some, standing, strict))
                folder.drop(path for path in listed.get(number, []) if path != written)
                listed = shards.listed()
                bar.update(pairs_in(mine.within(listed)) - bar.n)
        if rank == 0 and total is None:
            Expected(count, seen, mine.of).save(folder.folder)
        if any(number >= count for number in listed):
            raise ValueError(
                f"{folder.folder} belongs to a run over other pairs: it has {pairs_in(listed)}, and the source has fewer "
                "now. Choose another folder, or remove this one."
            )
        if unread:
            warnings.warn(
                f"the pictures of {unread} measured pairs cannot be read now, so they were not compared; their "
                "numbers stand",
                RuntimeWarning,
                stacklevel=2,
            )
        if launch is not None:
            folder.mark(launch, rank)
        pause = 0.02
        while any(number not in listed for number in range(count) if mine.has(number)) or not folder.marked(
            launch, world
        ):
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)
            listed = shards.listed()
            bar.update(pairs_in(mine.within(listed)) - bar.n)
    return count


def _share(total: int | None, chunk: int, part: Part) -> int | None:
    """How many of all pairs a part has."""
    if total is None:
        return None
    return sum(min(chunk, total - number * chunk) for number in range(-(-total // chunk)) if part.has(number))


def collect(folder: RunFolder, count: int) -> Outcome:
    """Join the shards of a finished run of `count` chunks.

    Raises:
        ValueError: when a shard is missing; run again to measure it.
    """
    shards = folder.shards
    listed = shards.listed()
    whole: list[Shard] = []
    for number in range(count):
        shard = shards.read(listed.get(number, []))
        if shard is None:
            raise ValueError(f"the shard {number:06d} is missing from {shards.folder}; run again to measure its pairs")
        whole.append(shard)
    return Outcome.join(whole, mended(shards))
