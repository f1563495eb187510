"""Words that overlap on ramps: the chance of each word where a factor lies between the middles of two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def word_shares(factor: NDArray[Any], count: int, ramp: float, *, periodic: bool) -> Array:
    """Compute p(word | factor) of words that are equally probable: `(N,) -> (N, count)`. Rows sum to 1.

    Args:
        factor: in [0, 1]; a circle if `periodic`, on which word k has its middle at k / count; else a line, which the words
            divide into equal territories.
        count: of the words.
        ramp: width of the ramp between two words, as a share of one word's territory.
        periodic: whether the factor is a circle.
    """
    # In units of a word's territory, with word k's middle at k.
    place = np.asarray(factor) * count - (0.0 if periodic else 0.5)
    lower = np.floor(place).astype(np.int64)
    share = place - lower
    upper = np.clip((share - 0.5) / ramp + 0.5, 0.0, 1.0) if ramp > 0 else (share > 0.5).astype(float)
    out = np.zeros((len(place), count))
    rows = np.arange(len(place))
    ends = (lower % count, (lower + 1) % count) if periodic else (lower.clip(0), (lower + 1).clip(max=count - 1))
    np.add.at(out, (rows, ends[0]), 1.0 - upper)
    np.add.at(out, (rows, ends[1]), upper)
    return out
