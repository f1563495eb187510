"""Tasks agree with the benchmark's own statistics, and their truths with a second way to them.

The reference holds statistics of 110,000 samples. Some 3,200 are compared, many of them correlated: the
largest deviation to expect is 3.5 to 4 standard errors, and the limit is 4.5.
"""

import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import multivariate_t, norm, rankdata

from mmg_diffusers.worlds.tasks import (
    Task,
    bmi_tasks,
    discrete_tasks,
    everyday_tasks,
    get_task,
    high_mi_tasks,
    second_tasks,
)
from mmg_diffusers.worlds.tasks.laws import AdditiveUniform, Multinormal, Student
from mmg_diffusers.worlds.tasks.maps import BIMODAL, Spiral, identity, swissroll, wiggly_x, wiggly_y

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "bmi_reference.json").read_text("utf-8"))["tasks"]
BMI, HIGH, DISCRETE = bmi_tasks(), high_mi_tasks(), discrete_tasks()
EVERY = BMI | HIGH | DISCRETE
N, N_REFERENCE = 40_000, 110_000
ROUNDING = 6e-5  # the reference keeps four decimals
SPEARMAN_ERROR = math.hypot(0.005, N**-0.5)  # at correlation 0
LIMIT = 4.5


def covered(estimate, standard_error, truth):
    """Whether the truth is within four standard errors."""
    return abs(estimate - truth) < 4 * standard_error


# Against the benchmark's statistics.


def quantile_deviation(values, levels, quantiles):
    """Largest deviation, in standard errors, of the fraction of values below each reference quantile.

    Compared as probabilities, whose error is known whatever the density: p (1 - p) (1 / n + 1 / n_reference).
    """
    values, levels, quantiles = np.sort(values), np.array(levels), np.array(quantiles)
    lowest = np.searchsorted(values, quantiles - ROUNDING) / len(values)
    highest = np.searchsorted(values, quantiles + ROUNDING, side="right") / len(values)
    off = np.maximum(np.maximum(lowest - levels, levels - highest), 0)
    return (off / np.sqrt(levels * (1 - levels) * (1 / len(values) + 1 / N_REFERENCE))).max()


def spearman_deviation(columns, reference):
    """Largest deviation of a rank correlation, in standard errors.

    Compared on Fisher's scale artanh r, where the error is nearly even: sqrt(1 + r^2 / 2) times that at 0.
    """
    pairs = np.triu_indices(len(reference), 1)
    expected = reference[pairs]
    found = np.corrcoef(rankdata(columns, axis=0), rowvar=False)[pairs]
    error = SPEARMAN_ERROR * np.sqrt(1 + np.square(expected) / 2)
    return (np.abs(np.arctanh(found) - np.arctanh(expected)) / error).max()


def deviation(task, reference):
    """Largest deviation of the task's statistics from the reference's, in standard errors."""
    x, y = task.sample(N, seed=20)
    found = [spearman_deviation(np.hstack([x[:, :5], y[:, :5]]), np.array(reference["spearman_first_5"]))]
    levels = reference["quantile_levels"]
    for name, values in (("x", x), ("y", y)):
        columns = zip(values.T[:5], reference[f"{name}_quantiles"], strict=True)
        found += [quantile_deviation(column, levels, quantiles) for column, quantiles in columns]
        norm2 = np.square(values).sum(1)
        found.append(quantile_deviation(norm2, levels, reference[f"{name}_norm2_quantiles"]))
    return float(max(found))


def test_the_forty_keys_are_the_benchmarks():
    assert list(BMI) == list(REFERENCE)


@pytest.mark.parametrize("key", REFERENCE)
def test_agrees_with_the_benchmark(key):
    task, reference = BMI[key], REFERENCE[key]
    assert (task.name, task.dim_x, task.dim_y) == (reference["name"], reference["dim_x"], reference["dim_y"])
    # The reference's additive tasks were computed in float32, the others agree to 1e-13.
    assert task.mi_nats == pytest.approx(reference["mi_nats"], abs=1e-7)
    assert deviation(task, reference) < LIMIT


def remade(key, base, x=identity, y=identity):
    """The task of that key with its sampler replaced: other maps on the draws of `base`."""

    def sampler(n, rng):
        a, b = base(n, rng)
        return x(a), y(b)

    return replace(BMI[key], sampler=sampler)


