"""Maps of information: from latent pixels to image pixels, nothing lost on the way."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


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
        ValueError: for maps without two axes, a size below 1, or another spread.
    """
    if maps.ndim < 2 or min(size) < 1:
        raise ValueError(f"expected maps (..., h, w) and a size of at least 1 x 1, got {tuple(maps.shape)} and {size}")
    if spread not in ("linear", "even"):
        raise ValueError(f"spread is {spread!r}; expected 'linear' or 'even'")
    share = _tent if spread == "linear" else _overlap
    rows, columns = share(maps.shape[-2], size[0]), share(maps.shape[-1], size[1])
    return rows @ maps.double() @ columns.T


def dilate(mask: Tensor, reach: int) -> Tensor:
    """`(..., H, W)` booleans, grown by `reach` pixels to every side, corners included."""
    if reach == 0:
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
        ValueError: for a mask that is empty or full somewhere.
    """
    values, inside = maps.double().flatten(1), mask.flatten(1)
    count = inside.sum(1)
    if bool((count == 0).any()) or bool((count == inside.shape[1]).any()):
        raise ValueError("a mask is empty or full, so that there is no inside and outside to tell apart")
    found: list[float] = []
    for own, where in zip(values, inside, strict=True):
        order = own[~where].sort().values
        below = torch.searchsorted(order, own[where].contiguous())
        upto = torch.searchsorted(order, own[where].contiguous(), right=True)
        found.append(float((below + upto).double().mean() / (2 * len(order))))
    return torch.tensor(found, dtype=torch.float64)
