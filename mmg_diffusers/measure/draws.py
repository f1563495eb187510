"""The random numbers of a pair: a function of (seed, pair id, draw) alone.

Batch size, number of processes and device therefore change no noise. Numbers come from a counter-based generator
(Philox) on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import whole


class PairDraws:
    """Random numbers of one draw of one pair; consecutive calls continue one stream.

    Args:
        seed: non-negative seed of the run.
        pair: non-negative id of the pair.
        draw: which of the pair's noise draws.

    Raises:
        TypeError: for a seed or pair id that is not a whole number.
        ValueError: for a negative one.
    """

    def __init__(self, seed: int, pair: int, draw: int = 0) -> None:
        self._key = np.array([whole(seed, "seed", 0), whole(pair, "pair id", 0)], dtype=np.uint64)
        # The generator counts in the low words; the high words separate streams.
        self._levels, self._noise = [0, 0, draw, 0], [0, 0, 0, 1 + draw]
        self._stream: np.random.Generator | None = None

    def uniform(self, count: int) -> Tensor:
        """`(count,)` float64 in [0, 1), the same at every call; what places the draw's levels."""
        stream = np.random.Generator(np.random.Philox(key=self._key, counter=self._levels))
        return torch.from_numpy(stream.random(count))

    def normals(self, count: int, event: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next `(count, *event)` standard normal numbers."""
        if self._stream is None:
            self._stream = np.random.Generator(np.random.Philox(key=self._key, counter=self._noise))
        if dtype == torch.float64:
            return torch.from_numpy(self._stream.standard_normal((count, *event)))
        return torch.from_numpy(self._stream.standard_normal((count, *event), dtype=np.float32))


def brownian_path(
    sources: Sequence[PairDraws], logsnr: Tensor, event: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Iterator[tuple[Tensor, Tensor]]:
    """Noise of one observation that grows cleaner: Y_s = s x + W_s with s = exp(logsnr), and eps = W_s / sqrt(s).

    Args:
        sources: one stream of numbers for each of B paths.
        logsnr: `(L + 1,)` rising levels.
        event: shape of the variable.

    Yields:
        for each of the first L levels, eps `(B, *event)`, standard normal, and the innovation `(B, *event)`: the
        increment of W up to the next level, standardised, which is independent of all noise so far.

    Raises:
        ValueError: for levels that do not rise.
    """
    step = logsnr.double().diff()
    if bool((step <= 0).any()):
        raise ValueError("a Brownian path runs from noisy to clean; expected rising levels")
    keep, fresh = torch.exp(-step / 2).to(dtype), (-torch.expm1(-step)).sqrt().to(dtype)
    eps = torch.cat([source.normals(1, event, dtype) for source in sources])
    for level in range(len(step)):
        innovation = torch.cat([source.normals(1, event, dtype) for source in sources])
        yield eps, innovation
        # Correlation of W_s / sqrt(s) between one level and the next.
        eps = keep[level] * eps + fresh[level] * innovation
