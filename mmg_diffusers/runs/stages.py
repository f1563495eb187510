"""Long measurements in stages and parts: what is done is kept, and a run that is stopped goes on with the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mmg_diffusers.files.identity import Identity
from mmg_diffusers.files.records import versions
from mmg_diffusers.files.text import read_json
from mmg_diffusers.files.whole import claim, write_whole


class Kept(Protocol):
    """A result that can be written to a file."""

    def save(self, path: Path) -> Path: ...


K = TypeVar("K", bound=Kept)
PART = 64


class Stages:
    """The results of a measurement by name, as JSON with the time and the versions that made each, in a folder for it alone.

    Args:
        folder: made if it does not exist.
        settings: what the results depend on. A folder of other settings is refused.
        data: what is measured, as `Identity.of` takes it: tensors, arrays, text, numbers, and lists and mappings of them. A
            folder of other data is refused, whatever they are called.

    Raises:
        TypeError: for data whose content is not known.
        ValueError: when the folder belongs to a measurement with other settings, or of other data.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], data: object = None) -> None:
        self.folder = folder
        claim(folder, settings if data is None else {**settings, "data": Identity.of(data).digest})

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a stage: read back, or made and kept."""
        if not self.has(name):
            began = time.monotonic()
            result = make()
            seconds = round(time.monotonic() - began, 1)
            record = {"found": result, "seconds": seconds, "versions": versions()}
            write_whole(self._path(name), json.dumps(record, indent=1).encode())
            print(f"{name}: done in {seconds} s", flush=True)
        return self.read(name)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def has(self, name: str) -> bool:
        """Whether a stage is done."""
        return self._path(name).exists()

    def read(self, name: str) -> dict[str, Any]:
        """The result of a stage that is done."""
        return read_json(self._path(name))["found"]

    def parts(
        self, name: str, count: int, measure: Callable[[range], K], load: Callable[[Path], K], size: int = PART
    ) -> list[K]:
        """Results for `count` pairs, some pairs at a time, each kept in a file as it is done.

        Args:
            name: of the files.
            count: pairs.
            measure: the pairs of a range.
            load: reads a file back.
            size: pairs in a part.
        """
        results: list[K] = []
        for start in range(0, count, size):
            pairs = range(start, min(start + size, count))
            path = self.folder / f"{name}-{start:04d}-{pairs.stop:04d}.safetensors"
            if not path.exists():
                measure(pairs).save(path)
            results.append(load(path))
        return results
