"""The identity of data: one digest of content, by which runs, checkpoints, caches and studies know what they belong to."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import file_path, of_type

# Bytes of a file that are read at a time.
_PIECE = 2**20


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


@dataclass(frozen=True)
class Identity:
    """A digest of data: the same for the same content, wherever and under whatever name it is kept.

    Dtypes, shapes and values count; devices, strides and the order of a mapping's keys do not. `of` and `of_file` make one.
    """

    digest: str

    def __post_init__(self) -> None:
        of_type(self.digest, str, "digest", "the text of a digest")

    def __str__(self) -> str:
        return self.digest

    @classmethod
    def of(cls, *parts: object) -> Identity:
        """The identity of tensors, arrays, bytes, text, numbers, and of sequences and mappings of them.

        Raises:
            TypeError: for anything else, whose content is not known.
        """
        total = hashlib.sha256()
        _add(total, list(parts))
        return cls(total.hexdigest())

    @classmethod
    def of_file(cls, path: str | Path) -> Identity:
        """The identity of a file's bytes, the same as `of` gives for them; the name does not count.

        Raises:
            OSError: when it cannot be read.
        """
        path = file_path(path, "the file")
        size = path.stat().st_size
        total = hashlib.sha256()
        total.update(b"l" + struct.pack("<q", 1) + b"y" + struct.pack("<q", size))
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                total.update(piece)
        return cls(total.hexdigest())


def row_marks(x: Tensor) -> Tensor:
    """A mark of every row of `(N, *event)`, `(N,)` int64: the first 8 bytes of its identity in float32.

    So that a row is known again among others, in float32 as in float64, and wherever it lay.
    """
    rows = x.detach().float().cpu()
    marks = [struct.unpack("<q", bytes.fromhex(Identity.of(row).digest[:16]))[0] for row in rows]
    return torch.tensor(marks, dtype=torch.int64)


def _add(total: _Hash, value: object) -> None:
    """Put a value into a digest: its kind, its length, then its content, so that no two different values read alike."""
    if isinstance(value, Tensor):
        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        _head(total, b"a", str(flat.dtype).removeprefix("torch."), tuple(flat.shape))
        total.update(flat.flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of Python objects has no identity; expected numbers, text or bytes")
        _head(
            total,
            b"a",
            array.dtype.newbyteorder("<").str if array.dtype.kind in "USVmM" else array.dtype.name,
            array.shape,
        )
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    elif isinstance(value, (bytes, bytearray, memoryview)):
        body = bytes(value)
        total.update(b"y" + struct.pack("<q", len(body)))
        total.update(body)
    elif isinstance(value, (str, Path)):
        body = str(value).encode("utf-8", "surrogatepass")
        total.update(b"s" + struct.pack("<q", len(body)))
        total.update(body)
    elif value is None or isinstance(value, (bool, int, float, complex)):
        body = repr(value).encode()
        total.update(b"n" + struct.pack("<q", len(body)))
        total.update(body)
    elif isinstance(value, Identity):
        _add(total, value.digest)
    elif isinstance(value, Mapping):
        total.update(b"m" + struct.pack("<q", len(value)))
        for key in sorted(value, key=str):
            _add(total, key)
            _add(total, value[key])
    elif isinstance(value, Sequence):
        total.update(b"l" + struct.pack("<q", len(value)))
        for part in value:
            _add(total, part)
    else:
        raise TypeError(f"a {type(value).__name__} has no identity; expected tensors, arrays, bytes, text or numbers")


def _head(total: _Hash, kind: bytes, dtype: str, shape: tuple[int, ...]) -> None:
    total.update(kind + f"{dtype} {shape} ".encode())
