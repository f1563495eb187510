"""Folders of pictures, with captions in text files beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmg_diffusers.checks import reason, shown
from mmg_diffusers.files.text import read_text
from mmg_diffusers.pairs.images import IMAGE_SUFFIXES

# What text files beside pictures end with.
CAPTION_SUFFIXES = (".txt", ".caption")


@dataclass(frozen=True)
class Folder:
    """The pictures of a folder and of its sub-folders, sorted by their paths.

    Args:
        path: of the folder.
        names: of the pictures, relative to it.
        others: files that are no pictures.
        hidden: what is hidden, or a link to a folder.
    """

    path: Path
    names: Sequence[Path]
    others: Sequence[Path]
    hidden: Sequence[Path]

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Look through a folder.

        Raises:
            OSError: if it cannot be read.
        """

        def refuse(error: OSError) -> None:
            raise error

        names: list[Path] = []
        hidden: list[Path] = []
        others: list[Path] = []
        for place, folders, files in os.walk(path, onerror=refuse):
            inner = Path(place).relative_to(path)
            # Folders that are links are not gone into, which might lead anywhere.
            linked = [name for name in folders if _hides(name) or (Path(place) / name).is_symlink()]
            folders[:] = [name for name in folders if name not in linked]
            for name in [*files, *linked]:
                kept = hidden if _hides(name) else names if Path(name).suffix.lower() in IMAGE_SUFFIXES else others
                kept.append(inner / name)
        return cls(path, sorted(names, key=lambda name: name.parts), others, hidden)

    def captions(self) -> tuple[list[str], dict[int, str]] | None:
        """The captions in text files beside the pictures, and what is wrong with them by place; ``None`` if there are no such files."""
        beside = {name.with_suffix(""): name for name in self.others if name.suffix.lower() in CAPTION_SUFFIXES}
        if not any(name.with_suffix("") in beside for name in self.names):
            return None
        texts: list[str] = []
        faults: dict[int, str] = {}
        for place, name in enumerate(self.names):
            file = beside.get(name.with_suffix(""))
            texts.append("")
            if file is None:
                faults[place] = (
                    f"there is no {name.with_suffix(CAPTION_SUFFIXES[0])} beside {name}; write its caption there"
                )
                continue
            try:
                inside(self.path, str(file), f"the folder {self.path}")
                texts[place] = " ".join(read_text(self.path / file).split())
            except (OSError, ValueError) as error:
                faults[place] = f"the caption of {name} cannot be read: {reason(error)}"
                continue
            if not texts[place]:
                faults[place] = f"{file} is empty; write the caption of {name} there"
        return texts, faults

    def faults(self) -> dict[int, str]:
        """Pictures that lie elsewhere, by their places."""
        faults: dict[int, str] = {}
        for place, name in enumerate(self.names):
            try:
                inside(self.path, str(name), f"the folder {self.path}")
            except ValueError as error:
                faults[place] = str(error)
        return faults

    def notes(self, captioned: bool) -> tuple[str, ...]:
        """What the reader of a record is told of the folder.

        Args:
            captioned: whether the text files beside pictures were read.
        """
        deep = sum(len(name.parts) > 1 for name in self.names)
        notes = [f"{deep} of the {len(self.names)} pictures in {self.path} lie in its sub-folders"] if deep else []
        pictures = {name.with_suffix("") for name in self.names}
        others = [
            name
            for name in self.others
            if not (captioned and name.suffix.lower() in CAPTION_SUFFIXES and name.with_suffix("") in pictures)
        ]
        for what, left_out in (("hidden", self.hidden), ("no pictures by their ending", others)):
            if left_out:
                notes.append(
                    f"of what is in {self.path}, {len(left_out)} are left out, {what} (such as {min(left_out)})"
                )
        if captioned:
            notes.append(f"the captions are those of the text files beside the pictures of {self.path}")
        return tuple(notes)


def _hides(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a Mac or Windows puts beside others."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def inside(folder: Path, name: str, who: str) -> Path:
    """The path that somebody names, which must not lead out of a folder.

    Args:
        folder: that it is relative to.
        name: of the file.
        who: names it, for the message.

    Raises:
        ValueError: for one that leads out of it, by whatever links, or that is no path.
    """
    path = folder / name
    try:
        within = bool(name) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise ValueError(f"{who} names {shown(name)}, which is no path: {reason(error)}") from error
    if not within:
        raise ValueError(f"{who} names {shown(name)}, which is not a file inside that folder; move it there")
    return path
