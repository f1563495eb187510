"""Ising models on a rectangle, exact by transfer matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmg_diffusers.checks import finite, shown, whole
from mmg_diffusers.worlds.densities.base import Array, Ints, KnownLaw

# A row of so many spins has 2^MOST states.
_MOST = 12
# Numbers of an intermediate result, so that memory stays bounded.
_AT_A_TIME = 2**21


@dataclass(frozen=True)
class Ising(KnownLaw):
    """Spins of -1 and 1 on a rectangle with free edges: P(x) proportional to exp(coupling sum of x_i x_j over neighbours).

    Everything is exact, by sums over the states of one row after another (a transfer matrix); noise acts on each spin as
    a field does, so that the posterior mean is the magnetisation in those fields, from the same matrices.

    Args:
        rows, columns: the size; 12 columns at most. Values have shape (1, rows, columns), a picture of one channel.
        coupling: the inverse temperature.

    Raises:
        TypeError: for sizes that are not whole.
        ValueError: for sizes below 1, more than 12 columns, or a coupling that is not finite.
    """

    rows: int
    columns: int
    coupling: float

    def __post_init__(self) -> None:
        whole(self.rows, "rows", 1)
        if whole(self.columns, "columns", 1) > _MOST:
            raise ValueError(f"columns is {self.columns}; expected at most {_MOST}, since a row has 2^columns states")
        finite(self.coupling, "coupling")

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, self.rows, self.columns

    @property
    def levels(self) -> tuple[float, float, int]:
        return -1.0, 1.0, 2

    # ---- one row, and from one row to the next ----

    @cached_property
    def _states(self) -> Array:
        """`(2^columns, columns)` all states of a row."""
        bits = np.arange(2**self.columns)[:, None] >> np.arange(self.columns)[::-1] & 1
        return 2.0 * bits - 1

    @cached_property
    def _along(self) -> Array:
        """`(2^columns,)` sum of neighbours' products within a row."""
        return (self._states[:, 1:] * self._states[:, :-1]).sum(1)

    @cached_property
    def _halves(self) -> tuple[Array, Array]:
        """The matrix from a row to the next, exp(coupling s.s'), as a product of one over the left spins and one over the
        right: far fewer operations than the whole.
        """  # fmt: skip
        left = self.columns // 2

        def matrix(count: int) -> Array:
            states = 2.0 * (np.arange(2**count)[:, None] >> np.arange(count)[::-1] & 1) - 1
            # Divided by its largest, so that products stay bounded.
            return np.exp(self.coupling * (states @ states.T) - abs(self.coupling) * count)

        return matrix(left), matrix(self.columns - left)

    def _step(self, message: Array) -> Array:
        """`(n, 2^columns)` summed over the states of a row, for each state of the next."""
        left, right = self._halves
        return (left @ message.reshape(-1, len(left), len(right)) @ right).reshape(len(message), -1)

    def _weights(self, fields: Array) -> Array:
        """`(n, rows, columns)` fields to `(rows, n, 2^columns)` weights of each row's states, the largest 1."""
        exponent = fields.transpose(1, 0, 2) @ self._states.T + self.coupling * self._along
        return np.exp(exponent - exponent.max(2, keepdims=True))

    def _from_above(self, weights: Array) -> tuple[Array, Array]:
        """For each row, the share `(rows, n, 2^columns)` of its states given all rows up to it; and `(rows, n)` the logs
        of what the shares were divided by.
        """  # fmt: skip
        message, scale = np.empty_like(weights), np.empty(weights.shape[:2])
        for row, weight in enumerate(weights):
            message[row] = weight if row == 0 else self._step(message[row - 1]) * weight
            total = message[row].sum(1, keepdims=True)
            message[row] /= total
            scale[row] = np.log(total[:, 0])
        return message, scale

    # ---- the law ----

    @cached_property
    def _free(self) -> tuple[Array, float]:
        """Shares from above without a field, `(rows, 2^columns)`, and the log of the partition sum."""
        message, scale = self._from_above(self._weights(np.zeros((1, self.rows, self.columns))))
        largest = self.rows * (self.coupling * self._along).max() + (self.rows - 1) * abs(self.coupling) * self.columns
        return message[:, 0], float(scale.sum() + largest)

    @property
    def log_partition(self) -> float:
        """The log of the sum of exp(coupling sum x_i x_j) over all pictures."""
        return self._free[1]

    @cached_property
    def entropy(self) -> float:
        """The entropy of a picture, in nats."""
        above, log_partition = self._free
        # Neighbours' products, in the mean: within rows, and between each row and the next.
        weight = self._weights(np.zeros((1, self.rows, self.columns)))[:, 0]
        left, right = self._halves
        step = np.kron(left, right)
        below, products = np.ones(len(step)), 0.0
        for row in reversed(range(self.rows)):
            share = above[row] * below
            products += float(share @ self._along / share.sum())
            below = weight[row] * below
            if row:
                joint = above[row - 1][:, None] * step * below
                between = np.einsum("ac,ab,bc->", self._states, joint, self._states)
                products += float(between / joint.sum())
                below = step @ below
                below /= below.sum()
        return log_partition - self.coupling * products

    def log_prob(self, x: Array, label: Ints | None = None) -> Array:
        self._no_label(label)
        picture = self._spins(x)
        along = (picture[:, :, 1:] * picture[:, :, :-1]).sum((1, 2))
        between = (picture[:, 1:] * picture[:, :-1]).sum((1, 2))
        return self.coupling * (along + between) - self.log_partition

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        above, _ = self._free
        left, right = self._halves
        step = np.kron(left, right)
        chosen = np.empty((self.rows, n), dtype=np.int64)
        for row in reversed(range(self.rows)):
            # Of the last row alone, then of each row given the one below it.
            weight = above[row][None] if row == self.rows - 1 else above[row] * step[chosen[row + 1]]
            edges = np.cumsum(np.broadcast_to(weight, (n, weight.shape[1])), axis=1)
            chosen[row] = (edges < (rng.random(n) * edges[:, -1])[:, None]).sum(1)
        return self._states[chosen].transpose(1, 0, 2)[:, None]

    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        self._no_label(label)
        # The density of an observation y of a spin s is in proportion to exp(s y / sd^2).
        fields = self._flat(observed).reshape(-1, self.rows, self.columns) / np.square(sd)[:, None, None]
        size = max(1, _AT_A_TIME // (self.rows * len(self._states)))
        parts = [self._magnetisation(fields[start : start + size]) for start in range(0, len(fields), size)]
        return np.concatenate(parts).reshape(observed.shape) if parts else np.zeros(observed.shape)

    def _magnetisation(self, fields: Array) -> Array:
        """`(n, rows, columns)` mean of every spin in fields of the same shape."""
        weights = self._weights(fields)
        above, _ = self._from_above(weights)
        mean = np.empty_like(fields)
        below = np.ones_like(weights[0])
        for row in reversed(range(self.rows)):
            share = above[row] * below
            mean[:, row] = share @ self._states / share.sum(1, keepdims=True)
            if row:
                below = self._step(weights[row] * below)
                below /= below.max(1, keepdims=True)
        return mean

    def _spins(self, x: Array) -> Array:
        flat = self._flat(x)
        if not (np.abs(flat) == 1).all():
            raise ValueError(f"x holds {shown(flat[np.abs(flat) != 1][0])}; expected spins of -1 and 1")
        return flat.reshape(-1, self.rows, self.columns)

    def _no_label(self, label: Ints | None) -> None:
        if label is not None:
            raise ValueError(f"label is {shown(label)}, but an Ising model has no labels; expected None")
