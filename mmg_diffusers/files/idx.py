"""Idx files, in which MNIST and its kin are kept (LeCun, Cortes and Burges): a few bytes of shape, then the numbers."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import file_path, shown

# The third byte of an idx file names its numbers, the fourth counts its axes.
_UBYTE = 8


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read one idx file of bytes, gzipped or not.

    Returns:
        an array of the shape that the file states.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is truncated, or not an idx file of bytes.
    """
    path = file_path(path, "the idx file")
    body = path.read_bytes()
    try:
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file: {error}. Fetch it again") from error
    if len(body) < 4 or body[:2] != b"\0\0" or body[2] != _UBYTE:
        raise ValueError(f"{path} begins with {shown(body[:4])}; expected an idx file of unsigned bytes")
    start = 4 + 4 * body[3]
    shape = tuple(int.from_bytes(body[k : k + 4], "big") for k in range(4, start, 4))
    if len(body) - start != math.prod(shape):
        raise ValueError(f"{path} states {_times(shape)} values and holds {len(body) - start}; fetch it again")
    return np.frombuffer(body, dtype=np.uint8, offset=start).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape[:4])) + (" and more" if len(shape) > 4 else "")
