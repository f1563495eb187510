"""What a model makes, images or videos: how it is read, how many frames it may have, and how its maps lie on its pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mmg_diffusers.analysis.maps import to_frames, to_pixels
from mmg_diffusers.checks import whole
from mmg_diffusers.pairs.images import Picture, as_list, read_picture
from mmg_diffusers.pairs.videos import list_videos, read_video


class Medium(ABC):
    """What stands beside a prompt."""

    noun: ClassVar[str]
    """What messages call one of it."""
    together: ClassVar[int]
    """How many are held in memory, and encoded, at one time."""

    @abstractmethod
    def as_list(self, given: Any) -> list[Any]:
        """What a user gave, as a list of one for each pair.

        Raises:
            TypeError, ValueError: for something that holds none.
        """

    @abstractmethod
    def read(self, one: Any, place: int = 0) -> Picture:
        """One of it as it is measured.

        Raises:
            TypeError, ValueError, OSError: for what cannot be read.
        """

    def check_frames(self, picture: Picture, place: int) -> None:
        """Raise a ValueError for a number of frames that the model does not take."""
        return None

    @abstractmethod
    def spread(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """Maps of latents on the pixels of what has a shape, as `Picture.pixels` has it, without the axis of colours."""


@dataclass(frozen=True)
class Stills(Medium):
    """Images."""

    noun = "image"
    together = 32

    def as_list(self, given: Any) -> list[Any]:
        return as_list(given)

    def read(self, one: Any, place: int = 0) -> Picture:
        return read_picture(one, place)

    def spread(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """`(N, h, w)` to `(N, H, W)`."""
        return to_pixels(maps, (shape[-2], shape[-1]))


@dataclass(frozen=True)
class Videos(Medium):
    """Videos, of whose pictures the first makes a latent by itself, and then every `group` of them do.

    Args:
        group: pictures of a latent after the first.
        taken: latents along time that the network takes together.
        only: the one number of frames, for a network that knows no other.
    """

    group: int
    taken: int = 1
    only: int | None = None
    noun = "video"
    together = 4

    def __post_init__(self) -> None:
        whole(self.group, "group", 1)
        whole(self.taken, "taken", 1)

    def as_list(self, given: Any) -> list[Any]:
        return list_videos(given)

    def read(self, one: Any, place: int = 0) -> Picture:
        return read_video(one, place)

    def pictures(self, frames: int) -> list[int]:
        """How many pictures each latent of a video is made of."""
        return [1] + [self.group] * ((frames - 1) // self.group)

    def takes(self, frames: int) -> bool:
        """Whether a video may have so many frames."""
        fits = (frames - 1) % self.group == 0 and len(self.pictures(frames)) % self.taken == 0
        return fits and self.only in (None, frames)

    @property
    def said(self) -> str:
        """Which numbers of frames there may be, in words."""
        if self.only is not None:
            return f"{self.only} frames"
        first = (self.taken - 1) * self.group + 1
        step = self.taken * self.group
        return f"{first}, {first + step}, {first + 2 * step} ... frames"

    def check_frames(self, picture: Picture, place: int) -> None:
        frames = len(picture.pixels)
        if self.takes(frames):
            return
        step = self.taken * self.group
        near = [count for count in range(max(1, frames - step), frames + step) if self.takes(count)]
        nearest = f" Nearest are {' and '.join(map(str, near))}." if self.only is None else ""
        raise ValueError(
            f"video {place} has {frames} frames; this model takes {self.said}.{nearest} Cut it, or leave some of its frames out; a "
            "list of single images is one video, [[image], [image]] are two of one frame"
        )

    def spread(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """`(N, T, h, w)` to `(N, F, H, W)`."""
        return to_frames(to_pixels(maps, (shape[-2], shape[-1])), self.pictures(shape[0]))
