"""A law in other coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import finite, of_type, shown
from mmg_diffusers.worlds.densities.base import Array, Ints, KnownLaw, Labelled


@dataclass(frozen=True, eq=False)
class Moved(KnownLaw):
    """The law of scale (rotation x) + shift, for x of another law.

    Args:
        law: of x, continuous.
        scale: above 0.
        shift: of the shape of a value, or one number for all coordinates.
        rotation: `(d, d)` orthogonal, over the d flattened coordinates; None for none.

    Raises:
        TypeError: for something that is no law.
        ValueError: for a law of levels, a scale that is not positive, or a rotation that is not orthogonal.
    """

    law: KnownLaw
    scale: float = 1.0
    shift: NDArray[Any] | float = 0.0
    rotation: Array | None = field(default=None)

    def __post_init__(self) -> None:
        of_type(self.law, KnownLaw, "the law", "one such as GaussianMixture")
        if self.law.levels is not None:
            raise ValueError(
                "the law is of levels, which would not be the same levels elsewhere; move a continuous one"
            )
        if finite(self.scale, "scale") <= 0:
            raise ValueError(f"scale is {self.scale}; expected a number above 0")
        shift = np.broadcast_to(np.asarray(self.shift, dtype=np.float64), self.law.shape)
        if not np.isfinite(shift).all():
            raise ValueError(f"shift is {shown(self.shift)}; expected finite numbers")
        object.__setattr__(self, "shift", shift)
        if self.rotation is not None:
            d = math.prod(self.law.shape)
            turned = np.asarray(self.rotation, dtype=np.float64)
            if turned.shape != (d, d) or not np.allclose(turned @ turned.T, np.eye(d), atol=1e-10):
                raise ValueError(f"rotation is {shown(self.rotation)}; expected an orthogonal matrix, ({d}, {d})")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.law.shape

    @property
    def labels(self) -> int:
        return self.law.labels

    @property
    def entropy(self) -> float | None:
        inner = self.law.entropy
        return None if inner is None else inner + math.prod(self.shape) * math.log(self.scale)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return self._out(self.law.draw(n, rng))

    def draw_labelled(self, n: int, rng: np.random.Generator) -> Labelled:
        x, label = self.law.draw_labelled(n, rng)
        return Labelled(self._out(x), label)

    def log_prob(self, x: Array, label: Ints | None = None) -> Array:
        return self.law.log_prob(self._back(x), label) - math.prod(self.shape) * math.log(self.scale)

    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        return self._out(self.law.posterior_mean(self._back(observed), sd / self.scale, label))

    def _out(self, x: Array) -> Array:
        if self.rotation is not None:
            x = (x.reshape(len(x), -1) @ self.rotation.T).reshape(x.shape)
        return self.scale * x + self.shift

    def _back(self, x: Array) -> Array:
        self._flat(x)
        inner = (x - self.shift) / self.scale
        return inner if self.rotation is None else (inner.reshape(len(x), -1) @ self.rotation).reshape(x.shape)
