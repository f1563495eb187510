"""What a law is whose density is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import of_type, shown

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Labelled(NamedTuple):
    """Values `(n, *shape)` and the label `(n,)` of each."""

    x: Array
    label: Ints


class KnownLaw(ABC):
    """A law of values of one shape, in float64: its draws, its density, and what noise leaves of a value.

    Subclasses say whether log p is of a density or of a probability by `levels`.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""

    @property
    def levels(self) -> tuple[float, float, int] | None:
        """The least and the greatest of equally spaced levels that coordinates take, and their number; None if they take
        every value.
        """  # fmt: skip
        return None

    @property
    def labels(self) -> int:
        """The number of labels, 0 for a law that has none."""
        return 0

    @property
    def entropy(self) -> float | None:
        """The entropy in nats (differential, of a law without levels); None if it is known as the mean of -log p over draws
        alone.
        """  # fmt: skip
        return None

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n independent values, `(n, *shape)`."""

    def draw_labelled(self, n: int, rng: np.random.Generator) -> Labelled:
        """Draw n independent values with their labels; the values are those of `draw`.

        Raises:
            ValueError: for a law without labels.
        """
        raise ValueError(f"a {type(self).__name__} has no labels; use draw")

    @abstractmethod
    def log_prob(self, x: Array, label: Ints | None = None) -> Array:
        """Compute log p(x), or log p(x | label), in nats: `(n, *shape) -> (n,)`.

        Raises:
            ValueError: for values of another shape, or a label that the law does not have.
        """

    @abstractmethod
    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        """Compute E[x | observed], or E[x | observed, label], for observed = x + sd n with standard normal n.

        Args:
            observed: `(n, *shape)`.
            sd: `(n,)` standard deviations of the noise, above 0.
            label: `(n,)`.

        Raises:
            ValueError: for values of another shape, or a label that the law does not have.
        """

    def _flat(self, x: Array) -> Array:
        """Values as rows, checked."""
        of_type(x, np.ndarray, "x", "an array")
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {x.shape}; expected {('n', *self.shape)}, values of this law")
        return x.reshape(len(x), -1).astype(np.float64, copy=False)

    def _label(self, label: Any, rows: int) -> Ints:
        """Labels, checked."""
        if not self.labels:
            raise ValueError(f"label is {shown(label)}, but a {type(self).__name__} has no labels; expected None")
        held = np.asarray(label)
        if held.shape != (rows,) or held.dtype.kind not in "iu":
            raise ValueError(f"the labels are {shown(label)}; expected {rows} integers, one for each value")
        if held.size and (held.min() < 0 or held.max() >= self.labels):
            raise ValueError(f"labels run from {held.min()} to {held.max()}; expected 0 to {self.labels - 1}")
        return held.astype(np.int64)


def pick(weights: Array, n: int, rng: np.random.Generator) -> Ints:
    """Draw n labels of the given probabilities, `(K,)`."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges, rng.random(n) * edges[-1], side="right").clip(max=len(weights) - 1)


def shares(weights: Any, name: str) -> Array:
    """Positive weights as probabilities.

    Raises:
        ValueError: unless all are finite and above 0.
    """
    held = np.asarray(weights, dtype=np.float64)
    if held.ndim != 1 or not held.size or not np.isfinite(held).all() or not (held > 0).all():
        raise ValueError(f"{name} are {shown(weights)}; expected one positive number for each component")
    return held / held.sum()


def log_sum(values: Array) -> Array:
    """The log of the sum of exp of each row, `(n, K) -> (n,)`."""
    return np.logaddexp.reduce(values, axis=1)
