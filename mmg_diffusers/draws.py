"""The random numbers of a pair: a function of (seed, pair id) alone.

Batch size, number of processes and device therefore change no noise. Numbers come from a counter-based generator
(Philox) keyed by both, on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """How the noise of one draw is spread over its levels."""

    def along(self, normals: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """Noise at levels `(L,)`, rising, from `(L + 1, *event)` independent normals.

        Returns:
            eps `(L, *event)`, each level standard normal; and the innovations `(L, *event)`, which are independent of
            all noise up to their level.
        """
        ...


@dataclass(frozen=True)
class IndependentNoise:
    """Fresh noise at every level."""

    def along(self, normals: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        return normals[:-1], torch.zeros_like(normals[:-1])


@dataclass(frozen=True)
class BrownianPath:
    """One observation that grows cleaner: Y_s = s x + W_s with s = exp(logsnr), and eps = W_s / sqrt(s).

    The innovation of a level is the next increment of W, standardised.
    """

    def along(self, normals: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        if bool((logsnr.diff() < 0).any()):
            raise ValueError("a Brownian path runs from noisy to clean; expected rising levels")
        # Correlation of W_s / sqrt(s) between one level and the next.
        kept = torch.exp(-logsnr.diff() / 2).to(normals.dtype)
        fresh = (1 - torch.exp(-logsnr.diff())).sqrt().to(normals.dtype)
        eps = [normals[0]]
        for keep, new, normal in zip(kept, fresh, normals[1:-1], strict=True):
            eps.append(keep * eps[-1] + new * normal)
        return torch.stack(eps), normals[1:]


class PairDraws:
    """Random numbers of one pair; consecutive calls continue one stream.

    Args:
        seed: non-negative seed of the run.
        pair: non-negative id of the pair.

    Raises:
        ValueError: for a negative seed or pair id.
    """

    def __init__(self, seed: int, pair: int) -> None:
        if seed < 0 or pair < 0:
            raise ValueError(f"seed and pair id must not be negative, got {seed} and {pair}")
        self._key = np.array([seed, pair], dtype=np.uint64)
        self._normals = np.random.Generator(np.random.Philox(key=self._key))

    def uniform(self, count: int) -> Tensor:
        """`(count,)` float64 in [0, 1), from a stream of their own."""
        stream = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, 1]))
        return torch.from_numpy(stream.random(count))

    def normals(self, count: int, event: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next `(count, *event)` standard normal numbers."""
        if dtype == torch.float64:
            return torch.from_numpy(self._normals.standard_normal((count, *event)))
        return torch.from_numpy(self._normals.standard_normal((count, *event), dtype=np.float32))
