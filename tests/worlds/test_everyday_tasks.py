"""The truths of tasks off the benchmark, each by a second way."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp
from scipy.stats import gamma, multivariate_normal, nbinom, norm, poisson

from mmg_diffusers.worlds.tasks import everyday_tasks
from mmg_diffusers.worlds.tasks.cut import Cut, Exclusive, Rectified, WaveOfTwo
from mmg_diffusers.worlds.tasks.everyday import Blob, Counts, Fold, Modes, Rounded, Wave, random_table
from mmg_diffusers.worlds.tasks.maps import Warp

TASKS = everyday_tasks()


def within(log_ratio, truth):
    """Whether the mean of the pointwise information is within four standard errors, which are small beside the truth."""
    mean, error = log_ratio.mean(), log_ratio.std() / math.sqrt(len(log_ratio))
    return abs(mean - truth) < 4 * error and 10 * error < truth


def test_waves_do_not_tell_how_often_they_turn():
    """Against the pointwise information, with the density of y from the arcsine law by adaptive quadrature."""
    law = Wave(20, 0.3)
    assert law.mi_nats == Wave(6, 0.3).mi_nats
    x, y = law.draw(20_000, np.random.default_rng(0))
    grid = np.linspace(-3, 3, 101)
    density = [
        quad(lambda s, at=at: math.exp(-(((at - s) / 0.3) ** 2) / 2) / math.sqrt(1 - s * s), -1, 1)[0] for at in grid
    ]
    density = np.array(density) / (0.3 * math.sqrt(2 * math.pi) * math.pi)
    log_ratio = norm.logpdf(y, np.sin(20 * x), 0.3) - np.log(CubicSpline(grid, density)(y))
    assert within(log_ratio, law.mi_nats)


def test_a_fold_by_its_convolution():
    law = Fold(20, 0.3)

    def bell(v):
        return math.exp(-v * v / 2) / math.sqrt(2 * math.pi)

    def density(y):
        return quad(lambda v: 2 * bell(v) * bell((y - v) / 0.3) / 0.3, 0, 9, points=[max(y, 0.01)], limit=200)[0]

    entropy = quad(lambda y: -density(y) * math.log(density(y)), -2, 8, limit=200)[0]
    assert law.mi_nats == pytest.approx(entropy - float(norm(0, 0.3).entropy()), abs=1e-6)
    # At less noise a fold costs just over one bit of the line's own information.
    line = 0.5 * math.log(1 + 1 / 0.02**2)
    assert Fold(3, 0.02).mi_nats == pytest.approx(line - math.log(2), abs=0.02)


def test_modes_have_their_tables_information():
    """Against the joint density of x and y, which knows nothing of cells."""
    law = Modes(random_table(3, 4, 0.5, 7), 0.06)
    x, y = law.draw(5000, np.random.default_rng(1))
    table = np.array(law.table)
    left, right = norm.pdf(x, np.arange(3), 0.06), norm.pdf(y, np.arange(4), 0.06)
    joint = np.einsum("ni,ij,nj->n", left, table, right)
    log_ratio = np.log(joint / (left @ table.sum(1) * (right @ table.sum(0))))
    assert within(log_ratio, law.mi_nats)
    with pytest.raises(ValueError, match="overlap"):
        Modes(law.table, 0.2)


@pytest.mark.parametrize(("step", "noise"), [(0.5, 0.3), (0.25, 0.02)])
def test_rounded_cells_by_the_bivariate_normal(step, noise):
    law = Rounded(step, noise)
    table = law.table
    assert table.sum() == pytest.approx(1, abs=1e-12)
    middle = len(table) // 2
    both = multivariate_normal([0, 0], [[1, 1], [1, 1 + noise**2]])
    for i, j in ((0, 0), (1, 1), (2, 1), (-1, -1)):
        low, high = (np.array([i, j]) - 0.5) * step, (np.array([i, j]) + 0.5) * step
        assert table[middle + i, middle + j] == pytest.approx(both.cdf(high, lower_limit=low), abs=2e-5)
    x, y = law.draw(20_000, np.random.default_rng(2))
    at = tuple(np.round(values[:, 0] / step).astype(int) + middle for values in (x, y))
    row, column = (table.sum(axis)[place] for axis, place in zip((1, 0), at, strict=True))
    assert within(np.log(table[at] / (row * column)), law.mi_nats)


def test_counts_by_the_pointwise_information():
    law = Counts(1.0, 3.0)
    x, y = law.draw(40_000, np.random.default_rng(3))
    assert y.dtype == np.int64
    assert within(poisson.logpmf(y, x) - nbinom.logpmf(y, 1.0, 0.25), law.mi_nats)
    # And by quadrature over the mean, not its logarithm.
    given, _ = quad(lambda m: gamma(1.0, scale=3.0).pdf(m) * float(poisson(m).entropy()), 1e-9, 90, limit=200)
    y = np.arange(400)
    p = nbinom.pmf(y, 1.0, 0.25)
    assert law.mi_nats == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum() - given, abs=1e-4)


def test_pictures_by_all_their_pixels():
    """Against the plain mean of the pointwise information in all 64 pixels, on a grid of its own."""
    law = Blob(8, 0.5)
    x, angle = law.draw(4000, np.random.default_rng(4))
    grid = np.linspace(-math.pi, math.pi, 300, endpoint=False)
    own = np.square(x - law.means(angle[:, 0])).sum(1)
    far = np.square(x).sum(1)[:, None] - 2 * x @ law.means(grid).T + np.square(law.means(grid)).sum(1)
    log_ratio = math.log(len(grid)) - logsumexp(-(far - own[:, None]) / (2 * 0.5**2), axis=1)
    assert within(log_ratio, law.mi_nats)
    assert Blob(16, 0.5).long_sum(40_000, 0)[1] < 0.002


def test_warps_are_bijections():
    warp = Warp(8, 1)
    v = 2 * np.random.default_rng(5).standard_normal((300, 8))
    np.testing.assert_allclose(warp.undone(warp(v)), v, atol=1e-10)
    task = TASKS["warp-8-8-0.7"]
    x, y = task.sample(4000, 6)
    x, y = Warp(8, 1).undone(x), Warp(8, 2).undone(y)
    found = np.corrcoef(x, y, rowvar=False)[:8, 8:]
    assert np.abs(np.diag(found) - 0.7).max() < 4 * 0.51 / math.sqrt(4000)
    assert task.mi_nats == pytest.approx(-4 * math.log(1 - 0.49))


def test_labels_weak_pairs_and_parity():
    x, y = TASKS["confused-10-0.65"].sample(20_000, 7)
    assert abs((x == y).mean() - 0.65) < 4 * math.sqrt(0.65 * 0.35 / 20_000)
    table = np.full((10, 10), 0.035 / 9)
    np.fill_diagonal(table, 0.065)
    assert TASKS["confused-10-0.65"].mi_nats == pytest.approx((table * np.log(table * 100)).sum(), abs=1e-12)
    x, y = TASKS["weak_pairs-50-0.12"].sample(4000, 8)
    assert abs((x * y).mean() - 0.12) < 4 / math.sqrt(x.size)
    assert TASKS["weak_pairs-50-0.12"].mi_nats == pytest.approx(0.3626, abs=1e-4)
    x, y = TASKS["parity-8"].sample(1000, 9)
    assert (x.prod(1, keepdims=True) == y).all()
    assert abs(y.mean()) < 4 / math.sqrt(1000)


@pytest.mark.parametrize("law", [Cut((-1.2, -0.3, 0.5, 1.4), 0.5), Cut((-0.5, 0.0, 0.5), 0.2)])
def test_cells_by_the_law_of_what_is_cut(law):
    """Against the pointwise information with y's density in a cell by adaptive quadrature."""
    x, y = law.draw(4000, np.random.default_rng(12))
    ends = [-8.0, *law.edges, 8.0]
    grid = np.linspace(-6, 6, 161)
    log_density = []
    for low, high in pairwise(ends):
        inside = [
            quad(lambda v, at=at: norm.pdf(v) * norm.pdf(at, v, law.noise), low, high, points=[np.clip(at, low, high)])[
                0
            ]
            for at in grid
        ]
        log_density.append(CubicSpline(grid, np.log(np.maximum(inside, 1e-300))))
    at = y[:, 0]
    joint = np.array([part(value) for part, value in zip((log_density[int(k)] for k in x[:, 0]), at, strict=True)])
    log_ratio = joint - np.log(law.shares[x[:, 0].astype(int)]) - norm.logpdf(at, 0, math.hypot(1, law.noise))
    assert within(log_ratio, law.mi_nats)
    assert law.shares.sum() == pytest.approx(1)


