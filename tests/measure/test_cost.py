"""What a standard error costs, against what is then measured, in a Gaussian world."""

import math

import pytest
import torch

from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure import MMG, StratifiedUniform
from mmg_diffusers.measure.cost import Cost
from tests.conftest import joint

DENOISER = GaussianDenoiser(joint(0.9, 0.5), 2)


def measured(pairs, draws, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(pairs, 4, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(joint(0.9, 0.5)).T
    x, y = drawn[:, :2], drawn[:, 2:]
    return MMG("gap", StratifiedUniform(8), draws)(DENOISER, x, {"y": y}, logsnr_range=(-8, 8), seed=seed), (x, y)


@pytest.fixture(scope="module")
def cost():
    found, _ = measured(400, 4, 1)
    return Cost.of(found, evaluations=found.evaluations, draws=4, seconds=2.0)


def test_the_spread_is_that_of_the_pointwise_information(cost):
    # Of a pair with correlation rho, i(x; y) has the variance rho^2 (its log-density ratio is a difference of two squares).
    truth = 0.9**2 + 0.5**2
    assert cost.spread == pytest.approx(truth, rel=0.25)
    assert cost.evaluations == 2 * 8


def test_the_error_is_the_one_that_is_then_achieved(cost):
    for draws in (2, 16):
        found, _ = measured(300, draws, 2 + draws)
        assert found.mean().stderr == pytest.approx(cost.stderr(300, draws), rel=0.15)
        assert found.stderr.square().mean().item() == pytest.approx(cost.of_a_pair(draws), rel=0.2)
    # More draws bought something, and not all.
    assert math.sqrt(cost.spread / 300) < cost.stderr(300, 16) < 0.8 * cost.stderr(300, 2)


def test_eight_pairs_predict_it_within_their_own_error(cost):
    ratios = []
    for seed in range(20, 30):
        found, _ = measured(8, 4, seed)
        few = Cost.of(found, evaluations=found.evaluations, draws=4)
        ratios.append(few.stderr(300, 4) / cost.stderr(300, 4))
    assert few.uncertainty == pytest.approx(0.267, abs=0.001)
    # Their mean is the truth within 4 errors, and one of them is about as far from it as it says.
    assert abs(sum(ratios) / 10 - 1) < 4 * few.uncertainty / 10**0.5
    assert 0.3 * few.uncertainty < torch.tensor(ratios).std().item() < 2 * few.uncertainty


def test_what_a_wanted_error_takes(cost):
    for stderr, pairs in ((0.08, 300), (0.065, 300)):
        draws = cost.draws_for(stderr, pairs)
        assert cost.stderr(pairs, draws) <= stderr
        assert draws == 1 or cost.stderr(pairs, draws - 1) > stderr
    assert cost.draws_for(0.9 * math.sqrt(cost.spread / 300), 300) is None
    pairs = cost.pairs_for(0.05, 2)
    assert cost.stderr(pairs, 2) <= 0.05 < cost.stderr(pairs - 1, 2)
    each = cost.draws_for_a_pair(0.2)
    assert cost.of_a_pair(each) <= 0.04 < cost.of_a_pair(each - 1)
    assert cost.rows(10, 3) == 10 * 3 * 16
    assert cost.rows_per_second == 400 * 4 * 16 / 2
    assert cost.seconds(10, 3) == pytest.approx(480 / 12800)


def test_it_says_what_cannot_be_had(cost):
    said = cost.says(0.001, 300)
    assert "cannot be had from 300 pairs" in said
    assert f"{cost.pairs_for(0.001):,} pairs with one draw each" in said
    said = cost.says(0.08, 300)
    assert f"takes {cost.draws_for(0.08, 300)} draw(s)" in said
    assert "evaluations, " in said


def test_one_draw_does_not_tell_what_more_would_buy():
    found, _ = measured(50, 1, 3)
    cost = Cost.of(found, evaluations=found.evaluations)
    assert math.isnan(cost.noise)
    assert cost.stderr(50) == pytest.approx(found.mean().stderr)
    assert cost.draws_for(found.mean().stderr * 1.001, 50) == 1
    assert cost.draws_for(found.mean().stderr * 0.9, 50) is None
    assert cost.draws_for_a_pair(0.1) is None


def test_what_cannot_be_planned_is_refused(cost):
    found, _ = measured(1, 2, 3)
    with pytest.raises(ValueError, match="expected two or more"):
        Cost.of(found, evaluations=1, draws=2)
    with pytest.raises(TypeError, match="the pilot is a Tensor"):
        Cost.of(found.nats, evaluations=1)
    with pytest.raises(ValueError, match="stderr is 0; expected a standard error"):
        cost.draws_for(0, 3)
