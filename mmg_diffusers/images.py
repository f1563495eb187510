"""Images as users have them, to tensors in [0, 1]; anything doubtful is refused by its place in the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
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
    if image.dtype.kind not in "biufc":
        raise ValueError(f"{where} has dtype {image.dtype}; expected uint8, or floats in [0, 1]")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def load_image(image: ImageLike, place: int = 0) -> Tensor:
    """One image as `(3, H, W)` float32 in [0, 1].

    Raises:
        ValueError: for a wrong shape or dtype, pixels that are not finite or outside [0, 1], an unreadable file.
        FileNotFoundError: for a path that does not exist.
        TypeError: for something that is no image.
    """
    where = f"image {place}"
    if isinstance(image, (str, Path)):
        where = f"image {place} ({image})"
        if not Path(image).is_file():
            raise FileNotFoundError(f"{where}: there is no such file")
        try:
            with Image.open(image) as file:
                image = file.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{where} cannot be read as an image: {error}") from error
    if isinstance(image, Image.Image):
        tensor = _array(np.asarray(image.convert("RGB")), where)
    elif isinstance(image, np.ndarray):
        tensor = _array(image, where)
    elif isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise ValueError(f"{where} has shape {tuple(image.shape)}; expected a tensor (3, H, W)")
        tensor = image.detach().cpu()
    else:
        raise TypeError(f"{where} is a {type(image).__name__}; expected a PIL image, numpy array, tensor or path")
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    if not torch.is_floating_point(tensor):
        raise ValueError(f"{where} has dtype {tensor.dtype}; expected uint8, or floats in [0, 1]")
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