def test_normals_cut_off_at_zero_by_the_pointwise_information():
    law, r, left = Rectified(0.8), 0.8, 0.6
    x, y = (values[:, 0] for values in law.draw(20_000, np.random.default_rng(13)))
    both = multivariate_normal([0, 0], [[1, r], [r, 1]]).cdf([0, 0])
    log_ratio = np.select(
        [(x == 0) & (y == 0), x == 0, y == 0],
        [math.log(4 * both), np.log(2 * norm.cdf(-r * y / left)), np.log(2 * norm.cdf(-r * x / left))],
        norm.logpdf(y, r * x, left) - norm.logpdf(y),
    )
    assert within(log_ratio, law.mi_nats)
    assert law.mi_nats < -0.5 * math.log(1 - r * r)


def test_what_two_columns_tell_together():
    law = Exclusive(5, 0.3)
    x, y = law.draw(20_000, np.random.default_rng(14))
    differ = x[:, :1] != x[:, -1:]
    log_ratio = norm.logpdf(y, differ, 0.3) - np.log((norm.pdf(y, 0, 0.3) + norm.pdf(y, 1, 0.3)) / 2)
    assert within(log_ratio, law.mi_nats)
    assert np.abs(np.corrcoef(x, y, rowvar=False)[-1, :-1]).max() < 4 / math.sqrt(20_000)
    wave = WaveOfTwo(3, 2, 0.3)
    x, y = wave.draw(20_000, np.random.default_rng(15))
    assert np.abs(np.corrcoef(x, y, rowvar=False)[-1, :-1]).max() < 4 / math.sqrt(20_000)
    assert np.std(y - np.cos(2 * (x[:, [0]] - x[:, [2]]))) == pytest.approx(0.3, abs=0.01)
    assert wave.mi_nats == Wave(1, 0.3).mi_nats


def test_rows_that_are_no_independent_draws():
    x, y = TASKS["series-3-0.99"].sample(20_000, 10)
    for column in (*x.T, *y.T):
        assert np.corrcoef(column[1:], column[:-1])[0, 1] == pytest.approx(0.99, abs=0.005)
    first = np.array([TASKS["series-1-0.999"].sample(2, seed)[0][:, 0] for seed in range(400)])
    assert first.std() == pytest.approx(1, abs=4 / math.sqrt(2 * 800))
    x, y = TASKS["repeated-5-5"].sample(1000, 11)
    rows, counts = np.unique(np.hstack([x, y]), axis=0, return_counts=True)
    assert (len(rows), set(counts)) == (200, {5})
