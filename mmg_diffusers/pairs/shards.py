"""Webdataset shards: tar files that keep the parts of a pair by the endings of their names."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmg_diffusers.checks import reason, shown
from mmg_diffusers.files.text import decode

SHARD_SUFFIX = ".tar"
# {0000..0123}, or {train,test}.
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 100_000


@dataclass(frozen=True)
class Shards:
    """The samples of tar files, in order; can be gone through any number of times.

    Args:
        paths: of the files.
    """

    paths: tuple[Path, ...]

    @classmethod
    def find(cls, source: Path) -> Shards | None:
        """The shards that a source names: one, a folder that holds nothing else to read, or a pattern such as
        ``pairs-{000..012}.tar`` or ``pairs-*.tar``. ``None`` if it names something else.

        Raises:
            FileNotFoundError: for shards that are not there; says which.
            ValueError: for a pattern that names too many.
        """
        if source.is_dir():
            inside = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
            shards = [path for path in inside if path.suffix.lower() == SHARD_SUFFIX]
            # Beside shards there may be an index or a note, but no table of pairs and no pictures.
            return cls(tuple(shards)) if shards and not any(path.stem == "metadata" for path in inside) else None
        if source.suffix.lower() != SHARD_SUFFIX:
            return None
        if source.exists():
            return cls((source,))
        paths: list[Path] = []
        for name in _expanded(str(source)):
            path = Path(name)
            matching = sorted(path.parent.glob(path.name)) if "*" in path.name or "?" in path.name else [path]
            lacking = [str(one) for one in matching if not one.is_file()] or ([] if matching else [name])
            if lacking:
                raise FileNotFoundError(f"there is no {lacking[0]}; expected a webdataset shard")
            paths += matching
        return cls(tuple(paths))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of a record is told."""
        if len(self.paths) == 1:
            return ()
        return (f"{len(self.paths)} shards are read, from {self.paths[0].name} to {self.paths[-1].name}",)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Samples: ``jpg`` and the like hold ``bytes`` and ``path`` of a picture, text its letters, ``json`` what it says.

        Raises:
            ValueError: for a file that is no tar, or is cut off.
            OSError: for one that cannot be read.
        """
        for path in self.paths:
            try:
                yield from _samples(path)
            except tarfile.TarError as error:
                raise ValueError(f"{path} cannot be read as a webdataset shard: {reason(error)}") from error


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for, as shells expand them."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    ends = _RANGE.fullmatch(match[1])
    if ends is None:
        parts = match[1].split(",")
    else:
        first, last = int(ends[1]), int(ends[2])
        if abs(last - first) >= _MOST:
            raise ValueError(f"{shown(pattern)} names {abs(last - first) + 1:,} shards; expected fewer than {_MOST:,}")
        step = 1 if last >= first else -1
        width = len(ends[1]) if ends[1].startswith("0") or len(ends[1]) == len(ends[2]) else 0
        parts = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for part in parts for name in _expanded(f"{before}{part}{after}")]


def _samples(path: Path) -> Iterator[Mapping[str, Any]]:
    """Files whose names agree up to the first dot of their last part are one sample, as webdataset has it."""
    sample: dict[str, Any] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = Path(member.name)
            if not member.isfile() or name.name.startswith("."):
                continue
            stem, _, ending = name.name.partition(".")
            key = str(name.parent / stem)
            if sample and sample["__key__"] != key:
                yield sample
                sample = {}
            file = tar.extractfile(member)
            assert file is not None
            sample |= {"__key__": key, ending.lower(): _part(member.name, ending.lower(), file.read())}
    if sample:
        yield sample


def _part(name: str, ending: str, body: bytes) -> Any:
    """What a file of a sample holds; text that is none is left as bytes, which no prompt may be."""
    if ending not in ("txt", "text", "caption", "json"):
        return {"bytes": body, "path": name}
    try:
        text = decode(body, name)
        return json.loads(text) if ending == "json" else " ".join(text.split())
    except (ValueError, RecursionError):
        return body