SPIRALS = [key for key in BMI if key.startswith("spiral-")]
PLAIN, WIGGLY, BIMODAL_KEY = "1v1-normal-0.75", "wiggly-1v1-normal-0.75", "1v1-bimodal-0.75"
ROLL, UNIFORM = "swissroll_x-normal_cdf-1v1-normal-0.75", "normal_cdf-1v1-normal-0.75"
WRONG = {
    "wiggles swapped": remade(WIGGLY, BMI[PLAIN].sampler, wiggly_y, wiggly_x),
    "modes swapped": remade(BIMODAL_KEY, BMI[UNIFORM].sampler, BIMODAL.y, BIMODAL.x),
    "not half-cubed": remade("half_cube-1v1-normal-0.75", BMI[PLAIN].sampler),
    "asinh missing": remade("asinh-student-identity-5-5-2", Student(5, 5, 2).draw),
    "roll transposed": remade(ROLL, BMI[UNIFORM].sampler, lambda u: swissroll(u)[:, ::-1]),
    "roll reversed": remade(ROLL, BMI[UNIFORM].sampler, lambda u: swissroll(1 - u)),
    "correlation": remade(PLAIN, Multinormal.dense(1, 0.7).draw),
    "sign of the correlation": remade(PLAIN, Multinormal.dense(1, -0.75).draw),
    "strength": remade("multinormal-sparse-3-3-2-2.0", Multinormal.sparse(3, 1.8).draw),
    "degrees of freedom": remade("student-identity-5-5-3", Student(5, 5, 2).draw),
    "noise": remade("1v1-additive-0.1", AdditiveUniform(0.11).draw),
}
for spiral_key in SPIRALS:
    under = BMI[spiral_key.removeprefix("spiral-")].sampler
    WRONG |= {
        f"{spiral_key}, x turned back": remade(spiral_key, under, Spiral(1, 0), Spiral(1, 2)),
        f"{spiral_key}, y turned back": remade(spiral_key, under, Spiral(0, 1), Spiral(2, 1)),
        f"{spiral_key}, both turned back": remade(spiral_key, under, Spiral(1, 0), Spiral(2, 1)),
        f"{spiral_key}, one plane": remade(spiral_key, under, Spiral(0, 1), Spiral(0, 1)),
        f"{spiral_key}, planes swapped": remade(spiral_key, under, Spiral(1, 2), Spiral(0, 1)),
    }


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_task_would_disagree(fault):
    assert deviation(WRONG[fault], REFERENCE[WRONG[fault].key]) > 2 * LIMIT


# The joint law: what the maps hide is undone, and the information counted in what is left.


def turned_back(v, first, second):
    plane = (v[:, first] + 1j * v[:, second]) * np.exp(-1j * np.square(v).sum(1) / v.shape[1])
    back = v.copy()
    back[:, first], back[:, second] = plane.real, plane.imag
    return back


def unrolled(v):
    return (np.linalg.norm(v, axis=1, keepdims=True) * 21 / (1.5 * np.pi) - 1) / 2


def cube_root_squared(v):
    return np.sign(v) * np.abs(v) ** (2 / 3)


UNDO = {
    "normal_cdf": (ndtri, ndtri),
    "half_cube": (cube_root_squared, cube_root_squared),
    "asinh": (np.sinh, np.sinh),
    "swissroll_x": (unrolled, identity),
    "spiral": (lambda v: turned_back(v, 0, 1), lambda v: turned_back(v, 1, 2)),
}
MAPPED = [key for key in BMI | HIGH if key.split("-")[0] in UNDO]


