"""What the networks of families share: the told time, rows of unequal length, and images as packed tokens.

What depends on the latent's size (ids of tokens, rotary grids, sizes in pixels) is built from x when the network is called, and
is no part of a condition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A network of diffusers as `Adapted` calls one: ``network(x, time, **condition)``. Families write `forward`.

    Args:
        module: the network of diffusers.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of what the network takes, as diffusers says it: of its weights but for those that are kept in float32."""
        return getattr(self.module, "dtype", None)


def told(time: Tensor, x: Tensor) -> Tensor:
    """Times as a network of x is told them: indices as they are; others in float32, even if the network computes in half
    precision, which has 8 or 11 bits for a number up to 1000. (float64 if x is.)
    """
    return time.to(torch.promote_types(x.dtype, torch.float32)) if time.is_floating_point() else time


def has_variance(module: Any) -> bool:
    """Whether a network of diffusers returns twice the channels that it takes, by its config: a prediction and a variance."""
    return module.config.out_channels == 2 * module.config.in_channels


def each_group(keys: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Run a network, or one of several, once for each group of rows.

    Args:
        keys: `(B,)`, the same for rows of one group.
        run: given the rows `(b,)` and their key, returns their predictions `(b, *event)`.

    Returns:
        `(B, *event)` in the order of the rows.
    """
    rows = [((keys == key).nonzero()[:, 0], key) for key in keys.unique()]
    parts = [run(each, key) for each, key in rows]
    return torch.cat(parts)[torch.cat([each for each, _ in rows]).argsort()]


def each_length(mask: Tensor, run: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Run a network once for each length of text among its rows, for one whose answer depends on padding.

    Args:
        mask: `(B, L)`, 1 for the tokens of each row, which come first, and 0 for what fills it up.
        run: given the rows `(b,)` and their length, returns their predictions `(b, *event)`.

    Returns:
        `(B, *event)` in the order of the rows.
    """
    return each_group(mask.sum(1), lambda rows, length: run(rows, int(length)))


def pack(x: Tensor, patch: int = 2) -> Tensor:
    """`(B, C, H, W)` as tokens `(B, H/patch W/patch, C patch^2)`, the channel slowest within a token (Flux, Qwen, Chroma)."""
    rows, channels, height, width = x.shape
    x = x.view(rows, channels, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(rows, (height // patch) * (width // patch), channels * patch**2)


def unpack(tokens: Tensor, like: Tensor, patch: int = 2) -> Tensor:
    """The inverse of `pack`, for tokens of an x of the height and width of `like`."""
    height, width = like.shape[-2:]
    x = tokens.view(len(tokens), height // patch, width // patch, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(len(tokens), -1, height, width)


def grid_ids(x: Tensor, patch: int = 2) -> Tensor:
    """Ids `(tokens, 3)` of the tokens of `pack`: 0, the row and the column of each (Flux, Chroma)."""
    height, width = x.shape[-2] // patch, x.shape[-1] // patch
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).to(x)
