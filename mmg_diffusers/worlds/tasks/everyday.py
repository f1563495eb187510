"""Laws of what people's arrays look like off the benchmark, each with its mutual information in nats.

Waves, folds, modes, rounded columns, counts, labels, parity, pictures, warped normals; and samples whose rows are not
independent draws: series that remember, rows that are repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import gammaln, logsumexp, ndtr
from scipy.stats import nbinom, poisson

from mmg_diffusers.worlds.tasks.laws import REACH, Array, Law, ManyToMany, ManyToOne, Pair, normal

_CELLS = 4096
"""Cells of an even grid over one turn of something periodic; sums on it converge exponentially."""


def _entropy_of(centres: Array, mass: Array, sd: float) -> float:
    """Differential entropy, in nats, of points of given mass in normal noise, by a trapezoidal sum."""
    low, high = float(centres.min()) - REACH * sd, float(centres.max()) + REACH * sd
    axis = np.linspace(low, high, 1 + math.ceil((high - low) / (sd / 16)))
    density = np.array([mass @ normal(value - centres, sd) for value in axis])
    seen = density > 0
    return -float((density[seen] * np.log(density[seen])).sum() * (axis[1] - axis[0]))


def _noise_entropy(sd: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e) + math.log(sd)


@dataclass(frozen=True)
class Wave(Law):
    """x uniform on [-pi, pi] and y = sin(turns x) + N(0, noise^2), for a whole number of turns."""

    turns: int
    noise: float

    @property
    def mi_nats(self) -> float:
        # The phase is uniform, so that the number of turns tells nothing.
        phase = 2 * math.pi * (np.arange(_CELLS) + 0.5) / _CELLS
        return _entropy_of(np.sin(phase), np.full(_CELLS, 1 / _CELLS), self.noise) - _noise_entropy(self.noise)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.uniform(-math.pi, math.pi, (n, 1))
        return x, np.sin(self.turns * x) + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class Fold(ManyToOne):
    """x of `dim` independent normals, and y = |x_1| + N(0, noise^2): the sign is lost, and with it all correlation."""

    noise: float

    @property
    def mi_nats(self) -> float:
        # The density of y: 2 normal(y; 1 + noise^2) times the chance that the |x_1| behind it is positive.
        spread = math.hypot(1.0, self.noise)
        low, high = -REACH * self.noise, REACH * spread
        axis = np.linspace(low, high, 1 + math.ceil((high - low) / (self.noise / 16)))
        density = 2 * normal(axis, spread) * ndtr(axis / (self.noise * spread))
        seen = density > 0
        entropy = -float((density[seen] * np.log(density[seen])).sum() * (axis[1] - axis[0]))
        return entropy - _noise_entropy(self.noise)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.standard_normal((n, self.dim))
        return x, np.abs(x[:, :1]) + self.noise * rng.standard_normal((n, 1))


def random_table(rows: int, columns: int, concentration: float, seed: int) -> tuple[tuple[float, ...], ...]:
    """Draw a table of probabilities from a symmetric Dirichlet law."""
    drawn = np.random.default_rng(seed).dirichlet(np.full(rows * columns, concentration))
    return tuple(map(tuple, drawn.reshape(rows, columns).tolist()))


@dataclass(frozen=True)
class Modes(Law):
    """Normal modes around whole numbers: x = i + N(0, width^2), y = j + N(0, width^2), (i, j) from a table.

    The truth is the table's, since modes whose width is at most 0.06 overlap by less than 1e-16.

    Raises:
        ValueError: for wider modes.
    """

    table: tuple[tuple[float, ...], ...]
    width: float

    def __post_init__(self) -> None:
        if not 0 < self.width <= 0.06:
            raise ValueError(
                f"width is {self.width}; modes wider than 0.06 overlap, and the truth is no more the table's"
            )

    @property
    def mi_nats(self) -> float:
        return table_information(np.array(self.table))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        p = np.array(self.table)
        cell = rng.choice(p.size, size=(n, 1), p=p.ravel() / p.sum())
        noise = self.width * rng.standard_normal((2, n, 1))
        return cell // p.shape[1] + noise[0], cell % p.shape[1] + noise[1]


def table_information(table: Array) -> float:
    """Mutual information of a table of probabilities, in nats."""
    seen = table > 0  # an impossible cell carries nothing
    ratio = table / np.maximum(table.sum(1, keepdims=True) * table.sum(0), np.finfo(float).tiny)
    return float((table[seen] * np.log(ratio[seen])).sum())


@dataclass(frozen=True)
class Rounded(Law):
    """x normal, y = x + N(0, noise^2), both rounded to multiples of `step`: floats on a grid, with many ties."""

    step: float
    noise: float

    @property
    def table(self) -> Array:
        """The probability of every pair of grid values, rows for x: each cell of x by its own even sum."""
        reach = math.ceil(REACH * self.noise / self.step) + 1
        most = math.ceil(REACH / self.step) + 1 + reach
        edges = (np.arange(-most, most + 2) - 0.5) * self.step
        # Within a cell of x the chances of y's cells bend only within some deviations of the noise from the edges.
        near = min(REACH * self.noise, self.step / 2)
        ends = np.linspace(0, near, 25)
        cuts = np.unique(np.concatenate([ends, self.step - ends, np.linspace(near, self.step - near, 9)]))
        nodes, weights = np.polynomial.legendre.leggauss(12)
        inner = (cuts[:-1, None] + np.diff(cuts)[:, None] * (1 + nodes) / 2).ravel()
        mass = (np.diff(cuts)[:, None] * weights / 2).ravel()
        table = np.zeros((2 * most + 1, 2 * most + 1))
        for k in range(reach, 2 * most + 1 - reach):
            x, some = edges[k] + inner, slice(k - reach, k + reach + 2)
            below = ndtr((edges[some] - x[:, None]) / self.noise)
            table[k, k - reach : k + reach + 1] = (mass * normal(x, 1.0)) @ np.diff(below, axis=1)
        return table

    @property
    def mi_nats(self) -> float:
        return table_information(self.table)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.standard_normal((n, 1))
        y = x + self.noise * rng.standard_normal((n, 1))
        return np.round(x / self.step) * self.step, np.round(y / self.step) * self.step


@dataclass(frozen=True)
class Counts(Law):
    """x gamma-distributed, and y a count from the Poisson law of mean x: over all x a negative binomial one.

    The truth is H(y) - E H(y | x): two sums over counts, one of them under an integral.
    """

    shape: float
    scale: float

    @property
    def _most(self) -> int:
        return int(nbinom.isf(1e-16, self.shape, 1 / (1 + self.scale))) + 2

    @property
    def mi_nats(self) -> float:
        y = np.arange(self._most)
        over_all = nbinom.pmf(y, self.shape, 1 / (1 + self.scale))
        entropy = -float((over_all[over_all > 0] * np.log(over_all[over_all > 0])).sum())
        # Even in log x, where the density of a gamma law falls exponentially on both sides.
        log_x = np.linspace(math.log(self.scale) - 40 / self.shape, math.log(self.scale * (self.shape + 60)), 501)
        x = np.exp(log_x)
        weight = np.exp(self.shape * log_x - x / self.scale - gammaln(self.shape) - self.shape * math.log(self.scale))
        log_p = poisson.logpmf(y, x[:, None])
        given = -(np.exp(log_p) * np.maximum(log_p, -700)).sum(1)
        return entropy - float((weight * given).sum() * (log_x[1] - log_x[0]))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.gamma(self.shape, self.scale, (n, 1))
        return x, rng.poisson(x).astype(np.int64)


@dataclass(frozen=True)
class Parity(ManyToOne):
    """x of `dim` fair signs, and y their product: no set of fewer than all of them tells anything of y."""

    @property
    def mi_nats(self) -> float:
        return math.log(2)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.choice([-1.0, 1.0], size=(n, self.dim))
        return x, x.prod(1, keepdims=True)


@dataclass(frozen=True)
class Blob(Law):
    """x a picture of `side` x `side` pixels in noise: a bump at an angle on a circle; y that angle, in (-pi, pi].

    The truth is the mean of log p(x | y) / p(x), x's law being known at every angle: a sum over angles of the curve that
    the means run along, averaged over 40,000 draws whose common part, one half of a chi-square, is taken out.
    """

    side: int
    noise: float
    width: float = 0.25

    @property
    def dims(self) -> tuple[int, int]:
        return self.side**2, 1

    def means(self, angle: Array) -> Array:
        """The pictures without noise, `(n, side^2)`."""
        axis = np.linspace(-1, 1, self.side)
        row, column = (part.ravel() for part in np.meshgrid(axis, axis, indexing="ij"))
        far = np.square(row - 0.5 * np.sin(angle)[:, None]) + np.square(column - 0.5 * np.cos(angle)[:, None])
        return np.exp(-0.5 * far / self.width**2)

    def long_sum(self, draws: int, seed: int) -> tuple[float, float]:
        """The mutual information by so many draws, and its standard error."""
        rng = np.random.default_rng(seed)
        count = 128
        grid = 2 * math.pi * np.arange(count) / count
        curve = self.means(grid)
        # What noise adds lies in the plane of few singular vectors; the rest is common to all angles.
        left, size, right = np.linalg.svd(curve, full_matrices=False)
        kept = size > 1e-12 * size[0]
        place = left[:, kept] * size[kept]
        forward = self.means(grid + 1e-4) - self.means(grid - 1e-4)
        tangent = (forward / np.linalg.norm(forward, axis=1, keepdims=True)) @ right[kept].T
        values: list[Array] = []
        for start in range(0, draws, 20_000):
            few = min(20_000, draws - start)
            at = rng.permutation(np.arange(few) * count // few)
            noise = rng.standard_normal((few, int(kept.sum())))
            x = place[at] + self.noise * noise
            far = np.square(place).sum(1) - 2 * x @ place.T
            own = far[np.arange(few), at]
            nats = math.log(count) - np.asarray(logsumexp(-(far - own[:, None]) / (2 * self.noise**2), axis=1))
            along = np.square((noise * tangent[at]).sum(1))
            values.append(nats + (along - 1) / 2)
        joined = np.concatenate(values)
        return float(joined.mean()), float(joined.std() / math.sqrt(len(joined)))

    @property
    def mi_nats(self) -> float:
        return self.long_sum(40_000, 0)[0]

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        angle = rng.uniform(-math.pi, math.pi, n)
        return self.means(angle) + self.noise * rng.standard_normal((n, self.side**2)), angle[:, None]


@dataclass(frozen=True)
class WeakPairs(ManyToMany):
    """`dim` independent pairs of normals, each of the same correlation."""

    correlation: float

    @property
    def mi_nats(self) -> float:
        return -0.5 * self.dim * math.log1p(-(self.correlation**2))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x, noise = rng.standard_normal((2, n, self.dim))
        return x, self.correlation * x + math.sqrt(1 - self.correlation**2) * noise


@dataclass(frozen=True)
class Series(ManyToMany):
    """Two independent series, AR(1) in every column: v_t = memory v_(t-1) + noise, of variance 1.

    Rows follow in time and depend on each other, so that a sample of n is worth about n (1 - memory) / (1 + memory).
    """

    memory: float

    @property
    def mi_nats(self) -> float:
        return 0.0

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        shock = rng.standard_normal((n, 2 * self.dim))
        shock[1:] *= math.sqrt(1 - self.memory**2)
        both = np.asarray(lfilter([1.0], [1.0, -self.memory], shock, axis=0))
        return both[:, : self.dim], both[:, self.dim :]


@dataclass(frozen=True)
class Repeated(ManyToMany):
    """Independent normals of which every row stands so many times in the sample, in random order."""

    times: int

    @property
    def mi_nats(self) -> float:
        return 0.0

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        few = math.ceil(n / self.times)
        x, y = rng.standard_normal((2, few, self.dim))
        row = rng.permutation(np.repeat(np.arange(few), self.times)[:n])
        return x[row], y[row]


@dataclass(frozen=True)
class Determined(Law):
    """x normal and y = x^2, of which there is infinite information: no estimate is right."""

    @property
    def mi_nats(self) -> float:
        return math.inf

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.standard_normal((n, 1))
        return x, np.square(x)


@dataclass(frozen=True)
class Confused(Law):
    """x a uniform label of so many, and y the same label with probability `kept`, else any of the others."""

    labels: int
    kept: float

    @property
    def classes(self) -> tuple[int | None, int | None]:
        return self.labels, self.labels

    @property
    def mi_nats(self) -> float:
        lost = 1 - self.kept
        entropy = -self.kept * math.log(self.kept) - lost * math.log(lost / (self.labels - 1))
        return math.log(self.labels) - entropy

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.integers(self.labels, size=(n, 1), dtype=np.int64)
        step = rng.integers(1, self.labels, size=(n, 1), dtype=np.int64)
        return x, np.where(rng.uniform(size=(n, 1)) < self.kept, x, (x + step) % self.labels)
