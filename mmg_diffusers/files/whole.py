"""Files that are whole or not there, and folders whose results belong together."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmg_diffusers.checks import shown
from mmg_diffusers.files.text import read_json

PARTIAL = ".partial"


def write_whole(path: Path, body: bytes) -> None:
    """Write a file under another name and rename it into place when it is complete and on the disk.

    Raises:
        OSError: when it cannot be written; what stood there before is untouched, and nothing is left behind.
    """
    _write(path, body, _put_over)


def create_whole(path: Path, body: bytes) -> bool:
    """`write_whole` if there is no such file yet; of several that try at once, one does.

    Returns:
        whether it was this call.

    Raises:
        OSError: when it cannot be written.
    """
    return _write(path, body, _put_new)


def _write(path: Path, body: bytes, put: Callable[[Path, Path], bool]) -> bool:
    # Every writer has another name: process ids repeat on the nodes that share a folder.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        return put(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path} ({error.strerror or error})") from error
    finally:
        # What stopped the writing may stop this too; the first error is the one to tell.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _put_over(partial: Path, path: Path) -> bool:
    os.replace(partial, path)
    return True


def _put_new(partial: Path, path: Path) -> bool:
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        os.replace(partial, path)
    return True


def check_writable(folder: Path) -> None:
    """Find out whether a folder can be made and written to, before the work whose results it is to hold.

    Raises:
        OSError: when it cannot.
    """
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
                raise OSError(f"cannot write to {folder} ({place} is no folder that can be written to); choose another")
            return


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep a folder for the results of some settings, so that no others are mixed in; any process may ask, at any time.

    Args:
        folder: made if it does not exist; it gets a ``settings.json``.
        settings: what the results depend on, by name.

    Raises:
        ValueError: when the folder belongs to other settings.
        OSError: when it cannot be written to.
    """
    stamp, asked = folder / "settings.json", json.dumps(dict(settings), sort_keys=True, indent=1, default=str)
    if not stamp.exists() and create_whole(stamp, asked.encode()):
        return
    differ = _difference(stamp, json.loads(asked))
    if differ:
        raise ValueError(
            f"{folder} belongs to a run with other settings ({'; '.join(differ)}); its numbers are not mixed with others. "
            "Choose another folder, or remove this one."
        )


def _difference(stamp: Path, now: Mapping[str, Any]) -> list[str]:
    """What a stamp says otherwise, in words; a setting that is missing is ``None``."""
    try:
        there = read_json(stamp)
    except ValueError:
        there = None
    if not isinstance(there, dict):
        return ["its settings.json is damaged"]
    keys = sorted(key for key in {**there, **now} if there.get(key) != now.get(key))
    return [f"{key}: {shown(there.get(key))} there, {shown(now.get(key))} now" for key in keys[:4]]
