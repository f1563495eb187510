"""Rules integrate constants exactly, closed forms well, and converge at their order."""

import itertools
import math
from itertools import pairwise

import pytest
import torch

from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.measure.quadrature import (
    AtLevels,
    GaussLegendre,
    Logistic,
    Simpson,
    StratifiedLogistic,
    StratifiedProfile,
    StratifiedUniform,
    Trapezoid,
)
from mmg_diffusers.measure.weights import (
    simpson_over,
    starts,
    trapezoid,
    trapezoid_over,
    trapezoid_within,
    upper_simpson,
    upper_trapezoid,
)
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config


def profile(nodes):
    return StratifiedProfile(nodes, (-12.0, -1.0, 3.0, 13.0), (1.0, 5.0, 2.0))


RULES = [Trapezoid, Simpson, GaussLegendre, StratifiedUniform, StratifiedLogistic, profile]
SD = DiscreteVP.from_alphas(
    alphas_cumprod_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}), "epsilon"
)


def free(levels):
    return levels.double()


def uniform(rows, nodes, seed=0):
    return torch.rand(rows, nodes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curve(levels):
    """The gap of a Gaussian coordinate of unit signal that is half explained; smooth and lopsided."""
    snr = levels.exp()
    return snr / (1 + snr) - 0.5 * snr / (1 + 0.5 * snr)


def antiderivative(level):
    return math.log1p(math.exp(level)) - math.log1p(0.5 * math.exp(level))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("snap", "low", "high"), [(free, -10.0, 12.0), (SD.snap, *SD.logsnr_range)])
@pytest.mark.parametrize("nodes", [2, 7, 64, 400])
def test_constants_are_exact(rule, snap, low, high, nodes):
    quadrature = rule(nodes)
    bounds = quadrature.bounds(low, high)
    levels, weight = quadrature.place(low, high, snap, uniform(5, nodes))
    torch.testing.assert_close(weight.sum(-1), torch.full((5,), bounds[1] - bounds[0], dtype=torch.float64))
    assert levels.shape == weight.shape


def test_levels_of_ones_own_choice():
    asked = AtLevels((-5.0, -4.0, -3.5, 0.0, 2.0, 6.0))
    assert asked.nodes == 6
    levels, weight = asked.place(*asked.bounds(-10.0, 12.0), free, uniform(3, 6))
    torch.testing.assert_close(levels[0], torch.tensor(asked.levels, dtype=torch.float64))
    torch.testing.assert_close((weight * levels).sum(-1), torch.full((3,), (36.0 - 25.0) / 2, dtype=torch.float64))
    steps = torch.tensor(AtLevels.widening(-8.0, 6.0, 60).levels).diff()
    assert float(steps[-1]) == pytest.approx((1 + math.exp(-9.5)) * float(steps[-5:].mean()), rel=1e-3)
    assert float(steps[0]) > 10 * float(steps[-1])
    snapped, weight = asked.place(*asked.bounds(*SD.logsnr_range), SD.snap, uniform(1, 6))
    assert torch.isin(snapped, SD.levels).all()
    assert float(weight.sum()) == pytest.approx(11.0)


# Ends that lie between the levels of Stable Diffusion, which stand 0.7 apart at the clean end: below the nearest, and above it.
BETWEEN = (-4.9993, 2.0, 6.6, 6.85)


def own_levels(nodes):
    return lambda low, high: AtLevels((low, *sorted({(3 * low + high) / 4, (low + high) / 2}), high))


@pytest.mark.parametrize("rule", [*RULES, own_levels])
@pytest.mark.parametrize("nodes", [3, 16, 65])
def test_the_range_that_was_asked_for_is_integrated_and_adjoining_ranges_add_up(rule, nodes):
    def length(low, high):
        quadrature = rule(nodes)(low, high) if rule is own_levels else rule(nodes)
        ends = quadrature.bounds(low, high)
        _, weight = quadrature.place(*ends, SD.snap, uniform(1, quadrature.nodes))
        assert float(weight.sum()) == pytest.approx(ends[1] - ends[0], rel=1e-12)
        return float(weight.sum())

    for low, middle, high in itertools.combinations(BETWEEN, 3):
        if (middle, high) == (6.6, 6.85):
            continue  # one level only
        assert length(low, middle) + length(middle, high) == pytest.approx(length(low, high), rel=1e-12)
        assert length(low, high) == pytest.approx(high - low, rel=1e-12)


