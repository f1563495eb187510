"""A second set of laws off the benchmark, of the kinds of `everyday` and some more, with other shapes and parameters.

Square waves and saws, a ring, a checkerboard, products, spreads that depend, rolled planes, heavy tails, columns that are zero
together, counts that scatter more than Poisson's, labels that are rare, and columns that tell nothing beside those that do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, i0e, ndtr
from scipy.stats import nbinom

from mmg_diffusers.worlds.tasks.everyday import (
    Blob,
    Confused,
    Fold,
    Modes,
    Repeated,
    Rounded,
    Series,
    Wave,
    WeakPairs,
    random_table,
    table_information,
)
from mmg_diffusers.worlds.tasks.laws import (
    REACH,
    Array,
    JointTable,
    LabelledNormal,
    Law,
    ManyToOne,
    Multinormal,
    Pair,
    Student,
    normal,
)
from mmg_diffusers.worlds.tasks.maps import Map, Warp, identity


def _entropy(density: Array, step: float) -> float:
    seen = density > 0
    return -float((density[seen] * np.log(density[seen])).sum()) * step


def _noise(sd: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e * sd**2)


@dataclass(frozen=True)
class Square(Law):
    """x uniform on [-pi, pi] and y = sign(sin(turns x)) + N(0, noise^2), for a whole number of turns."""

    turns: int
    noise: float

    @property
    def mi_nats(self) -> float:
        return LabelledNormal((0.5, 0.5), ((-1.0,), (1.0,)), (self.noise, self.noise)).mi_nats

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.uniform(-math.pi, math.pi, (n, 1))
        return x, np.sign(np.sin(self.turns * x)) + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class Saw(Law):
    """x uniform on [0, 1] and y = turns x modulo 1, in N(0, noise^2)."""

    turns: int
    noise: float

    @property
    def mi_nats(self) -> float:
        step = self.noise / 32
        y = np.arange(-REACH * self.noise, 1 + REACH * self.noise, step)
        return _entropy(ndtr(y / self.noise) - ndtr((y - 1) / self.noise), step) - _noise(self.noise)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.uniform(size=(n, 1))
        return x, self.turns * x % 1 + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class Ring(Law):
    """A point on the unit circle in N(0, noise^2) of both coordinates, x the one and y the other.

    The truth is 2 h(x) - h(x, y); of the second only the distance from the middle counts, which is Rice's.
    """

    noise: float

    @property
    def mi_nats(self) -> float:
        alone = Wave(1, self.noise).mi_nats + _noise(self.noise)
        step = self.noise / 64
        r = np.arange(step / 2, 1 + REACH * self.noise, step)
        # i0e holds the exponential that I0 grows by.
        log_density = np.log(i0e(r / self.noise**2)) - (r - 1) ** 2 / (2 * self.noise**2)
        log_density -= math.log(2 * math.pi * self.noise**2)
        both = -float((2 * math.pi * r * np.exp(log_density) * log_density).sum()) * step
        return 2 * alone - both

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        angle = rng.uniform(-math.pi, math.pi, (n, 1))
        noise = self.noise * rng.standard_normal((2, n, 1))
        return np.cos(angle) + noise[0], np.sin(angle) + noise[1]


@dataclass(frozen=True)
class Checkerboard(Law):
    """Uniform on the black cells of a board of an even number of rows and columns: one bit, and no correlation."""

    side: int

    @property
    def mi_nats(self) -> float:
        return math.log(2)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        row, half = rng.integers(self.side, size=(n, 1)), rng.integers(self.side // 2, size=(n, 1))
        inside = rng.uniform(size=(2, n, 1))
        return row + inside[0], 2 * half + row % 2 + inside[1]


@dataclass(frozen=True)
class Scaled(Law):
    """x normal and y = exp(spread x) times a normal of its own: x tells how wide y is, and never where.

    The sign of y tells nothing, and log |y| is a normal and log |noise| added: a convolution on an even grid.
    """

    spread: float

    @property
    def mi_nats(self) -> float:
        step = 0.005
        at = np.arange(-40, 12, step)
        alone = 2 * normal(np.exp(at), 1.0) * np.exp(at)
        reach = math.ceil(REACH * self.spread / step)
        bell = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * step / self.spread))
        bell /= bell.sum()
        return _entropy(np.convolve(alone, bell).astype(float), step) - _entropy(alone, step)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x, noise = rng.standard_normal((2, n, 1))
        return x, np.exp(self.spread * x) * noise


@dataclass(frozen=True)
class Product(ManyToOne):
    """x of `dim` normals, and y the product of the first two in N(0, noise^2): given the one, y is normal of known width."""

    noise: float

    @property
    def mi_nats(self) -> float:
        a = np.linspace(-REACH, REACH, 6001)
        mass = normal(a, 1.0) * (a[1] - a[0])
        height = mass / np.sqrt(2 * math.pi * (np.square(a) + self.noise**2))
        narrow = -0.5 / (np.square(a) + self.noise**2)
        # Even in the inverse hyperbolic sine of y, which is sharp at 0 and has long tails.
        place = np.linspace(-12, 12, 4001)
        y = self.noise * np.sinh(place)
        density = np.array([height @ np.exp(narrow * value**2) for value in y])
        seen = density > 0
        told = np.where(seen, density * np.log(np.where(seen, density, 1)), 0) * self.noise * np.cosh(place)
        return -float(told.sum()) * (place[1] - place[0]) - _noise(self.noise)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.standard_normal((n, self.dim))
        return x, x[:, :1] * x[:, 1:2] + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class ZeroTogether(Law):
    """Two columns that are exactly 0, or log-normal, by a 2 x 2 table; where both are not, their logarithms are correlated.

    Whether a column is 0 is known from it, so that the truth is the table's and the normals' where both are seen.
    """

    table: tuple[tuple[float, float], tuple[float, float]]
    correlation: float

    @property
    def mi_nats(self) -> float:
        return table_information(np.array(self.table)) - 0.5 * self.table[1][1] * math.log1p(-(self.correlation**2))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        cell = rng.choice(4, size=(n, 1), p=np.ravel(self.table))
        v, noise = rng.standard_normal((2, n, 1))
        other = self.correlation * v + math.sqrt(1 - self.correlation**2) * noise
        return np.where(cell > 1, np.exp(v), 0.0), np.where(cell % 2 == 1, np.exp(other), 0.0)


@dataclass(frozen=True)
class Overdispersed(Law):
    """x gamma-distributed, and y a negative binomial count of mean x and that size: geometric if the size is 1.

    The truth is H(y) - E H(y | x), on even grids in log x.
    """

    shape: float
    scale: float
    size: float

    @property
    def mi_nats(self) -> float:
        log_x = np.linspace(math.log(self.scale) - 40 / self.shape, math.log(self.scale * (self.shape + 60)), 401)
        x = np.exp(log_x)
        weight = np.exp(self.shape * log_x - x / self.scale - gammaln(self.shape) - self.shape * math.log(self.scale))
        weight *= log_x[1] - log_x[0]
        most = int(nbinom.isf(1e-13, self.size, self.size / (self.size + self.scale * (self.shape + 30)))) + 2
        log_p = nbinom.logpmf(np.arange(most), self.size, self.size / (self.size + x[:, None]))
        p = np.exp(log_p)
        given = -(p * np.maximum(log_p, -700)).sum(1)
        return _entropy(weight @ p, 1.0) - float(weight @ given)

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.gamma(self.shape, self.scale, (n, 1))
        return x, rng.negative_binomial(self.size, self.size / (self.size + x)).astype(np.int64)


@dataclass(frozen=True)
class Beside(Law):
    """The columns of another law among normal ones that tell nothing: so many before those of x, and of y."""

    law: Law
    before: tuple[int, int]

    @property
    def dims(self) -> tuple[int, int]:
        return self.law.dims[0] + self.before[0], self.law.dims[1] + self.before[1]

    @property
    def mi_nats(self) -> float:
        return self.law.mi_nats

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x, y = self.law.draw(n, rng)
        before = [rng.standard_normal((n, k)) for k in self.before]
        return np.hstack([before[0], x]), np.hstack([before[1], y])


@dataclass(frozen=True)
class Changed(Law):
    """Another law after a bijection of either variable, which keeps the information; then they have so many columns."""

    law: Law
    x: Map
    y: Map
    columns: tuple[int, int]

    @property
    def dims(self) -> tuple[int, int]:
        return self.columns

    @property
    def mi_nats(self) -> float:
        return self.law.mi_nats

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x, y = self.law.draw(n, rng)
        return self.x(x), self.y(y)


@dataclass(frozen=True)
class Rolled:
    """A normal column rolled up in the plane so many times, at a distance from the middle that grows with the angle."""

    turns: float

    def __call__(self, v: Array) -> Array:
        angle = math.pi * (1 + 2 * self.turns * ndtr(v))
        return np.hstack([angle * np.cos(angle), angle * np.sin(angle)]) / 10


def exponential(v: Array) -> Array:
    """A normal column as a log-normal one."""
    return np.exp(1.5 * v)


def cauchy(v: Array) -> Array:
    """A normal column as a Cauchy one."""
    return np.tan(math.pi * (ndtr(v) - 0.5))


def zipf(rows: int, columns: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """A table of probabilities whose rows are the rarer the later they come, as words are."""
    table = np.array(random_table(rows, columns, 0.3, seed))
    table = table / table.sum(1, keepdims=True) / np.arange(1, rows + 1)[:, None]
    return tuple(map(tuple, (table / table.sum()).tolist()))


def second_laws() -> tuple[tuple[str, str, Law], ...]:
    """The key, the name and the law of every task of the second set."""
    one = WeakPairs(1, 0.8)
    return (
        ("wave-11-0.2", "sin(11 x) in noise of 0.2", Wave(11, 0.2)),
        ("square-7-0.3", "Square wave of 7 turns in noise of 0.3", Square(7, 0.3)),
        ("saw-5-0.1", "Saw of 5 turns in noise of 0.1", Saw(5, 0.1)),
        ("ring-0.1", "A circle in noise of 0.1", Ring(0.1)),
        ("checkerboard-4", "4 x 4 checkerboard", Checkerboard(4)),
        ("scaled-0.8", "Normals whose width depends", Scaled(0.8)),
        ("product-2-0.3", "x_1 x_2 in noise of 0.3", Product(2, 0.3)),
        ("product-6-0.3", "x_1 x_2 of six columns in noise of 0.3", Product(6, 0.3)),
        ("modes-6-6-0.04", "6 x 6 table of modes of width 0.04", Modes(random_table(6, 6, 0.5, 2), 0.04)),
        ("fold-12-0.05", "One column of 12, folded, in noise of 0.05", Fold(12, 0.05)),
        ("multinormal-dense-30-30-0.5", "Multinormal 30 x 30 (dense)", Multinormal.dense(30, 0.5)),
        ("student-identity-4-4-3", "Student-t 4 x 4 (dof=3)", Student(4, 4, 3)),
        ("rounded-0.2-0.05", "Strong pair, both columns rounded to 0.2", Rounded(0.2, 0.05)),
        ("rounded-0.05-0.1", "Pair in noise of 0.1, both columns rounded to 0.05", Rounded(0.05, 0.1)),
        ("rounded-0.02-0.01", "Strong pair, both columns rounded to 0.02", Rounded(0.02, 0.01)),
        ("confused-7-0.5", "Two columns of 7 labels", Confused(7, 0.5)),
        ("confused-25-0.4", "Two columns of 25 labels", Confused(25, 0.4)),
        ("zipf-40-6", "40 labels, most of them rare, and 6", JointTable(zipf(40, 6, 3))),
        ("overdispersed-2-2-3", "Gamma means and negative binomial counts", Overdispersed(2.0, 2.0, 3.0)),
        ("overdispersed-0.5-8-1", "Gamma means and geometric counts", Overdispersed(0.5, 8.0, 1.0)),
        ("zero_together-0.6", "Two columns, zero together or log-normal", ZeroTogether(((0.5, 0.1), (0.1, 0.3)), 0.6)),
        ("classes-1", "Two classes of overlapping normals", LabelledNormal((0.7, 0.3), ((0.0,), (1.0,)), (1.0, 1.0))),
        ("classes-width", "Two classes of one mean", LabelledNormal((0.5, 0.5), ((0.0,), (0.0,)), (1.0, 3.0))),
        (
            "classes-rare",
            "Three classes in the plane, two of them rare",
            LabelledNormal((0.94, 0.04, 0.02), ((0.0, 0.0), (3.0, 0.0), (0.0, 3.0)), (1.0, 0.5, 0.5)),
        ),
        ("rolled-2", "A column rolled up twice", Changed(one, Rolled(2.0), identity, (2, 1))),
        ("tails-1", "Log-normal and Cauchy", Changed(one, exponential, cauchy, (1, 1))),
        (
            "tails-4",
            "Log-normal and Cauchy, four pairs of columns",
            Changed(WeakPairs(4, 0.6), exponential, cauchy, (4, 4)),
        ),
        ("beside-0-9", "A wave and nine other columns in y", Beside(Wave(2, 0.3), (0, 9))),
        ("beside-7-7", "A circle among eight columns of either", Beside(Ring(0.1), (7, 7))),
        ("blob-12-0.5", "12 x 12 pictures of a blob in noise of 0.5, and its angle", Blob(12, 0.5)),
        ("blob-20-0.6", "20 x 20 pictures of a blob in noise of 0.6, and its angle", Blob(20, 0.6)),
        (
            "warp-6-6-0.8",
            "Random invertible networks of 6",
            Changed(WeakPairs(6, 0.8), Warp(6, 3), Warp(6, 4), (6, 6)),
        ),
        ("series-1-0.9", "Independent series, memory 0.9", Series(1, 0.9)),
        ("series-2-0.995", "Independent series 2 x 2, memory 0.995", Series(2, 0.995)),
        ("repeated-2-3", "Independent 2 x 2, every row three times", Repeated(2, 3)),
        ("repeated-4-7", "Independent 4 x 4, every row seven times", Repeated(4, 7)),
        (
            "unrelated-3-3",
            "Independent, log-normal and Cauchy",
            Changed(WeakPairs(3, 0.0), exponential, cauchy, (3, 3)),
        ),
    )