@pytest.mark.parametrize("key", MAPPED)
def test_maps_are_bijections(key):
    change, base = key.split("-", 1)
    back = [undo(v) for undo, v in zip(UNDO[change], EVERY[key].sample(500, seed=3), strict=True)]
    for found, expected in zip(back, EVERY[base].sample(500, seed=3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert EVERY[key].mi_nats == EVERY[base].mi_nats


def test_wiggles_rise():
    v = np.linspace(-40, 40, 100_001)
    assert (np.diff(wiggly_x(v)) > 0).all()
    assert (np.diff(wiggly_y(v)) > 0).all()


@pytest.mark.parametrize(
    ("quantile", "weight", "low", "high"),
    [(BIMODAL.x, 0.3, 0, 5), (BIMODAL.y, 0.5, -1, 3)],
)
def test_bimodal_quantiles_invert_the_mixture(quantile, weight, low, high):
    u = np.concatenate([[1e-12, 1e-6], np.linspace(0.001, 0.999, 999), [1 - 1e-6]])
    at = quantile(u)
    np.testing.assert_allclose(weight * norm.cdf(at - low) + (1 - weight) * norm.cdf(at - high), u, rtol=1e-9)


def gaussian_information(x, y):
    """Mutual information of a Gaussian sample and its standard error; the bias d_x d_y / 2n is taken off."""
    n, dim_x = x.shape
    cov = np.corrcoef(np.hstack([x, y]), rowvar=False)
    blocks = cov[:dim_x, :dim_x], cov[dim_x:, dim_x:]
    white_x, white_y = (np.linalg.inv(np.linalg.cholesky(block)) for block in blocks)
    canonical = np.linalg.svd(white_x @ cov[:dim_x, dim_x:] @ white_y.T, compute_uv=False)
    bias = dim_x * y.shape[1] / (2 * n)
    return -0.5 * np.log1p(-np.square(canonical)).sum() - bias, math.sqrt(np.square(canonical).sum() / n)


def normal_scores(v):
    """Each column made normal by its ranks, which undoes any rising map of single coordinates."""
    return ndtri(rankdata(v, axis=0) / (len(v) + 1))


COPULAS = [k for k in BMI if "normal" in k and not k.startswith(("spiral", "swissroll"))] + [BIMODAL_KEY]


@pytest.mark.parametrize("key", COPULAS)
def test_the_gaussian_copula_has_the_truth(key):
    x, y = BMI[key].sample(20_000, seed=4)
    assert covered(*gaussian_information(normal_scores(x), normal_scores(y)), BMI[key].mi_nats)


@pytest.mark.parametrize("key", [key for key in HIGH if "-3-3-" in key or "-50-50-2-2000" in key])
def test_high_information_is_in_the_samples(key):
    """To 0.02 nats: at 14.5, a covariance that was rounded to float32 is 0.05 off."""
    x, y = HIGH[key].sample(80_000, seed=5)
    if key.split("-")[0] in UNDO:
        x, y = (undo(v) for undo, v in zip(UNDO[key.split("-")[0]], (x, y), strict=True))
    assert covered(*gaussian_information(x, y), HIGH[key].mi_nats)


def test_high_information_family():
    assert len(HIGH) == 75
    assert {(task.dim_x, task.dim_y) for task in HIGH.values()} == {(d, d) for d in (3, 5, 10, 20, 50)}
    for key, task in HIGH.items():
        squared = float(key.rsplit("-", 1)[1]) ** 2
        # 1 - rho^2 without the subtraction
        assert task.mi_nats == pytest.approx(-math.log((1 + 2 * squared) / (1 + squared) ** 2), abs=1e-8)
    truths = sorted({round(task.mi_nats, 3) for task in HIGH.values()})
    assert truths == [9.904, 12.261, 13.313, 13.999, 14.509]


def monte_carlo(log_ratio):
    """Mean of the pointwise information and its standard error."""
    return log_ratio.mean(), log_ratio.std() / math.sqrt(len(log_ratio))


@pytest.mark.parametrize("key", [key for key in BMI if key.startswith("student")])
def test_student_truth_by_monte_carlo(key):
    task, df = BMI[key], int(key.rsplit("-", 1)[1])
    x, y = task.sample(N, seed=6)

    def log_density(v):
        return multivariate_t(np.zeros(v.shape[1]), df=df).logpdf(v)

    mean, error = monte_carlo(log_density(np.hstack([x, y])) - log_density(x) - log_density(y))
    assert covered(mean, error, task.mi_nats)
    assert error < task.mi_nats / 20  # tight enough that 0 would fail


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.75, 3.0])
def test_additive_truth_two_ways(epsilon):
    law = AdditiveUniform(epsilon)

    def density(y):
        return np.maximum(np.minimum(1, y + epsilon) - np.maximum(0, y - epsilon), 0) / (2 * epsilon)

    _, y = law.draw(N, np.random.default_rng(7))
    log_ratio = -math.log(2 * epsilon) - np.log(density(y))
    assert covered(*monte_carlo(log_ratio), law.mi_nats)
    middle = (np.arange(400_000) + 0.5) / 400_000 * (1 + 2 * epsilon) - epsilon
    p = density(middle)
    entropy = -(p * np.log(p)).mean() * (1 + 2 * epsilon)
    assert law.mi_nats == pytest.approx(entropy - math.log(2 * epsilon), abs=1e-6)


# Labels and atoms. The laws are written out again here, so that a slip in one is not repeated in the other.

PLANE_MEANS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [-2.0, -2.0]])
PLANE_SDS = np.array([1.0, 0.7, 1.3, 0.5])
TABLE = np.array([[0.20, 0.05, 0.00, 0.05], [0.03, 0.22, 0.10, 0.00], [0.02, 0.03, 0.05, 0.25]])


def line_given_label(x):
    return norm.pdf(x, [-2.0, 0.5, 3.0], [1.0, 0.6, 1.2])


def plane_given_label(x):
    return norm.pdf(x[:, None], PLANE_MEANS, PLANE_SDS[:, None]).prod(-1)


def boxes_given_label(x):
    label = np.arange(5)
    return 0.5 * ((x >= label) & (x <= label + 2))


LABELLED = {
    "labels-normal-1-3": (line_given_label, np.array([0.5, 0.3, 0.2])),
    "labels-normal-2-4": (plane_given_label, np.array([0.4, 0.3, 0.2, 0.1])),
    "labels-uniform-1-5": (boxes_given_label, np.full(5, 0.2)),
}


