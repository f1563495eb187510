"""What a run keeps of each chunk of pairs: one file, renamed into place when it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.records import from_bytes
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.pairs.rows import Label

# 1, of version 0.1, which is not written: no digest of pictures that had a path, and no transient failures.
FORM = 2


Result = Estimate | Filtered | LogLikelihood
"""What a run measures: estimates against the null prompt, filters against candidates, or likelihoods."""


def merged(parts: Sequence[Result]) -> Result:
    """Join what was measured of different pairs.

    Raises:
        TypeError, ValueError: for results that do not belong together.
    """
    kind: Any = type(parts[0])
    return kind.merge(parts)


class Failure(NamedTuple):
    """A pair that could not be measured, and why."""

    place: int
    reason: str


@dataclass(frozen=True)
class Shard:
    """What a run has of one chunk.

    Args:
        labels: of its pairs, by place.
        estimate: over the good ones, against candidates a filter; ``None`` if there is none.
        failures: the bad ones.
        transient: places of those that failed with an OSError, as they do while a disk or a share is away.
        changed: places of pairs that were measured again, since their pictures had changed.
        retried: places of bad pairs that were tried again.
    """

    labels: Mapping[int, Label]
    estimate: Result | None
    failures: tuple[Failure, ...]
    transient: frozenset[int] = frozenset()
    changed: tuple[int, ...] = ()
    retried: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """A JSON header with its length, and the estimate's file."""
        header = {
            "form": FORM,
            "pairs": [[place, *label] for place, label in self.labels.items()],
            "failures": [list(failure) for failure in self.failures],
            "transient": sorted(self.transient),
            "changed": list(self.changed),
            "retried": list(self.retried),
        }
        body = json.dumps(header, default=str).encode()
        return len(body).to_bytes(8, "little") + body + (b"" if self.estimate is None else self.estimate.to_bytes())

    @classmethod
    def from_bytes(cls, body: bytes) -> Shard:
        """Read what `to_bytes` gave, in this version or in 0.1."""
        size = int.from_bytes(body[:8], "little")
        header, rest = json.loads(body[8 : 8 + size]), body[8 + size :]
        labels = {place: Label(*label) for place, *label in header["pairs"]}
        failures = tuple(Failure(*entry) for entry in header["failures"])
        estimate = cast(Result, from_bytes(rest)) if rest else None
        if header.get("form", 1) < FORM:
            labels = {place: label._replace(digest="") for place, label in labels.items()}
            return cls(labels, estimate, failures, frozenset(failure.place for failure in failures))
        history = (tuple(header["changed"]), tuple(header["retried"]))
        return cls(labels, estimate, failures, frozenset(header["transient"]), *history)


class Shards:
    """The shards of a run on disk: a file a chunk, ``<number>-<pairs>-<checksum>.shard``, renamed into place when whole.

    Any number of processes may write to one folder. What is said of it is of the moment when it was looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listed(self) -> dict[int, list[Path]]:
        """Files by the number of their chunk, by name alone."""
        files: dict[int, list[Path]] = {}
        for path in sorted(self.folder.glob("*.shard")):
            files.setdefault(int(path.name.split("-")[0]), []).append(path)
        return files

    def whole(self, paths: Sequence[Path]) -> list[tuple[Path, Shard]]:
        """Those of a chunk's files that are whole, the newest first: a chunk that was measured again counts as it is now."""
        if len(paths) > 1:
            paths = sorted(paths, key=_written, reverse=True)
        bodies = ((path, _whole(path)) for path in paths)
        return [(path, Shard.from_bytes(body)) for path, body in bodies if body is not None]

    def read(self, paths: Sequence[Path]) -> Shard | None:
        """The newest of a chunk's files that is whole."""
        return next((shard for _, shard in self.whole(paths)), None)

    def write(self, number: int, shard: Shard) -> Path:
        """Keep a chunk's shard.

        Raises:
            OSError: when it cannot be written.
        """
        body = shard.to_bytes()
        path = self.folder / f"{number:06d}-{len(shard.labels)}-{_digest(body)}.shard"
        write_or_say(path, body)
        return path

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


def write_or_say(path: Path, body: bytes) -> None:
    """Write a file of a run.

    Raises:
        OSError: when it cannot be written; says that the run can go on.
    """
    try:
        write_whole(path, body)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}. What was finished is kept; make room, or mend the permissions, and run again.",
        ) from error


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


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
