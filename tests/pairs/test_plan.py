"""Options of a measurement: checked before a network runs, and stamped into runs."""

import json
import math

import numpy as np
import pytest
import torch

from mmg_diffusers.denoisers import GaussianDenoiser
from mmg_diffusers.measure import AtLevels, Simpson, StratifiedUniform, Tolerance, Trapezoid
from mmg_diffusers.pairs import Plan


def test_what_is_left_open_is_decided_by_the_marginal():
    assert Plan().estimator().quadrature == Trapezoid(32)
    assert Plan().estimator().antithetic
    assert Plan().path().quadrature == Trapezoid(65)
    assert Plan().path().prune == 1e-9
    assert Plan(levels=8).path().quadrature == Trapezoid(9)
    assert Plan(levels=[-1, 0.5, 2]).path().quadrature == AtLevels((-1.0, 0.5, 2.0))
    assert Plan(levels=[-1, 0.5, 2]).estimator().quadrature == AtLevels((-1.0, 0.5, 2.0))
    assert Plan(rule=Simpson(5)).estimator().quadrature == Simpson(5)


def test_keywords_change_a_plan():
    plan = Plan(levels=8, seed=3)
    assert Plan.of(plan, seed=4) == Plan(levels=8, seed=4)
    assert Plan.of(None, quadrature=Simpson(5)) == Plan(rule=Simpson(5))
    assert Plan.of(plan) == plan
    assert plan.seed == 3


def test_plain_values_are_kept():
    plan = Plan(levels=np.int64(4), seed=np.uint8(2), tolerance=0.1, logsnr_range=[np.float32(-1), 2])
    assert (type(plan.levels), type(plan.seed)) == (int, int)
    assert plan.tolerance == Tolerance(0.1)
    assert plan.logsnr_range == (-1.0, 2.0)
    assert json.loads(json.dumps(plan.record()))["tolerance"]["stderr"] == 0.1


def test_a_record_tells_what_changes_numbers_and_nothing_else():
    same = [Plan(levels=4), Plan(levels=4, batch_size=3), Plan(rule=Trapezoid(4))]
    assert all(plan.record() == same[0].record() for plan in same)
    changed = {
        "levels": 5,
        "draws": 2,
        "antithetic": False,
        "keep": "pixel",
        "seed": 1,
        "resize": True,
        "integrand": "gap",
    }
    changed |= {"tolerance": 0.1, "logsnr_range": (-1, 1)}
    for name, value in changed.items():
        assert Plan.of(same[0], **{name: value}).record() != same[0].record(), name
    assert Plan(prune=0.1).record(candidates=True) != Plan().record(candidates=True)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"level": 3}, TypeError, "no option 'level'; did you mean 'levels'"),
        ({"colour": 3}, TypeError, "no option 'colour'; expected one of integrand, rule, levels"),
        ({"rule": Simpson(5), "levels": 3}, ValueError, "give one of them"),
        ({"rule": Simpson(5), "quadrature": Simpson(7)}, TypeError, "two names of one option"),
        ({"levels": 0}, ValueError, "levels is 0"),
        ({"levels": [0.0, math.nan]}, ValueError, "a level is nan"),
        ({"draws": 0}, ValueError, "draws is 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"prune": 1.0}, ValueError, "prune is 1.0"),
        ({"antithetic": "no"}, TypeError, "antithetic is a str"),
        ({"logsnr_range": 3}, TypeError, "logsnr_range is a int"),
        ({"keep": "all"}, ValueError, "keep is 'all'"),
        ({"rule": 3}, TypeError, "the rule"),
    ],
)
def test_what_no_measurement_can_have_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        Plan.of(None, **options)


def test_options_of_the_other_marginal_are_refused():
    for options in ({"tolerance": 0.1}, {"antithetic": True}, {"antithetic": False}):
        with pytest.raises(ValueError, match="belongs to the null prompt"):
            Plan(**options).path()
    with pytest.raises(ValueError, match="prune= belongs to candidates"):
        Plan(prune=0.1).estimator()
    with pytest.raises(ValueError, match="draws its levels"):
        Plan(rule=StratifiedUniform(4)).path()


def test_a_plan_is_checked_against_the_model():
    cov = torch.eye(2, dtype=torch.float64)
    model = GaussianDenoiser(cov, 1)
    with pytest.raises(ValueError, match="unbounded"):
        Plan().check(model)
    Plan(logsnr_range=(-3, 3)).check(model)
    Plan(logsnr_range=(-3, 3)).check(model, candidates=4)
    with pytest.raises(ValueError, match="below 1 / 4"):
        Plan(logsnr_range=(-3, 3), prune=0.3).check(model, candidates=4)