def spike_slab_density(y):
    return 0.4 * norm.pdf(y, 0, 0.5) + 0.6 * norm.pdf(y, 0, math.sqrt(1.25))


def log_ratio(key, x, y):
    """The pointwise information of each pair."""
    if key in LABELLED:
        given_label, weights = LABELLED[key]
        p = given_label(x)
        return np.log(np.take_along_axis(p, y, axis=1)[:, 0] / (p @ weights))
    if key == "table-3-4":
        return np.log(TABLE[x, y] / (TABLE.sum(1)[x] * TABLE.sum(0)[y]))[:, 0]
    return (norm.logpdf(y, x, 0.5) - np.log(spike_slab_density(y)))[:, 0]


@pytest.mark.parametrize("key", DISCRETE)
def test_discrete_truth_by_monte_carlo(key):
    task = DISCRETE[key]
    mean, error = monte_carlo(log_ratio(key, *task.sample(100_000, seed=8)))
    assert covered(mean, error, task.mi_nats)
    assert error < 0.003


def relative_entropy(given_label, weights, points, cell):
    """I(x; label) as the weighted divergence of p(x | label) from p(x), summed over even cells."""
    p = given_label(points)
    ratio = np.where(p > 0, p, 1) / np.maximum(p @ weights, 1e-300)[:, None]
    return float((p * np.log(ratio) * weights).sum() * cell)


def test_discrete_truth_by_a_second_quadrature():
    axis, plane = np.arange(-12, 14, 0.01), np.arange(-9, 12, 0.05)
    grid = np.stack(np.meshgrid(plane, plane), axis=-1).reshape(-1, 2)
    middles = (np.arange(60_000) + 0.5)[:, None] / 10_000
    found = {
        "labels-normal-1-3": relative_entropy(*LABELLED["labels-normal-1-3"], axis[:, None], 0.01),
        "labels-normal-2-4": relative_entropy(*LABELLED["labels-normal-2-4"], grid, 0.05**2),
        "labels-uniform-1-5": relative_entropy(*LABELLED["labels-uniform-1-5"], middles, 1e-4),
    }
    p = spike_slab_density(axis)
    found["spike_slab-0.4-0.5"] = -(p * np.log(p)).sum() * 0.01 - float(norm(0, 0.5).entropy())
    cells = TABLE[TABLE > 0]
    entropies = [-(q * np.log(q)).sum() for q in (TABLE.sum(0), TABLE.sum(1), cells)]
    found["table-3-4"] = entropies[0] + entropies[1] - entropies[2]
    assert found == pytest.approx({key: task.mi_nats for key, task in DISCRETE.items()}, abs=1e-9)


@pytest.mark.parametrize("key", DISCRETE)
def test_labels_are_labels(key):
    task = DISCRETE[key]
    for values, classes in zip(task.sample(2_000, seed=9), (task.classes_x, task.classes_y), strict=True):
        if classes is None:
            assert values.dtype == np.float64
        else:
            assert values.dtype == np.int64
            assert set(values[:, 0].tolist()) == set(range(classes))


def test_spike_slab_has_its_atom():
    x, _ = DISCRETE["spike_slab-0.4-0.5"].sample(N, seed=10)
    assert covered((x == 0).mean(), math.sqrt(0.24 / N), 0.4)


# The interface.


@pytest.mark.parametrize("key", EVERY | everyday_tasks() | second_tasks())
def test_samples_have_the_promised_shape_and_repeat(key):
    task = get_task(key)
    first, again, other = (task.sample(6, seed) for seed in (1, 1, 2))
    assert [v.shape for v in first] == [(6, task.dim_x), (6, task.dim_y)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    if key in BMI | HIGH:
        assert {v.dtype for v in first} == {np.dtype("float64")}


def test_tasks_are_found_by_key():
    assert all(get_task(key) == task and task.key == key for key, task in EVERY.items())
    assert len(EVERY) == 40 + 75 + 5


def test_tables_are_the_callers_own():
    bmi_tasks().clear()
    assert len(bmi_tasks()) == 40


@pytest.mark.parametrize("key", [SPIRALS[0], BIMODAL_KEY, "table-3-4"])
def test_tasks_can_be_pickled(key):
    copy = pickle.loads(pickle.dumps(EVERY[key]))
    assert copy == EVERY[key]
    np.testing.assert_array_equal(copy.sample(4, 0)[0], EVERY[key].sample(4, 0)[0])


def test_tasks_of_ones_own():
    def sampler(n, rng):
        return rng.standard_normal((n, 1)), rng.standard_normal((n, 2))

    own = Task("own", "Independent", 1, 2, 0.0, sampler=sampler)
    assert [v.shape for v in own.sample(3, seed=0)] == [(3, 1), (3, 2)]
    with pytest.raises(FrozenInstanceError):
        own.mi_nats = 1.0
