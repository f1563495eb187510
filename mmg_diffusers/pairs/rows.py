"""One pair of a source, and what distinguishes it from others."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import isdir
from pathlib import Path
from typing import Any, NamedTuple, cast

from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pairs.images import ImageLike, Picture, PictureFile, read_picture
from mmg_diffusers.pairs.prompts import check_caption, check_text
from mmg_diffusers.pairs.videos import VideoLike, read_video


@dataclass(frozen=True)
class Unusable:
    """In place of an image: why the row can have none."""

    why: str
    path: str = ""


class Label(NamedTuple):
    """What distinguishes a pair from others: the path of its image, its texts, and the digest of its picture, empty if that is not known."""

    image: str
    prompt: str
    given: str | None
    digest: str

    def matches(self, other: Label) -> bool:
        """Whether the two are one pair, wherever its files lie: by the content of the picture if both know it, else by name."""
        if self.digest and other.digest:
            return self.same_texts(other) and self.digest == other.digest
        return self.same_texts(other) and self.same_name(other)

    def same_texts(self, other: Label) -> bool:
        """Whether prompt and context agree."""
        return (self.prompt, self.given) == (other.prompt, other.given)

    def same_name(self, other: Label) -> bool:
        """Whether the files are called the same, in whatever folder they are."""
        return Path(self.image).name == Path(other.image).name


class Row(NamedTuple):
    """One pair: its place in the source names its noise."""

    place: int
    image: VideoLike | Unusable
    prompt: str
    given: str | None

    def picture(self) -> VideoLike:
        """The image, as `read_picture` takes it, or the video, as `read_video` does.

        Raises:
            ValueError: for a row that can have none.
        """
        if isinstance(self.image, Unusable):
            raise ValueError(self.image.why)
        return self.image

    def check(self) -> None:
        """Refuse a row that is no pair.

        Raises:
            ValueError: without an image, or with an empty prompt.
            TypeError: for texts that are none.
        """
        self.picture()
        check_caption(self.prompt, "the prompt")
        if self.given is not None:
            check_text(self.given, "the context")

    def held(self) -> Row:
        """The same with its picture in memory, so that what is compared is what is measured; without, if it cannot be read."""
        image = self.image
        try:
            if isinstance(image, (str, Path, PictureFile)):
                file = image if isinstance(image, PictureFile) else PictureFile(str(image))
                if file.body is None and isdir(file.path):  # the frames of a video
                    return self._replace(image=read_video(file.path))
                return self._replace(image=file.read())
            if isinstance(image, Unusable):
                return self
            read = read_video(image) if _has_frames(image) else read_picture(cast("ImageLike", image))
            return self._replace(image=read)
        except (OSError, ValueError, TypeError):  # which measuring it will say
            return self

    def readable(self) -> bool:
        """Whether the picture's file could be read just now."""
        image = self.held().image
        return not isinstance(image, (str, Path)) and not (isinstance(image, PictureFile) and image.body is None)

    def label(self) -> Label:
        """The pair without its pixels."""
        given = None if self.given is None else str(self.given)
        image = self.held().image
        return Label(_name(image), str(self.prompt), given, _digest(image))


def _has_frames(image: Any) -> bool:
    """Whether something in memory is a video: a list of frames, or an array of them."""
    return isinstance(image, (list, tuple)) or getattr(image, "ndim", 3) == 4


def _name(image: object) -> str:
    if isinstance(image, (str, Path)):
        return str(image)
    if isinstance(image, (PictureFile, Unusable)):
        return image.path
    return image.name if isinstance(image, Picture) else str(getattr(image, "filename", "") or "")


def _digest(image: object) -> str:
    if isinstance(image, Picture) or (isinstance(image, PictureFile) and image.body is not None):
        return image.identity().digest
    try:  # what cannot be measured can still be compared with what takes its place
        return Identity.of(image).digest if not isinstance(image, (str, Path)) else ""
    except TypeError:
        return ""