@pytest.mark.parametrize(("rule", "degree"), [(Trapezoid, 1), (Simpson, 2)])
def test_an_end_between_two_levels(rule, degree):
    """An end inside of the levels: polynomials up to the rule's degree are exact. One beyond them: the last value goes on."""
    known = torch.tensor([0.0, 1.0, 2.0, 4.0, 5.0], dtype=torch.float64)

    def snap(levels):
        return known[(levels[..., None] - known).abs().argmin(-1)]

    levels, weight = rule(40).place(0.3, 4.8, snap, uniform(1, 40))
    assert torch.equal(levels[0], known)
    for power in range(degree + 1):
        exact = (4.8 ** (power + 1) - 0.3 ** (power + 1)) / (power + 1)
        assert float((weight * levels**power).sum()) == pytest.approx(exact)
    levels, weight = rule(40).place(0.7, 4.4, snap, uniform(1, 40))
    assert levels[0].tolist() == [1.0, 2.0, 4.0]
    for power in range(degree + 1):
        exact = 0.3 * 1 + (4.0 ** (power + 1) - 1) / (power + 1) + 0.4 * 4.0**power
        assert float((weight * levels**power).sum()) == pytest.approx(exact)


def test_logistic_is_exact_on_constants_in_expectation():
    # The expectation over its uniform numbers, by a midpoint rule.
    nodes = 200_000
    quadrature = Logistic(nodes, loc=1.0, scale=1.5, clip=4.0)
    even = ((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)[None]
    _, weight = quadrature.place(-10, 12, free, even)
    low, high = quadrature.bounds(-10, 12)
    assert (low, high) == (-5.0, 7.0)
    assert float(weight.sum()) == pytest.approx(high - low, rel=1e-6)


def error_at(rule, nodes, rows=1):
    levels, weight = rule(nodes).place(-10, 12, free, uniform(rows, nodes))
    truth = antiderivative(12) - antiderivative(-10)
    return float(((curve(levels) * weight).sum(-1) - truth).square().mean().sqrt())


@pytest.mark.parametrize(
    ("rule", "rows", "nodes", "order"),
    [
        # The trapezoid rule is better than its order where the curve's ends are flat, hence the few nodes.
        (Trapezoid, 1, 5, 2.0),
        (Simpson, 1, 17, 4.0),
        (StratifiedUniform, 4000, 64, 1.5),
        (StratifiedLogistic, 4000, 64, 1.5),
        (lambda n: Logistic(n, loc=1.0, scale=3.0, clip=12.0), 4000, 64, 0.5),
    ],
)
def test_order_by_halving(rule, rows, nodes, order):
    coarse, fine = error_at(rule, nodes, rows), error_at(rule, 2 * nodes, rows)
    assert math.log2(coarse / fine) > order - 0.15


def test_trapezoid_order_on_a_curve_that_has_not_decayed():
    def error(nodes):
        levels, weight = Trapezoid(nodes).place(0, 2, free, uniform(1, nodes))
        return abs(float((levels.exp() * weight).sum()) - (math.e**2 - 1))

    assert math.log2(error(9) / error(17)) == pytest.approx(2.0, abs=0.02)


def test_gauss_legendre_converges_geometrically():
    errors = [error_at(GaussLegendre, nodes) for nodes in (8, 16, 32)]
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 64


def test_simpson_order_on_a_curve_that_has_not_decayed():
    def error(nodes):
        levels, weight = Simpson(nodes).place(0, 2, free, uniform(1, nodes))
        return abs(float((levels.exp() * weight).sum()) - (math.e**2 - 1))

    assert math.log2(error(9) / error(17)) == pytest.approx(4.0, abs=0.1)
    # Steps that differ in width lose one order: parabolas are still exact.
    levels = torch.tensor([-1.0, -0.2, 0.1, 0.9, 2.0], dtype=torch.float64)
    for power in range(3):
        exact = (2.0 ** (power + 1) - levels ** (power + 1)) / (power + 1)
        torch.testing.assert_close(upper_simpson(levels) @ levels**power, exact)


def test_integrals_from_every_level_upwards():
    levels = torch.tensor([-5.0, -4.0, -3.5, 0.0, 2.0, 6.0], dtype=torch.float64)
    for upper in (upper_trapezoid(levels), upper_simpson(levels)):
        torch.testing.assert_close(upper.sum(1), levels[-1] - levels)
        torch.testing.assert_close(upper @ levels, (levels[-1] ** 2 - levels**2) / 2)
    torch.testing.assert_close(upper_trapezoid(levels)[0], trapezoid(levels))
    torch.testing.assert_close(upper_trapezoid(levels)[2, 2:], trapezoid(levels[2:]))
    assert upper_trapezoid(levels)[2, :2].tolist() == [0.0, 0.0]
    # Ends beside the first and the last level.
    for low, high in ((-4.7, 5.5), (-5.2, 6.1), (-4.7, 6.1)):
        begin = starts(levels, low, high)
        for upper in (upper_trapezoid(levels, low, high), upper_simpson(levels, low, high)):
            torch.testing.assert_close(upper.sum(1), high - begin)
        torch.testing.assert_close(upper_trapezoid(levels, low, high)[0], trapezoid_over(levels, low, high))
        torch.testing.assert_close(upper_simpson(levels, low, high)[0], simpson_over(levels, low, high))
        for row, start in zip(upper_trapezoid(levels, low, high)[:-1], begin, strict=False):
            torch.testing.assert_close(row, trapezoid_within(levels, float(start), high, (low, high)))
        bands = [trapezoid_within(levels, *band, (low, high)) for band in ((-math.inf, 1.0), (1.0, math.inf))]
        torch.testing.assert_close(sum(bands), trapezoid_over(levels, low, high))


def test_bands_of_the_trapezoid_add_up():
    levels = torch.tensor([-5.0, -4.0, -3.5, 0.0, 2.0, 6.0], dtype=torch.float64)
    edges = (-5.0, -4.3, -4.1, 1.0, 2.0, 6.0)
    bands = [trapezoid_within(levels, low, high) for low, high in pairwise(edges)]
    torch.testing.assert_close(sum(bands), trapezoid(levels))
    for band, (low, high) in zip(bands, pairwise(edges), strict=True):
        # Straight lines are integrated exactly, wherever the band ends.
        assert float(band.sum()) == pytest.approx(high - low)
        assert float(band @ levels) == pytest.approx((high**2 - low**2) / 2)
    assert int((bands[1] != 0).sum()) == 2
    torch.testing.assert_close(trapezoid_within(levels, -math.inf, -4.3), bands[0])
    torch.testing.assert_close(trapezoid_within(levels, -math.inf, math.inf), trapezoid(levels))
    for low, high in ((-6.0, 0.0), (0.0, 7.0), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match=r"not a rising part of the log-SNR -5\.000 to 6\.000"):
            trapezoid_within(levels, low, high)


@pytest.mark.parametrize("rule", [Trapezoid, Simpson, GaussLegendre])
def test_network_levels_keep_the_accuracy(rule):
    """On a network's own levels, 32 nodes still integrate the closed form to 1e-3 nats."""
    low, high = SD.logsnr_range
    levels, weight = rule(32).place(low, high, SD.snap, uniform(1, 32))
    truth = antiderivative(high) - antiderivative(low)
    assert float((curve(levels) * weight).sum()) == pytest.approx(truth, abs=1e-3)
    assert torch.isin(levels, SD.levels).all()
