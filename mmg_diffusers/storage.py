"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"


def write_whole(path: Path, body: bytes) -> None:
    """Write a file under another name and rename it into place when it is complete and on the disk.

    Raises:
        OSError: when it cannot be written; what stood there before is untouched, and nothing is left behind.
    """
    _write(path, body, os.replace)


def create_whole(path: Path, body: bytes) -> bool:
    """`write_whole` where there is no such file yet; of several that try at once, one does.

    Returns:
        whether it was this call.

    Raises:
        OSError: when it cannot be written.
    """
    try:
        _write(path, body, _put_new)
    except FileExistsError:
        return False
    return True


def _write(path: Path, body: bytes, put: Callable[[Path, Path], object]) -> None:
    # A name of its own for every writer: process ids repeat on the nodes that share a folder.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        put(partial, path)
    except BaseException:
        # What stopped the writing may stop this too; the first error is the one to tell.
        with suppress(OSError):
            partial.unlink()
        raise


def _put_new(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(partial, path)
    else:
        partial.unlink()
