"""Images as users have them, to tensors in [0, 1]; anything doubtful is refused by its place in the list.

However an image comes in, it goes through `read_picture`: turned upright by its EXIF orientation, transparent pixels laid on white.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mmg_diffusers.checks import needs, reason, shown
from mmg_diffusers.files.identity import Identity

LAID_ON_WHITE = "transparent pixels are laid on white"
ONE_FRAME = "of images with several frames one is measured, the first unless another was chosen"
WITHOUT_PROFILE = "CMYK images are brought to RGB without a colour profile"
SIXTEEN_BITS = "images of 16 bits a channel are brought to 8"
NEARLY_BLACK = "an image is nearly black: no pixel of it is above a tenth of white; was it divided by 255 twice?"
_DARK = 0.1
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_ORIENTATION = 0x0112
# What turns a picture upright, by the orientation that its EXIF data tell.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """An image as it is measured.

    Args:
        pixels: `(3, H, W)` float32 in [0, 1]; `(F, 3, H, W)` of a video.
        remarks: what was done to it, for the notes of the record; the same words for every image it holds of.
        name: the path of its file, if that is known.
    """

    pixels: Tensor
    remarks: tuple[str, ...] = ()
    name: str = ""

    def identity(self) -> Identity:
        """The digest of its pixels."""
        return Identity.of(self.pixels)


@dataclass(frozen=True)
class PictureFile:
    """A picture as its file keeps it, decoded when its pair is measured.

    Args:
        path: where the file lies, or lay; empty if that is not known.
        body: the file's bytes; ``None`` while they are still to be read from the path.
        mode: the PIL mode that a data set wants its pictures in; grey ones for ``"L"``.
        remote: whether the path is one of `datasets`, which may lie in an archive or on the hub.
    """

    path: str
    body: bytes | None = field(default=None, repr=False)
    mode: str | None = None
    remote: bool = False

    def read(self) -> PictureFile:
        """The same with its bytes.

        Raises:
            FileNotFoundError: when there is no such file.
            OSError: when it cannot be read.
            ValueError: for a path that no file can have.
        """
        if self.body is not None:
            return self
        away = self.remote and "://" in self.path
        return replace(self, body=_fetch(self.path) if away else _read(self.path))

    def identity(self) -> Identity:
        """The digest of the file's bytes, the same as `Identity.of_file`.

        Raises:
            OSError, ValueError: as `read` does.
        """
        body = self.read().body
        assert body is not None
        return Identity.of(body)


ImageLike: TypeAlias = "Image.Image | NDArray[np.generic] | Tensor | str | Path | Picture | PictureFile"
"""A PIL image; an array `(H, W, 3)`; a tensor `(3, H, W)`; a path. Floats lie in [0, 1], integers are uint8."""


class Images(list[Any]):
    """One image, or one video, for each pair, with notes for the reader of the record, and the identity of each."""

    def __init__(self, images: Sequence[Any], notes: tuple[str, ...] = (), digests: tuple[str, ...] = ()) -> None:
        super().__init__(images)
        self.notes, self.digests = notes, digests

    def __getitem__(self, place: Any) -> Any:
        """One of them; several stay one for each pair."""
        found = super().__getitem__(place)
        return Images(found, self.notes) if isinstance(place, slice) else found


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One image, a batch in one array or tensor, or a sequence, as a list of single images.

    Raises:
        TypeError: for something that holds no images.
        ValueError: when there are none.
    """
    if isinstance(images, (Image.Image, str, Path, Picture, PictureFile)):
        return [images]
    if not isinstance(images, (Sequence, np.ndarray, Tensor)) or isinstance(images, bytes):
        raise TypeError(f"images is a {type(images).__name__}; expected an image, or a list, array or tensor of images")
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim == 3:
            return [images]
        if images.ndim != 4:
            raise ValueError(f"an array of images has 3 or 4 dimensions, got shape {tuple(images.shape)}")
    each = list(images)
    if not each:
        raise ValueError("no images were given; expected at least one")
    return each


