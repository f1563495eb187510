"""Values made ready: columns near to normal, white variables, labels as indicators, and the law of what comes out."""

import numpy as np
import pytest
import torch

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays.columns import Column
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.values import as_array
from mmg_diffusers.worlds.tasks import get_task
from tests.arrays.test_estimate import correlated


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).standard_t(1.5, 20000),
        np.random.default_rng(1).uniform(3, 5, 20000),
        np.exp(2 * np.random.default_rng(2).standard_normal(20000)),
        np.random.default_rng(3).standard_normal(20000) ** 3,
    ],
    ids=["tails", "uniform", "lognormal", "cubes"],
)
def test_ranks_become_normal_and_stay_in_order(values):
    column = Column.fit(values[:10000])
    assert column.ranks is not None
    fresh = column(values[10000:])
    assert abs(fresh.mean()) < 0.05
    assert abs(fresh.std() - 1) < 0.05
    assert abs((fresh**4).mean() - 3) < 0.5
    order = np.argsort(values[10000:])
    assert (np.diff(fresh[order]) >= 0).all()
    assert np.abs(fresh).max() < 7


def test_normal_columns_stay_linear():
    column = Column.fit(5 + 2 * np.random.default_rng(0).standard_normal(20000))
    assert column.ranks is None
    assert column(np.array([5.0]))[0] == pytest.approx(0, abs=0.05)


def test_two_variables_meet_in_their_canonical_basis():
    task = get_task("multinormal-sparse-3-3-2-2.0")
    x, y = task.sample(20000, 0)
    found = Preprocessing.fit({"x": x, "y": y})
    fresh = found({"x": x, "y": y})
    joined = torch.cat([fresh["x"], fresh["y"]], 1)
    torch.testing.assert_close(joined.T @ joined / 20000, found.covariance, atol=0.03, rtol=0)
    exact = -0.5 * np.log(1 - found.correlations**2).sum()
    assert exact == pytest.approx(task.mi_nats, abs=0.03)
    assert found.correlations[2] == 0  # noise


def test_labels_become_indicators():
    labels = np.array([3, 5, 9] * 100)
    found = Preprocessing.fit({"x": np.random.default_rng(0).standard_normal((300, 1)), "y": labels})
    assert found.sizes == {"x": 1, "y": 2}
    indicators = found({"y": labels})["y"]
    torch.testing.assert_close(indicators.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    # The last class is that of which neither indicator speaks.
    one, two, last = (found({"y": np.array([label])})["y"][0] for label in (3, 5, 9))
    torch.testing.assert_close(one + two + last, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert float((one - two).abs().max()) > 0.9
    with pytest.raises(ValueError, match="label 4"):
        found({"y": np.array([4])})


def test_values_that_repeat_are_mapped_to_the_middle_of_their_ranks():
    """Three equally likely values take the ranks 1/6, 1/2 and 5/6: a map that favours one end is not symmetric."""
    column = Column.fit(np.tile([-1.0, 0.0, 1.0], 400))
    low, middle, high = column(np.array([-1.0, 0.0, 1.0]))
    assert middle == pytest.approx(0, abs=1e-9)
    assert high == pytest.approx(-low, abs=1e-9)
    assert high == pytest.approx(0.9674, abs=1e-4)  # the normal quantile of 5/6


def test_tails_go_on_along_their_side():
    """Beyond the outermost knots a column is a line in arsinh, with the slope of its outermost eighth on that side."""
    values = np.exp(1.5 * np.random.default_rng(2).standard_normal(20000))
    column = Column.fit(values)
    low, high = column.ends

    def at(place):
        return column(column.mean + column.deviation * np.sinh(np.array(place)))

    eighth = (high - low) / 8
    slopes = []
    for end, inner, beyond in ((low, low + eighth, low - 2.0), (high, high - eighth, high + 2.0)):
        one, two, far = at([end, inner, beyond])
        slopes.append((one - two) / (end - inner))
        assert far == pytest.approx(one + slopes[-1] * (beyond - end), abs=1e-6)
    assert slopes[0] > 2 * slopes[1] > 0


def test_three_variables_keep_their_law():
    rng = np.random.default_rng(0)
    c, a, b, d = rng.standard_normal((4, 20000, 1))
    data = {"x": np.concatenate([c + a, c + 3 * d], 1), "y": c + a + b, "c": c}
    ready = Preprocessing.fit(data)
    joined = torch.cat([ready(data)[name] for name in data], 1)
    torch.testing.assert_close(torch.cov(joined.T), ready.covariance, atol=0.02, rtol=0)
    for values in ready(data).values():
        law = torch.cov(values.T).reshape(values.shape[1], -1)
        torch.testing.assert_close(law, torch.eye(values.shape[1], dtype=torch.float64), atol=0.03, rtol=0)
    # What the whitened law says of I(x; y | c) is the closed form, 1/2 ln 2.
    law = ready.covariance

    def logdet(rows):
        return float(torch.logdet(law[rows][:, rows]))

    found = 0.5 * (logdet([0, 1, 3]) + logdet([2, 3]) - logdet([0, 1, 2, 3]) - logdet([3]))
    assert found == pytest.approx(0.5 * np.log(2), abs=0.02)


def test_what_looks_like_labels_in_floats_is_said():
    x, _ = correlated(1000)
    labels = (x[:, 0] > 0).astype(int) + (x[:, 0] > 1)

    def notes(y):
        return Preprocessing.fit({"x": x, "y": as_array(y, "y")}).notes

    assert notes(labels) == ()
    (said,) = notes(labels * 0.5)
    assert "column 0 of y holds 3 different floats in 1000 pairs" in said
    assert "pass them as integers" in said
    # Many values are no labels, and neither is a law with one atom.
    assert notes(np.arange(1000) % 40 / 7) == notes(np.where(labels > 0, x[:, 0], 0.0)) == ()
    found = estimate_mi(x, labels * 0.5, settings=FitSettings(steps=2, pilot=1, batch=8))
    assert any("3 values, steps of 0.5" in text for text in found.warnings())


def test_numbers_of_any_kind_are_the_same():
    x, _ = correlated(300)
    halves = np.round(x * 8) / 8
    for values in (
        halves.astype(np.float16),
        halves.astype(">f8"),
        torch.from_numpy(halves).bfloat16(),
        halves.tolist(),
    ):
        np.testing.assert_array_equal(as_array(values, "x"), halves)
    sparse = torch.from_numpy(halves).to_sparse().requires_grad_()
    np.testing.assert_array_equal(as_array(sparse, "x"), halves)
    assert as_array(halves[:, 0] > 0, "y").dtype == bool
