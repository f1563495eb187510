"""Maps of information: from latent pixels to image pixels, nothing lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown, whole


def _overlap(cells: int, pixels: int) -> Tensor:
    """`(pixels, cells)` share of each cell that lies in each pixel, along one axis; columns sum to 1."""
    edges = torch.arange(pixels + 1, dtype=torch.float64) * (cells / pixels)
    low, high = edges[:-1, None], edges[1:, None]
    cell = torch.arange(cells, dtype=torch.float64)
    return (torch.minimum(high, cell + 1) - torch.maximum(low, cell)).clamp(min=0)


def _tent(cells: int, pixels: int) -> Tensor:
    """`(pixels, cells)` share of each cell that falls to each pixel, along one axis, in proportion to how linear
    interpolation between the cells' centres weighs it; columns sum to 1.
    """  # fmt: skip
    if pixels < cells:
        return _overlap(cells, pixels)
    place = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * (cells / pixels) - 0.5).clamp(0, cells - 1)
    weight = (1 - (place[:, None] - torch.arange(cells, dtype=torch.float64)).abs()).clamp(min=0)
    return weight / weight.sum(0)


def to_pixels(maps: Tensor, size: tuple[int, int], spread: Literal["linear", "even"] = "linear") -> Tensor:
    """Spread maps over image pixels; every map keeps its total.

    Args:
        maps: `(..., h, w)` nats per latent pixel; or their standard errors, which are then right where neighbours err
            together, and on the large side otherwise.
        size: height and width of the image, whose sides the latent's correspond to.
        spread: ``"linear"``: a latent pixel's value falls off from its centre to its neighbours' centres, since what it
            speaks of does not end at its edges; ``"even"``: evenly over the pixels that it covers.

    Returns:
        `(..., H, W)` float64 nats per pixel.

    Raises:
        TypeError: for maps other than a tensor, or a size that is not of whole numbers.
        ValueError: for maps without two axes or with values that are not finite, a size below 1, or another spread.
    """
    of_type(maps, Tensor, "maps", "a tensor (..., h, w)")
    of_type(size, (tuple, list, torch.Size), "size", "the height and width of an image")
    if len(size) != 2:
        raise ValueError(f"size is {size}; expected the height and width of an image")
    for side in size:
        whole(side, "a side of size", 1)
    if maps.ndim < 2 or not bool(maps.isfinite().all()):
        raise ValueError(f"expected maps (..., h, w) of finite numbers, got shape {tuple(maps.shape)}")
    if spread not in ("linear", "even"):
        raise ValueError(f"spread is {shown(spread)}; expected 'linear' or 'even'")
    share = _tent if spread == "linear" else _overlap
    rows, columns = share(maps.shape[-2], size[0]), share(maps.shape[-1], size[1])
    return rows @ maps.double() @ columns.T


def to_frames(maps: Tensor, pictures: Sequence[int]) -> Tensor:
    """Spread maps of a video's latents over its pictures, evenly over those that a latent was made of; totals are kept.

    Args:
        maps: `(..., T, h, w)` nats, or their standard errors.
        pictures: how many each of the T latents was made of, in their order; (1, 4, 4) for 9 pictures of Wan.

    Returns:
        `(..., F, h, w)` float64, F pictures in all.

    Raises:
        TypeError: for maps other than a tensor, or counts that are no whole numbers.
        ValueError: for maps without three axes or of another number of latents, and for a count below 1.
    """
    of_type(maps, Tensor, "maps", "a tensor (..., T, h, w)")
    for count in pictures:
        whole(count, "a number of pictures", 1)
    if maps.ndim < 3 or maps.shape[-3] != len(pictures):
        raise ValueError(f"expected maps (..., {len(pictures)}, h, w), got shape {tuple(maps.shape)}")
    counts = torch.tensor(pictures, device=maps.device)
    return (maps.double() / counts[:, None, None]).repeat_interleave(counts, -3)


def _need_booleans(mask: Tensor) -> None:
    of_type(mask, Tensor, "mask", "a tensor of booleans")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}; expected booleans, such as mask > 0.5")


def dilate(mask: Tensor, reach: int) -> Tensor:
    """`(..., H, W)` booleans, grown by `reach` pixels to every side, corners included.

    Raises:
        TypeError: for a mask that is not of booleans.
        ValueError: for a negative reach.
    """
    _need_booleans(mask)
    if whole(reach, "reach", 0) == 0:
        return mask
    grown = torch.nn.functional.max_pool2d(mask.float().flatten(0, -3)[None], 2 * reach + 1, stride=1, padding=reach)
    return grown[0].view(mask.shape) > 0.5


def auroc(maps: Tensor, mask: Tensor) -> Tensor:
    """How well a map tells inside from outside: the chance that a pixel inside is above one outside, ties half.

    Args:
        maps: `(N, H, W)`.
        mask: `(N, H, W)` booleans.

    Returns:
        `(N,)` float64, 0.5 for a map that tells nothing.

    Raises:
        TypeError: for a mask that is not of booleans.
        ValueError: for a mask that is empty or full somewhere, or not of the maps' shape, or maps that are not finite.
    """
    _need_booleans(mask)
    if maps.ndim < 2 or maps.shape != mask.shape or not bool(maps.isfinite().all()):
        raise ValueError(
            f"expected finite maps and a mask of one shape, got {tuple(maps.shape)} and {tuple(mask.shape)}"
        )
    values, inside = maps.double().flatten(1), mask.flatten(1)
    count = inside.sum(1)
    if bool((count == 0).any()) or bool((count == inside.shape[1]).any()):
        raise ValueError("a mask is empty or full, so that there is no inside and outside to tell apart")
    areas: list[float] = []
    for pixels, within in zip(values, inside, strict=True):
        order = pixels[~within].sort().values
        below = torch.searchsorted(order, pixels[within].contiguous())
        upto = torch.searchsorted(order, pixels[within].contiguous(), right=True)
        areas.append(float((below + upto).double().mean() / (2 * len(order))))
    return torch.tensor(areas, dtype=torch.float64)
