"""How the forms gap and orthogonal are weighed: in a pair by its own numbers, in the mean by those of all pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Share(NamedTuple):
    """The share of gap in orthogonal + share (gap - orthogonal), and what it takes part of the error: both of one shape.

    `moving` is the change of share x difference with the difference, since the share is told from the difference itself: the
    error of the weighed form is that of orthogonal + moving (gap - orthogonal).
    """

    share: Tensor
    moving: Tensor


def share_of(difference: Tensor, stderr: Tensor) -> Share:
    """The share of gap that a difference of the two forms, gap - orthogonal, asks for.

    share = max(0, 1 - stderr^2 / difference^2), the positive part of a James-Stein estimate: 0 while the difference is within
    its standard error, since orthogonal has less noise, and near 1 if it is not, since gap alone is unbiased. What it leaves of
    the difference D is D - stderr^2 / D, which moves by 1 + stderr^2 / D^2 = 2 - share with it.

    Args:
        difference: gap - orthogonal, any shape.
        stderr: its standard error, of the same shape; not a number if it is not known, which gives no share.
    """
    ratio = (stderr / difference).square()
    share = torch.where(ratio < 1, 1 - ratio, 0.0)
    return Share(share, torch.where(share > 0, 2 - share, 0.0))


def halved(share: Share) -> Share:
    """Half of a share, for branches that were trained together and over-fitted; see `MMG`."""
    return Share(share.share / 2, share.moving / 2)
