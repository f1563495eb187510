"""Tables, pictures and the page itself, as HTML; everything that is text of others is escaped here."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmg_diffusers.commands.console import of_a_shell
from mmg_diffusers.commands.page.look import SCRIPT, STYLE

# Longest side of a picture, in pixels, and of one in a table.
LARGE, SMALL = 192, 80
_QUALITY = 82
# A folder of somebody's disk, and what lies in it.
_FOLDERS = re.compile(r"(?<![\w./:\\-])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\\"',;:()]+[/\\])+([^\s/\\\"',;:()]+)")


def source_of(image: Image.Image) -> str:
    """A picture as the source of an ``img``: PNG or JPEG, whichever is smaller."""
    found: list[tuple[int, str, bytes]] = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": _QUALITY})):
        if kind == "jpeg" and image.mode != "RGB":
            continue
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append((buffer.tell(), kind, buffer.getvalue()))
    _, kind, body = min(found)
    return f"data:image/{kind};base64,{base64.b64encode(body).decode()}"


def picture_of(pixels: NDArray[np.floating], most: int = LARGE) -> Image.Image:
    """Pixels `(H, W, 3)` in [0, 1] as a picture, its longer side at most so long."""
    picture = Image.fromarray((np.clip(np.asarray(pixels, dtype=float), 0, 1) * 255).round().astype(np.uint8))
    picture.thumbnail((most, most))
    return picture


def without_folders(text: str) -> str:
    """A text whose paths are the last part of themselves: a page that is handed on tells nothing of a disk."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() and len(path.parts) > 1:
            return path.name
    return _FOLDERS.sub(r"\1", text)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: what stands there; escaped, unless it is a picture.
        number: what a column is sorted by.
        picture: pixels `(H, W, 3)`, in place of the text.
    """

    text: str = ""
    number: float | None = None
    picture: NDArray[np.floating] | None = None


def number(value: float, text: str) -> Cell:
    """A number, as it is shown."""
    return Cell(text, value)


def table(
    rows: Iterable[Sequence[Cell | str]],
    head: Sequence[str],
    caption: str,
    text: Sequence[int] = (0,),
    sortable: bool = False,
) -> str:
    """A table with scopes and a caption; the first column that is text heads its row.

    Args:
        rows: of cells.
        head: names of the columns.
        caption: what the table holds.
        text: columns that are text; a column without any is numbers.
        sortable: whether the script makes buttons of its head; such a table becomes cards on a narrow screen.
    """
    header = min(text)

    def one(column: int, cell: Cell | str) -> str:
        made = cell if isinstance(cell, Cell) else Cell(str(cell))
        kind = "picture" if made.picture is not None else "text" if column in text else "value"
        tag, scope = ("th", ' scope="row"') if column == header else ("td", "")
        sort = "" if made.number is None else f' data-number="{made.number}"'
        name = f' data-name="{escape(head[column])}"' if sortable and kind == "value" else ""
        inside = escape(made.text)
        if made.picture is not None:
            # What it shows is said by its prompt, in the next cell.
            inside = f'<img class="thumb" src="{source_of(picture_of(made.picture, SMALL))}" alt="">'
        return f'<{tag}{scope} class="{kind}"{sort}{name}>{inside}</{tag}>'

    kinds = ["text" if column in text else "value" for column in range(len(head))]
    if sortable and head[0] == "image":
        kinds[0] = "picture text"
    names = "".join(
        f'<th scope="col" class="{kind}">{escape(name)}</th>' for kind, name in zip(kinds, head, strict=True)
    )
    body = "".join(f"<tr>{''.join(one(*cell) for cell in enumerate(row))}</tr>" for row in rows)
    opened = '<table class="cards">' if sortable else "<table>"
    return f"{opened}<caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def warned(texts: Sequence[str]) -> str:
    """Warnings, a paragraph each; those that weigh nothing without the mark of one."""
    kinds = ("quiet" if getattr(text, "grade", None) == "trust" else "warn" for text in texts)
    said = (escape(without_folders(of_a_shell(text))) for text in texts)
    return "".join(f'<p class="{kind}">{text}</p>' for kind, text in zip(kinds, said, strict=True))


def document(title: str, body: str) -> str:
    """A page: one file, that loads nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )
