"""Parts of a run that share a folder and do not know of each other: job arrays, nodes without a rendezvous."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmg_diffusers.checks import file_path, shown, whole
from mmg_diffusers.files.text import read_json
from mmg_diffusers.files.whole import write_whole

EXPECTED = "expected.json"


@dataclass(frozen=True)
class Part:
    """A part of a run: the chunks of pairs whose number leaves ``number - 1`` when it is divided by ``of``.

    Stands in the place of the run's folder: ``pipe.run(source, Part("runs/pairs", 3, 16))``. Parts need not run at the same time,
    nor on machines that reach each other; the one that finds all chunks there writes the table.

    Args:
        folder: of the run, the same for all parts.
        number: from 1.
        of: how many there are.

    Raises:
        TypeError, ValueError: for a part that is none.
    """

    folder: str | Path
    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        file_path(self.folder, "the folder of a run")
        whole(self.of, "the number of parts", 1)
        if whole(self.number, "the part", 1) > self.of:
            raise ValueError(f"the part is {self.number} of {self.of}; expected 1 to {self.of}")

    @classmethod
    def parse(cls, text: str | None, folder: Path) -> Part:
        """``3/16``, as a command line says it; the whole without a text.

        Raises:
            ValueError: for anything else.
        """
        if text is None:
            return cls(folder)
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()) or not 0 < int(number) <= int(of):
            raise ValueError(f"--part is {shown(text)}; expected a part and how many there are, such as 3/16")
        return cls(folder, int(number), int(of))

    @property
    def whole(self) -> bool:
        """Whether it is all of the run."""
        return self.of == 1

    def has(self, chunk: int) -> bool:
        """Whether a chunk belongs to it."""
        return chunk % self.of == self.number - 1

    def own(self, chunk: int, rank: int, world: int) -> bool:
        """Whether a chunk of this part is measured by this one of the processes of its launch."""
        return self.has(chunk) and (chunk // self.of) % world == rank

    def within(self, listed: Mapping[int, Any]) -> dict[int, Any]:
        """Of the shards that are there, those of this part."""
        return {chunk: held for chunk, held in listed.items() if self.has(chunk)}


@dataclass(frozen=True)
class Expected:
    """What a run is to have in the end, as its folder says it: chunks, pairs, and in how many parts it is measured."""

    chunks: int
    pairs: int
    parts: int = 1

    def save(self, folder: Path) -> None:
        """Write it into the folder of the run.

        Raises:
            OSError: when it cannot be written.
        """
        write_whole(folder / EXPECTED, json.dumps(self.__dict__).encode())

    @classmethod
    def load(cls, folder: Path) -> Expected | None:
        """What the folder says, if it does."""
        try:
            held = read_json(folder / EXPECTED)
            return cls(int(held["chunks"]), int(held["pairs"]), int(held["parts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def missing(self, listed: Iterable[int]) -> list[int]:
        """Chunks that are not there."""
        return sorted({*range(self.chunks)} - {*listed})

    def lacks(self, listed: Iterable[int], pairs: int) -> str | None:
        """What is missing, in words; ``None`` if nothing is."""
        missing = self.missing(listed)
        if not missing:
            return None
        said = f"{pairs} of {self.pairs} pairs are there"
        if self.parts == 1:
            return f"{said}; the same command goes on with the rest"
        parts = sorted({chunk % self.parts + 1 for chunk in missing})
        named = ", ".join(f"{part}/{self.parts}" for part in parts[:16]) + (" and more" if len(parts) > 16 else "")
        return f"{said}; missing are pairs of the part{'s' * (len(parts) > 1)} {named}: run with --part"
