"""Videos as users have them, to tensors in [0, 1], frame by frame as images are read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmg_diffusers.checks import shown
from mmg_diffusers.pairs.images import (
    IMAGE_SUFFIXES,
    ImageLike,
    Images,
    Picture,
    PictureFile,
    frame_count,
    opened,
    picture_of,
    readable,
)

VideoLike: TypeAlias = "ImageLike | Sequence[ImageLike]"
"""Frames in a list or tuple, each as an image may come; an array `(F, H, W, 3)`; a tensor `(F, 3, H, W)`; the path of a folder of
frames, or of an animation (gif, webp, apng). One image is a video of one frame."""

_ANIMATED = (".gif", ".webp", ".apng")
_FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


def list_videos(videos: VideoLike | Sequence[VideoLike]) -> list[VideoLike]:
    """One video, a batch in one array `(N, F, H, W, 3)` or tensor `(N, F, 3, H, W)`, or a sequence, as a list of single videos.

    A list of single images is one video, and so is an array of 4 dimensions.

    Raises:
        TypeError: for something that holds no videos.
        ValueError: when there are none, or some are single images and some are not.
    """
    if isinstance(videos, Images):
        return list(videos)
    if isinstance(videos, (Image.Image, str, Path, Picture, PictureFile)):
        return [videos]
    if not isinstance(videos, (Sequence, np.ndarray, Tensor)) or isinstance(videos, bytes):
        raise TypeError(
            f"videos is a {type(videos).__name__}; expected a video (a list of its frames), or a list, array or tensor of videos"
        )
    if isinstance(videos, (np.ndarray, Tensor)):
        if videos.ndim in (3, 4):
            return [videos]
        if videos.ndim != 5:
            raise ValueError(f"an array of videos has 4 or 5 dimensions, got shape {tuple(videos.shape)}")
        if not len(videos):
            raise ValueError("no videos were given; expected at least one")
        return list(videos)
    each: list[Any] = list(videos)
    if not each:
        raise ValueError("no videos were given; expected at least one")
    single = [_is_single(one) for one in each]
    if all(single):
        return [each]
    if any(single):
        raise ValueError(
            f"the list of videos holds a single image ({single.index(True)}) beside others that are videos "
            f"({single.index(False)}); give each as a list of its frames, [image] for a video of one"
        )
    return each


def _is_single(one: Any) -> bool:
    """Whether an entry of a list is a single image, so that the list may be a video's frames."""
    if isinstance(one, Image.Image):
        with suppress(Exception):  # of a damaged file, which reading it will say
            return frame_count(one) == 1
        return True
    if isinstance(one, (np.ndarray, Tensor)):
        return one.ndim < 4
    if isinstance(one, Picture):
        return one.pixels.ndim < 4
    if isinstance(one, (str, Path, PictureFile)):
        path = one.path if isinstance(one, PictureFile) else str(one)
        return Path(path).suffix.lower() not in (*_ANIMATED, *_FILMS) and not os.path.isdir(path)
    return not isinstance(one, (list, tuple))


def read_video(video: VideoLike, place: int = 0) -> Picture:
    """One video as it is measured, `(F, 3, H, W)`; each frame is read as `read_picture` reads an image.

    Args:
        video: however it comes.
        place: its place in the user's list, by which messages call it.

    Raises:
        ValueError: for no frames, frames of different sizes, and as `read_picture` does.
        FileNotFoundError: for a path that does not exist.
        OSError: for a file that cannot be read now.
        TypeError: for something that is no video.
    """
    where = f"video {place}"
    if isinstance(video, Picture):
        pixels = video.pixels
        return video if pixels.ndim == 4 else Picture(pixels[None], video.remarks, video.name)
    if isinstance(video, (str, Path, PictureFile)):
        file = video if isinstance(video, PictureFile) else PictureFile(str(video))
        return (
            _of_folder(Path(file.path), where)
            if file.body is None and os.path.isdir(file.path)
            else _of_file(file, where)
        )
    if isinstance(video, Image.Image):
        name = str(getattr(video, "filename", "") or "")
        return _joined(_frames(video, where) or [video], where, name)
    if isinstance(video, (np.ndarray, Tensor)):
        if video.ndim not in (3, 4):
            wanted = "(F, 3, H, W)" if isinstance(video, Tensor) else "(F, H, W, 3)"
            raise ValueError(f"{where} has shape {tuple(video.shape)}; expected {wanted}")
        return _joined([video] if video.ndim == 3 else list(video), where)
    if isinstance(video, (list, tuple)):
        return _joined(video, where)
    raise TypeError(f"{where} is a {type(video).__name__}; expected a list of frames, an array, a tensor or a path")


def _joined(frames: Sequence[ImageLike], where: str, name: str = "") -> Picture:
    """Frames as one video."""
    if not len(frames):
        raise ValueError(f"{where} has no frames; expected at least one")
    read = [picture_of(frame, f"frame {k} of {where}") for k, frame in enumerate(frames)]
    first = tuple(read[0].pixels.shape[1:])
    for k, picture in enumerate(read):
        size = tuple(picture.pixels.shape[1:])
        if size != first:
            raise ValueError(
                f"frame {k} of {where} is {size[0]} x {size[1]}, and its first is {first[0]} x {first[1]}; bring all to one size"
            )
    remarks = tuple(dict.fromkeys(remark for picture in read for remark in picture.remarks))
    return Picture(torch.stack([picture.pixels for picture in read]), remarks, name)


def _frames(image: Image.Image, where: str) -> list[ImageLike]:
    """The frames of an animation, each as it is shown; none of a picture that is no animation."""
    frames: list[ImageLike] = []
    with readable(where):
        count, at = frame_count(image), image.tell()
        if count > 1:
            for k in range(count):
                image.seek(k)
                frames.append(image.copy())
            image.seek(at)
    return frames


def _of_file(file: PictureFile, where: str) -> Picture:
    if Path(file.path).suffix.lower() in _FILMS:
        raise ValueError(
            f"{where} ({file.path}) is a film, which this library does not decode; read its frames first, as with "
            "diffusers.utils.load_video, and choose as many as are measured"
        )
    with opened(file, where) as (image, name):
        return _joined(_frames(image, name) or [file], name, file.path)


def _of_folder(folder: Path, where: str) -> Picture:
    """The frames in a folder in the order of their names, numbers in them read as numbers."""
    names = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    if not names:
        raise ValueError(f"{where} ({shown(str(folder))}) is a folder without pictures; expected the frames of a video")
    return _joined(sorted(names, key=_in_order), f"{where} ({folder})", str(folder))


def _in_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], path.name
