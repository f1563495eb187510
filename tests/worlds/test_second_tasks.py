"""The truths of the second set of tasks, each by a second way."""

import math

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import gamma, nbinom, norm

from mmg_diffusers.worlds.tasks import second_tasks
from mmg_diffusers.worlds.tasks.maps import Warp
from mmg_diffusers.worlds.tasks.second import (
    Beside,
    Checkerboard,
    Overdispersed,
    Product,
    Ring,
    Rolled,
    Saw,
    Scaled,
    Square,
    ZeroTogether,
    cauchy,
    exponential,
)
from tests.worlds.test_everyday_tasks import within

TASKS = second_tasks()


def test_square_waves_and_saws():
    law = Square(7, 0.6)
    x, y = law.draw(40_000, np.random.default_rng(0))
    up = np.sign(np.sin(7 * x))
    assert within(norm.logpdf(y, up, 0.6) - np.log((norm.pdf(y, 1, 0.6) + norm.pdf(y, -1, 0.6)) / 2), law.mi_nats)
    saw = Saw(5, 0.1)
    x, y = saw.draw(40_000, np.random.default_rng(1))
    log_ratio = norm.logpdf(y, 5 * x % 1, 0.1) - np.log(norm.cdf(y / 0.1) - norm.cdf((y - 1) / 0.1))
    assert within(log_ratio, saw.mi_nats)


def test_a_ring_by_the_double_integral():
    law = Ring(0.4)
    angles = np.linspace(-math.pi, math.pi, 120, endpoint=False)

    def alone(x):
        return norm.pdf(x, np.cos(angles), 0.4).mean()

    def both(x, y):
        return (norm.pdf(x, np.cos(angles), 0.4) * norm.pdf(y, np.sin(angles), 0.4)).mean()

    def told(x, y):
        p = both(x, y)
        return p * math.log(p / (alone(x) * alone(y)))

    # A quarter of the plane says all.
    truth = 4 * dblquad(told, 0, 3.2, 0, 3.2, epsabs=1e-4)[0]
    assert law.mi_nats == pytest.approx(truth, abs=2e-3)


def test_a_checkerboard_has_one_bit():
    x, y = Checkerboard(4).draw(20_000, np.random.default_rng(2))
    assert ((np.floor(x) + np.floor(y)) % 2 == 0).all()
    counts = np.histogram2d(x[:, 0], y[:, 0], bins=4, range=[[0, 4], [0, 4]])[0]
    seen = counts[counts > 0]
    assert len(seen) == 8
    assert np.abs(seen / 20_000 - 1 / 8).max() < 4 * math.sqrt(7 / 64 / 20_000)


def test_widths_that_depend():
    law = Scaled(0.8)
    x, y = law.draw(20_000, np.random.default_rng(3))
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    density = norm.pdf(y, 0, np.exp(0.8 * nodes)) @ weights / weights.sum()
    assert within(norm.logpdf(y, 0, np.exp(0.8 * x))[:, 0] - np.log(density), law.mi_nats)


def test_a_product_by_its_convolution():
    law = Product(2, 0.3)
    x, y = law.draw(20_000, np.random.default_rng(4))
    a = np.linspace(-9, 9, 361)  # smooth at 0.3, which is six steps of it
    density = norm.pdf(y, 0, np.sqrt(a**2 + 0.09)) @ norm.pdf(a) * (a[1] - a[0])
    log_ratio = norm.logpdf(y, x[:, :1] * x[:, 1:], 0.3)[:, 0] - np.log(density)
    assert within(log_ratio, law.mi_nats)
    assert Product(6, 0.3).mi_nats == law.mi_nats


def test_columns_that_are_zero_together():
    law = ZeroTogether(((0.5, 0.1), (0.1, 0.3)), 0.6)
    x, y = (values[:, 0] for values in law.draw(40_000, np.random.default_rng(5)))
    table, margins = np.array(law.table), (0.4, 0.4)
    cell = (x > 0).astype(int), (y > 0).astype(int)
    share = [np.where(c, m, 1 - m) for c, m in zip(cell, margins, strict=True)]
    log_ratio = np.log(table[cell] / (share[0] * share[1]))
    both = (x > 0) & (y > 0)
    v, w = np.log(x[both]), np.log(y[both])
    log_ratio[both] += norm.logpdf(w, 0.6 * v, 0.8) - norm.logpdf(w)
    assert within(log_ratio, law.mi_nats)


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_counts_that_scatter_more_by_quadrature_over_the_mean(size):
    law = Overdispersed(2.0, 2.0, size)
    x, y = law.draw(20_000, np.random.default_rng(6))
    assert y.dtype == np.int64
    most = int(y.max()) + 1

    # By the trapezoidal rule over the mean, beyond which 1e-11 of it is left; it meets adaptive quadrature where that is slow.
    means, step = np.linspace(0, 60, 12_001, retstep=True)
    counts = np.arange(min(most, 60))
    over_all = step * gamma(2.0, scale=2.0).pdf(means) @ nbinom.pmf(counts, size, size / (size + means[:, None]))
    few = quad(lambda m: gamma.pdf(m, 2.0, scale=2.0) * nbinom.pmf(3, size, size / (size + m)), 0, np.inf)[0]
    assert over_all[3] == pytest.approx(few, rel=1e-5)
    seen = y[:, 0] < len(over_all)
    log_ratio = nbinom.logpmf(y, size, size / (size + x))[seen, 0] - np.log(over_all[y[seen, 0]])
    assert seen.mean() > 0.999
    assert within(log_ratio, law.mi_nats)


def test_maps_are_bijections_and_other_columns_tell_nothing():
    v = np.random.default_rng(7).standard_normal((2000, 1))
    for change in (exponential, cauchy):
        assert np.array_equal(np.argsort(change(v)[:, 0]), np.argsort(v[:, 0]))
    rolled = Rolled(2.0)(v)
    radius = np.hypot(*rolled.T)
    assert np.array_equal(np.argsort(radius), np.argsort(v[:, 0]))
    assert radius.max() / radius.min() > 3
    law = Beside(Ring(0.1), (7, 3))
    x, y = law.draw(5000, np.random.default_rng(8))
    assert law.dims == (x.shape[1], y.shape[1]) == (8, 4)
    assert np.abs(np.hypot(x[:, -1], y[:, -1]) - 1).mean() < 0.2
    others = np.corrcoef(np.square(np.hstack([x, y])), rowvar=False)
    assert np.abs(others[7, :7]).max() < 5 / math.sqrt(5000) < abs(others[7, -1])
    x, y = TASKS["warp-6-6-0.8"].sample(4000, 9)
    found = np.corrcoef(Warp(6, 3).undone(x), Warp(6, 4).undone(y), rowvar=False)[:6, 6:]
    assert np.abs(np.diag(found) - 0.8).max() < 4 * 0.36 / math.sqrt(4000)
