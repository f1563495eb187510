"""Readings against numbers that are known: jackknife errors, shares that arrive, trust under its prior."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from mmg_diffusers.analysis import Classification, Influence
from mmg_diffusers.analysis.influence import jackknife
from mmg_diffusers.measure import CandidateCurve


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = torch.tensor([[1.0, 3.0], [2.0, 5.0], [4.0, -1.0], [9.0, 0.0]], dtype=torch.float64)
    count = len(values)
    left_out = (values.sum(0) - values) / (count - 1)
    torch.testing.assert_close(jackknife(left_out), values.std(0) / count**0.5, rtol=1e-12, atol=0)
    assert jackknife(left_out[:1]).isnan().all()


def test_what_has_arrived_rises_from_none_to_all():
    nats = torch.tensor([[3.0, 2.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    over = Influence(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64), nats, torch.zeros_like(nats))
    share, stderr = over.arrived()
    assert share.tolist() == [0.0, 0.25, 1.0]
    # Without the first pair nothing has arrived at the middle level, without the second a third.
    assert stderr.tolist() == pytest.approx([0.0, math.sqrt(0.5 * 2 * (1 / 6) ** 2), 0.0])


@pytest.mark.parametrize("count", [2, 20])
def test_trust_is_the_maximum_of_its_posterior(count):
    """Every pair is told right, so that the likelihood alone would trust without end; the prior of log trust has deviation 1/2."""
    lead = 2.0
    score = torch.zeros(count, 1, 1, 2, dtype=torch.float64)
    score[..., 0] = lead
    curve = CandidateCurve(score, torch.tensor([0.0, 1.0], dtype=torch.float64), torch.arange(count), 0)
    prior = torch.full((2,), 0.5, dtype=torch.float64)
    trust = Classification(curve, ("a", "b"), prior).calibrate([0] * count, edges=()).trust[0]

    def posterior(log_trust):
        return count * np.log1p(np.exp(-np.exp(log_trust) * lead)) + (log_trust / 0.5) ** 2 / 2

    assert math.log(trust) == pytest.approx(minimize_scalar(posterior, bracket=(0, 1)).x, abs=1e-4)
    assert 1.0 < trust < 3.0
