"""Joint laws of (x, y) that can be sampled, each with its mutual information in nats.

The continuous laws and their names are those of Czyz et al. 2023, "Beyond Normal: On the Evaluation of Mutual
Information Estimators"; everything is sampled in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, psi

Array = NDArray[np.float64]
Pair = tuple[NDArray[Any], NDArray[Any]]

_REACH, _STEP = 9.0, 0.1
"""The trapezoidal grid of a normal integral, in standard deviations; what lies beyond is below rounding."""


REACH = 9.0
"""Standard deviations after which a normal law ends, below rounding."""


def normal(x: Array, sd: float) -> Array:
    """The density of N(0, sd^2)."""
    return np.exp(-0.5 * np.square(x / sd)) / (sd * math.sqrt(2 * math.pi))


class Law(ABC):
    """A joint law of x, `(n, dim_x)`, and y, `(n, dim_y)`; a variable that is a label is `(n, 1)` int64."""

    @property
    def dims(self) -> tuple[int, int]:
        """The dimensions of x and y."""
        return 1, 1

    @property
    def classes(self) -> tuple[int | None, int | None]:
        """The number of labels that x and y take, None for a variable that is not a label."""
        return None, None

    @property
    @abstractmethod
    def mi_nats(self) -> float:
        """The mutual information, in nats."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        """Draw n independent pairs."""


@dataclass(frozen=True)
class ManyToOne(Law):
    """A law of `dim` columns of x, and one of y."""

    dim: int

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim, 1


@dataclass(frozen=True)
class ManyToMany(Law):
    """A law of `dim` columns of x, and as many of y."""

    dim: int

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim, self.dim


@dataclass(frozen=True, eq=False)
class Multinormal(Law):
    """A centred multinormal law; `cov` is the `(dim_x + dim_y)`-square covariance of the joined vector."""

    cov: Array
    dim_x: int

    @classmethod
    def dense(cls, dim: int, correlation: float) -> Multinormal:
        """Unit variances; any two of the 2 dim coordinates have the same correlation."""
        cov = np.full((2 * dim, 2 * dim), correlation)
        np.fill_diagonal(cov, 1.0)
        return cls(cov, dim)

    @classmethod
    def sparse(cls, dim: int, strength: float) -> Multinormal:
        """Unit variances; for i = 1, 2 only, x_i and y_i share a signal `strength` times the noise of each."""
        cov = np.eye(2 * dim)
        shared = strength**2 / (1 + strength**2)
        for i in range(2):
            cov[i, dim + i] = cov[dim + i, i] = shared
        return cls(cov, dim)

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim_x, len(self.cov) - self.dim_x

    @property
    def mi_nats(self) -> float:
        d = self.dim_x
        return 0.5 * (_logdet(self.cov[:d, :d]) + _logdet(self.cov[d:, d:]) - _logdet(self.cov))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        joined = rng.standard_normal((n, len(self.cov))) @ np.linalg.cholesky(self.cov).T
        return joined[:, : self.dim_x], joined[:, self.dim_x :]


def _logdet(cov: Array) -> float:
    return 2 * float(np.log(np.diag(np.linalg.cholesky(cov))).sum())


@dataclass(frozen=True)
class Student(Law):
    """A multivariate t with identity dispersion.

    x and y are uncorrelated but not independent: one chi-square scales both.
    """

    dim_x: int
    dim_y: int
    df: int

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim_x, self.dim_y

    @property
    def mi_nats(self) -> float:
        both = _student_entropy(self.dim_x + self.dim_y, self.df)
        return _student_entropy(self.dim_x, self.df) + _student_entropy(self.dim_y, self.df) - both

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        joined = rng.standard_normal((n, self.dim_x + self.dim_y))
        joined /= np.sqrt(rng.chisquare(self.df, (n, 1)) / self.df)
        return joined[:, : self.dim_x], joined[:, self.dim_x :]


def _student_entropy(dim: int, df: float) -> float:
    """Differential entropy, in nats, of the multivariate t with identity dispersion."""
    top, half = (df + dim) / 2, df / 2
    normaliser = gammaln(half) - gammaln(top) + dim / 2 * math.log(df * math.pi)
    return float(normaliser + top * (psi(top) - psi(half)))


@dataclass(frozen=True)
class AdditiveUniform(Law):
    """x uniform on [0, 1] and y = x + noise, the noise uniform on [-epsilon, epsilon]."""

    epsilon: float

    @property
    def mi_nats(self) -> float:
        e = self.epsilon
        return e - math.log(2 * e) if e <= 0.5 else 1 / (4 * e)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.uniform(0.0, 1.0, (n, 1))
        return x, x + rng.uniform(-self.epsilon, self.epsilon, (n, 1))


@dataclass(frozen=True)
class LabelledNormal(Law):
    """y a label with probabilities `weights`, and x normal given y: mean `means[y]`, covariance `sds[y]^2 I`.

    The truth is h(x) - h(x | y), the first by quadrature in the one or two dimensions of x.
    """

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    sds: tuple[float, ...]

    @property
    def dims(self) -> tuple[int, int]:
        return len(self.means[0]), 1

    @property
    def classes(self) -> tuple[int | None, int | None]:
        return None, len(self.weights)

    @property
    def mi_nats(self) -> float:
        dim = self.dims[0]
        given_y = sum(w * dim * _normal_entropy(s) for w, s in zip(self.weights, self.sds, strict=True))
        return _mixture_entropy(np.array(self.weights), np.array(self.means), np.array(self.sds)) - given_y

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        y = rng.choice(len(self.weights), size=n, p=self.weights).astype(np.int64)
        noise = rng.standard_normal((n, self.dims[0]))
        return np.array(self.means)[y] + np.array(self.sds)[y, None] * noise, y[:, None]


def _normal_entropy(sd: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e) + math.log(sd)


def _mixture_entropy(weights: Array, means: Array, sds: Array) -> float:
    """Differential entropy, in nats, of the mixture of N(means[k], sds[k]^2 I); means `(K, d)`, d = 1 or 2.

    Each component's expectation is a trapezoidal sum on the component's scale, which converges exponentially in
    1 / step for a smooth integrand with normal tails.
    """
    dim = means.shape[1]
    axis = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    grid = np.stack(np.meshgrid(*[axis] * dim), axis=-1).reshape(-1, dim)
    mass = np.exp(-0.5 * np.square(grid).sum(1)) * (_STEP / math.sqrt(2 * math.pi)) ** dim

    def log_density(x: Array) -> Array:
        distance = np.square(x[:, None] - means).sum(-1) / np.square(sds)
        height = np.log(weights) - dim * np.log(sds * math.sqrt(2 * math.pi))
        return np.logaddexp.reduce(height - 0.5 * distance, axis=1)

    expected = [float(mass @ log_density(mean + sd * grid)) for mean, sd in zip(means, sds, strict=True)]
    return -float(weights @ np.array(expected))


@dataclass(frozen=True)
class LabelledUniform(Law):
    """y a uniform label in 0 .. labels - 1, and x uniform on [y, y + 2] given y.

    From Gao et al. 2017, "Estimating Mutual Information for Discrete-Continuous Mixtures".
    """

    labels: int

    @property
    def classes(self) -> tuple[int | None, int | None]:
        return None, self.labels

    @property
    def mi_nats(self) -> float:
        # Given x two labels are equally likely, except in the two outer unit intervals, which name theirs.
        return math.log(self.labels) - (self.labels - 1) / self.labels * math.log(2)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        y = rng.integers(self.labels, size=(n, 1), dtype=np.int64)
        return y + rng.uniform(0.0, 2.0, (n, 1)), y


@dataclass(frozen=True)
class SpikeSlab(Law):
    """x mixes an atom and a density: exactly 0 with probability `atom`, else N(0, 1); y = x + N(0, noise^2).

    The truth is h(y) - h(y | x), the first by quadrature.
    """

    atom: float
    noise: float

    @property
    def mi_nats(self) -> float:
        sds = np.array([self.noise, math.hypot(1.0, self.noise)])
        h_y = _mixture_entropy(np.array([self.atom, 1 - self.atom]), np.zeros((2, 1)), sds)
        return h_y - _normal_entropy(self.noise)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        slab = rng.uniform(size=(n, 1)) >= self.atom
        x = np.where(slab, rng.standard_normal((n, 1)), 0.0)
        return x, x + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class JointTable(Law):
    """Both variables are labels; `table[i][j]` is the probability of x = i and y = j."""

    table: tuple[tuple[float, ...], ...]

    @property
    def classes(self) -> tuple[int | None, int | None]:
        return len(self.table), len(self.table[0])

    @property
    def mi_nats(self) -> float:
        p = np.array(self.table)
        independent = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        seen = p > 0  # an impossible cell carries nothing
        return float((p[seen] * np.log(p[seen] / independent[seen])).sum())

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        p = np.array(self.table)
        cell = rng.choice(p.size, size=(n, 1), p=p.ravel()).astype(np.int64)
        return cell // p.shape[1], cell % p.shape[1]
