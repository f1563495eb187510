"""Files of records: tensors beside what JSON can hold, and what made them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from mmg_diffusers.checks import file_path, of_type, reason, shown


def pack(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> bytes:
    """A safetensors file that holds a record as JSON in its header."""
    ready = {name: value.contiguous().clone() for name, value in tensors.items()}
    return safetensors.torch.save(ready, metadata={"record": json.dumps(record)})


def unpack(body: bytes, form: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `pack` gave; the record has to name its `form` under ``format``.

    Raises:
        SafetensorError, KeyError, ValueError: when it is truncated, or of another form.
    """
    tensors = safetensors.torch.load(body)
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    record = json.loads(header["__metadata__"]["record"])
    if record["format"] != form:
        raise ValueError(f"format {shown(record['format'])}, expected {shown(form)}")
    return tensors, record


def within(tensors: Mapping[str, Tensor], room: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``room/``, by what follows it."""
    return {name.removeprefix(f"{room}/"): value for name, value in tensors.items() if name.startswith(f"{room}/")}


def read_record(path: str | Path, kind: str) -> bytes:
    """The bytes of a record's file.

    Raises:
        FileNotFoundError: when there is none.
    """
    path = file_path(path, f"the path of the {kind}")
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} at {path}; expected a file that .save wrote")
    return path.read_bytes()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on."""
    packages = ("mmg-diffusers", "torch", "diffusers", "transformers")
    known = {package: version for package in packages if (version := _version(package)) is not None}
    return {"python": platform.python_version(), **known}


@cache
def _version(package: str) -> str | None:
    """Read once: to parse what is installed takes longer than to measure a small image."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that JSON cannot hold.

    Raises:
        TypeError: which says what they hold.
    """
    of_type(settings, Mapping, "settings", "a mapping of names to what JSON can hold")
    try:
        json.dumps(dict(settings))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the settings hold what JSON cannot ({reason(error)}); expected numbers, text, lists and mappings"
        ) from error
