"""Text files, read in one way everywhere: UTF-8 unless a mark at the beginning says otherwise, lines at line breaks alone."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from mmg_diffusers.checks import file_path

# Marks at the beginning of a file, the longest first: that of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BREAK = re.compile(r"\r\n|\n|\r")


def read_text(path: str | Path) -> str:
    """The text of a file: UTF-8, with or without a byte order mark; UTF-16 and UTF-32 with one, as Notepad saves them.

    Raises:
        ValueError: for bytes that are no text; says which.
        OSError: when the file cannot be read.
    """
    path = file_path(path, "the file")
    return decode(path.read_bytes(), str(path))


def decode(body: bytes, name: str) -> str:
    """The text of a file's bytes, as `read_text` reads them.

    Args:
        body: of the file.
        name: what messages call it.

    Raises:
        ValueError: for bytes that are no text; says which.
    """
    encoding = next((encoding for mark, encoding in _MARKS if body.startswith(mark)), "utf-8")
    kind = encoding.removesuffix("-sig").upper()
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_BREAK.findall(body[: error.start].decode(encoding, "replace"))) + 1
        raise ValueError(
            f"{name} is no text in {kind}: byte {error.start}, in line {line}, is 0x{body[error.start]:02x} "
            f"({error.reason}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(
            f"{name} is no text in {kind}: character {text.index(chr(0))} is a null character; save it as UTF-8"
        )
    return text


def lines_of(text: str) -> list[str]:
    r"""The lines of a text, split at ``\n``, ``\r\n`` and ``\r`` alone.

    `str.splitlines` splits at U+2028, U+0085 and others as well, which stand inside of captions and of JSON.
    """
    lines = _BREAK.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file.

    Raises:
        ValueError, OSError: as `read_text` does.
    """
    return lines_of(read_text(path))


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: for text that is no JSON, or as `read_text` does.
        OSError: when the file cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