def _array(image: NDArray[np.generic], where: str) -> Tensor:
    if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise ValueError(f"{where} has shape {image.shape}; expected a numpy array (H, W, 3)")
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(f"{where} has dtype {image.dtype}; expected uint8, or floats in [0, 1]")
    if np.ma.is_masked(image):
        raise ValueError(f"{where} has masked pixels; fill them in, or leave the image out")
    # Floats of any width and byte order, as ones that torch knows.
    with np.errstate(over="ignore"):  # to infinity, which is refused
        known = np.array(image, dtype=np.uint8 if image.dtype == np.uint8 else np.float32)
    return torch.from_numpy(known).permute(2, 0, 1)


def _tensor(image: Tensor, where: str) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(f"{where} has shape {tuple(image.shape)}; expected a tensor (3, H, W)")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"{where} has dtype {image.dtype}; expected uint8, or floats in [0, 1]")
    if image.layout != torch.strided or image.is_meta:
        raise ValueError(
            f"{where} is a tensor of {image.layout} on {image.device}; expected a dense one with its pixels"
        )
    return image.detach().cpu()


# ---- pictures of PIL ----


def _decoded(image: Image.Image, where: str, mode: str | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """A picture upright, on white and in RGB, and what is to be said of that."""
    # Modes of more bits are cut off at 255 by PIL, to white; only of 16 it is known which number is white.
    if image.mode in ("F", "I"):
        raise ValueError(
            f"{where} has more than 16 bits a channel (mode {image.mode}); bring it to uint8, or to floats in [0, 1]"
        )
    with readable(where):
        image.load()
        remarks = [ONE_FRAME] if frame_count(image) > 1 else []
        remarks += [WITHOUT_PROFILE] if image.mode == "CMYK" else []
        turn = _TURNS.get(_orientation(image))
        if image.mode.startswith("I;16"):
            remarks.append(SIXTEEN_BITS)
            wide = np.asarray(image).astype(np.uint32)
            image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
        upright = image if turn is None else image.transpose(turn)
        pixels, see_through = _on_white(upright)
        remarks += [LAID_ON_WHITE] if see_through else []
        if mode not in (None, "RGB", "RGBA") and pixels.size:
            pixels = np.asarray(Image.fromarray(pixels).convert(mode).convert("RGB"))
    return _array(pixels, where), tuple(remarks)


def frame_count(image: Image.Image) -> int:
    """Frames of a picture of PIL. Those of an .mpo are other pictures beside the one that a phone shows."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _orientation(image: Image.Image) -> int:
    """The orientation in a picture's EXIF data; 1, upright, if they have none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of kinds that depend on how the data are damaged; the pixels are read all the same
        return 1


def _on_white(image: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """RGB pixels `(H, W, 3)`, and whether some of them let the ground through, which is white."""
    alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if not alpha and not (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        return np.asarray(image.convert("RGB")), False
    whole = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    pixels = np.asarray(whole).astype(np.uint16)
    colour, cover = pixels[..., :3], pixels[..., 3:]
    laid = (colour * cover + 255 * (255 - cover) + 127) // 255
    return laid.astype(np.uint8), bool((cover < 255).any())


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Name the image that PIL cannot read. For a damaged one, each format's reader raises what its parser happens to."""
    try:
        yield
    except UnidentifiedImageError as error:  # PIL names the file, which is one in memory here
        raise ValueError(f"{where} cannot be read as an image: its bytes are of no format that PIL knows") from error
    except Exception as error:
        raise ValueError(f"{where} cannot be read as an image: {reason(error)}") from error


# ---- files ----


def _read(path: str | Path) -> bytes:
    """The bytes of a file; of what keeps it from being read, only what is wrong with the path itself is a ValueError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError(errno.ENOENT, "there is no such file")
        return Path(path).read_bytes()
    except ValueError as error:  # a null byte
        raise FileNotFoundError(errno.ENOENT, "there is no such file") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"this is no path: {error.strerror}") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise FileNotFoundError(errno.ENOENT, "there is no such file") from error
        raise


def _fetch(address: str) -> bytes:
    """The bytes of a file in an archive or on the hub, as `datasets` names them."""
    needs("datasets", "data")
    from datasets.utils.file_utils import xopen

    try:
        with xopen(address, "rb") as file:
            return file.read()
    except Exception as error:  # of the many libraries that bring it
        raise OSError(f"{shown(address)} cannot be fetched: {reason(error)}") from error


@contextmanager
def opened(file: PictureFile, where: str) -> Iterator[tuple[Image.Image, str]]:
    """A picture's file, open and not decoded, and how messages call it.

    Raises:
        ValueError, OSError: as `read_picture` does.
    """
    name = file.path if file.path.isprintable() else repr(file.path)
    where = f"{where} ({name if len(name) <= 200 else shown(name)})" if name else where
    try:
        body = file.read().body
    except FileNotFoundError as error:
        there = "this is a folder" if os.path.isdir(file.path) else "there is no such file"
        raise FileNotFoundError(f"{where}: {there}; expected an image") from error
    except OSError as error:
        raise OSError(error.errno, f"{where} cannot be read: {error.strerror or reason(error)}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    assert body is not None
    with readable(where):
        picture = Image.open(io.BytesIO(body))
    with picture:
        yield picture, where


def _from_file(file: PictureFile, where: str) -> Picture:
    with opened(file, where) as (picture, name):
        pixels, remarks = _decoded(picture, name, file.mode)
    return _picture(pixels.float() / 255, remarks, file.path)


def _picture(pixels: Tensor, remarks: tuple[str, ...], name: str) -> Picture:
    """Pixels in [0, 1], remarked on if next to nothing can be seen."""
    return Picture(pixels, (*remarks, NEARLY_BLACK) if float(pixels.max()) < _DARK else remarks, name)


# ---- the one way in ----


def read_picture(image: ImageLike, place: int = 0) -> Picture:
    """One image as it is measured: upright by its EXIF orientation, as diffusers' own ``load_image`` turns it, with transparent
    pixels laid on white.

    Args:
        image: however it comes.
        place: its place in the user's list, by which messages call it.

    Raises:
        ValueError: for a wrong shape or dtype, pixels that are not finite or outside [0, 1], a file that is no picture.
        FileNotFoundError: for a path that does not exist.
        OSError: for a file that cannot be read now.
        TypeError: for something that is no image.
    """
    return picture_of(image, f"image {place}")


def picture_of(image: ImageLike, where: str) -> Picture:
    """`read_picture` for an image that messages call by other words.

    Raises:
        ValueError, OSError, TypeError: as `read_picture` does.
    """
    if isinstance(image, Picture):
        if image.pixels.ndim != 3:
            raise ValueError(
                f"{where} is a video of {len(image.pixels)} frames; expected one image, such as one of them"
            )
        return image
    if isinstance(image, (list, tuple)):
        raise TypeError(f"{where} is a {type(image).__name__} of {len(image)}, as a video is; expected one image")
    if isinstance(image, PictureFile):
        return _from_file(image, where)
    if isinstance(image, (str, Path)):
        return _from_file(PictureFile(str(image)), where)
    remarks: tuple[str, ...] = ()
    if isinstance(image, Image.Image):
        tensor, remarks = _decoded(image, where)
    elif isinstance(image, np.ndarray):
        tensor = _array(image, where)
    elif isinstance(image, Tensor):
        tensor = _tensor(image, where)
    else:
        raise TypeError(f"{where} is a {type(image).__name__}; expected a PIL image, numpy array, tensor or path")
    name = str(getattr(image, "filename", "") or "")
    if tensor.dtype == torch.uint8:
        return _picture(tensor.float() / 255, remarks, name)
    tensor = tensor.float()
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{where} has NaN or infinite pixels; repair it or leave it out")
    low, high = float(tensor.min()), float(tensor.max())
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(
            f"{where} has pixels in [{low:.3g}, {high:.3g}]; expected [0, 1]. Divide by 255, or map [-1, 1] by (x + 1) / 2"
        )
    return _picture(tensor.clamp(0, 1), remarks, name)


def load_image(image: ImageLike, place: int = 0) -> Tensor:
    """The pixels of `read_picture`, `(3, H, W)` float32 in [0, 1].

    Raises:
        ValueError, OSError, TypeError: as `read_picture` does.
    """
    return read_picture(image, place).pixels


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `(3, H, W)`, or frames `(F, 3, H, W)`, with Lanczos, as diffusers' image processors do."""
    if image.ndim == 4:
        return torch.stack([resize(frame, size) for frame in image])
    picture = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    resized = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return _array(np.asarray(resized), "image").float() / 255
