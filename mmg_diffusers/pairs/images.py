"""Images as users have them, to tensors in [0, 1]; anything doubtful is refused by its place in the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

ImageLike: TypeAlias = "Image.Image | NDArray[np.generic] | Tensor | str | Path"
"""A PIL image; an array `(H, W, 3)`; a tensor `(3, H, W)`; or a path. Floats lie in [0, 1], integers are uint8."""


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One image, a batch in one array or tensor, or a sequence, as a list of single images.

    Raises:
        TypeError: for something that holds no images.
        ValueError: when there are none.
    """
    if isinstance(images, (Image.Image, str, Path)):
        return [images]
    if not isinstance(images, (Sequence, np.ndarray, Tensor)) or isinstance(images, bytes):
        raise TypeError(f"images is a {type(images).__name__}; expected an image, or a list, array or tensor of images")
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim == 3:
            return [images]
        if images.ndim != 4:
            raise ValueError(f"an array of images has 3 or 4 dimensions, got shape {tuple(images.shape)}")
    found = list(images)
    if not found:
        raise ValueError("no images were given; expected at least one")
    return found


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


def _picture(image: Image.Image, where: str) -> Tensor:
    # Modes of more than 8 bits are cut off at 255 by PIL, to white.
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError(
            f"{where} has more than 8 bits a channel (mode {image.mode}); bring it to uint8, or to floats in [0, 1]"
        )
    with _readable(where):
        pixels = np.asarray(image.convert("RGB"))
    return _array(pixels, where)


def _read(path: str | Path, where: str) -> Tensor:
    try:
        found = Path(path).is_file()
    except OSError as error:
        raise ValueError(f"{where[:80]}... is no path: {error.strerror}") from error
    if not found:
        raise FileNotFoundError(f"{where}: there is no such file")
    with _readable(where):
        file = Image.open(path)
    with file:
        return _picture(file, where)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Name the file that PIL cannot read. For a damaged one, each format's reader raises what its parser happens to."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{where} cannot be read as an image: {error}") from error


def load_image(image: ImageLike, place: int = 0) -> Tensor:
    """One image as `(3, H, W)` float32 in [0, 1].

    Raises:
        ValueError: for a wrong shape or dtype, pixels that are not finite or outside [0, 1], an unreadable file.
        FileNotFoundError: for a path that does not exist.
        TypeError: for something that is no image.
    """
    where = f"image {place}"
    if isinstance(image, (str, Path)):
        name = str(image)
        tensor = _read(image, f"{where} ({name if name.isprintable() else repr(name)})")
    elif isinstance(image, Image.Image):
        tensor = _picture(image, where)
    elif isinstance(image, np.ndarray):
        tensor = _array(image, where)
    elif isinstance(image, Tensor):
        tensor = _tensor(image, where)
    else:
        raise TypeError(f"{where} is a {type(image).__name__}; expected a PIL image, numpy array, tensor or path")
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    tensor = tensor.float()
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{where} has NaN or infinite pixels; repair it or leave it out")
    low, high = float(tensor.min()), float(tensor.max())
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(
            f"{where} has pixels in [{low:.3g}, {high:.3g}]; expected [0, 1]. Divide by 255, or map [-1, 1] by (x + 1) / 2"
        )
    return tensor.clamp(0, 1)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `(3, H, W)` with Lanczos, as diffusers' image processors do."""
    picture = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    resized = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return _array(np.asarray(resized), "image").float() / 255
