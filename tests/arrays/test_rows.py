"""What rows and columns are: copies, series, grids, indicators, counts, functions of each other."""

import numpy as np
import pandas as pd
import pytest

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays.determined import refuse_determined
from mmg_diffusers.arrays.discrete import kind_of
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.rows import examine, grid_of
from mmg_diffusers.arrays.values import as_array
from mmg_diffusers.worlds.tasks import get_task

QUICK = FitSettings(steps=20, pilot=10, batch=64)


def arrays(key, count=2000, seed=0):
    return dict(zip("xy", get_task(key).sample(count, seed), strict=True))


# ---- rows ----


def test_copies_stay_on_one_side_and_are_said():
    data = arrays("repeated-5-5", 1500)
    rows = examine(data)
    assert rows.blocks is not None
    assert len(np.unique(rows.blocks)) == 300
    assert len(rows.first) == 300
    taken, left = rows.part(1500, 0.3, np.random.default_rng(0))
    assert not set(rows.blocks[taken]) & set(rows.blocks[left])
    assert sorted([*taken, *left]) == list(range(1500))
    assert len(taken) == pytest.approx(450, abs=5)
    assert "1200 of 1500 rows repeat another row exactly, one of them 5 times" in rows.notes[0]
    # Chance repeats nothing of independent draws, and atoms are no copies.
    assert examine(arrays("1v1-normal-0.75")).blocks is None
    rounded = {name: np.round(values, 1) for name, values in arrays("1v1-normal-0.75").items()}
    assert examine(rounded).blocks is None


def test_columns_that_are_zero_together_are_no_copies():
    """Of rows that are zero half of the time one alone was read, and 0.61 nats were found for 0.24; copies beside them are still seen."""
    data = arrays("zero_together-0.6", 2000)
    assert examine(data).blocks is None
    assert examine(data).first is None
    doubled = examine({name: np.concatenate([values, values[:400]]) for name, values in data.items()})
    both = int((data["x"][:400] + data["y"][:400] > 0).sum())
    assert f"{both} of 2400 rows repeat another row exactly, one of them 2 times" in doubled.notes[0]
    assert doubled.first is not None
    assert len(doubled.first) == 2400 - both


def test_copies_are_no_information():
    """As single rows the copies of what was fitted are measured: 4.6 nats of independent columns."""
    x, y = get_task("repeated-5-5").sample(2500, 0)
    found = estimate_mi(x, y, settings=FitSettings(steps=200, pilot=100, batch=128))
    value, stderr = found.mean()
    assert abs(value) < 4 * stderr
    assert stderr < 0.1
    assert any("repeat another row" in text for text in found.warnings())


@pytest.mark.parametrize(("key", "memory"), [("series-3-0.99", 99.5), ("series-1-0.999", 999.5)])
def test_series_are_cut_into_blocks(key, memory):
    rows = examine(arrays(key, 20_000))
    assert rows.memory == pytest.approx(memory, rel=0.5)
    taken, left = rows.part(20_000, 0.3, np.random.default_rng(0))
    assert not set(rows.blocks[taken]) & set(rows.blocks[left])
    assert 0.1 < len(taken) / 20_000 < 0.5
    assert "depend on each other" in rows.notes[0]
    # In random order nothing is left of time, and sorted rows tell nothing of it.
    order = np.random.default_rng(0).permutation(20_000)
    data = arrays(key, 20_000)
    assert examine({name: values[order] for name, values in data.items()}).memory == 1
    dependent = arrays("1v1-normal-0.75")
    order = np.argsort(dependent["x"][:, 0])
    assert examine({name: values[order] for name, values in dependent.items()}).blocks is None


def test_one_series_beside_independent_rows_is_no_harm():
    x = arrays("series-1-0.999", 3000)["x"]
    assert examine({"x": x, "y": np.random.default_rng(0).standard_normal((3000, 1))}).blocks is None


def test_labels_in_any_order_have_no_memory():
    rng = np.random.default_rng(0)
    assert examine({"x": rng.integers(2, size=3000), "y": rng.integers(3, size=3000)}).memory == 1


def test_blocks_of_ones_own_are_not_parted():
    rng = np.random.default_rng(0)
    patient = rng.integers(40, size=1000)
    x = rng.standard_normal(40)[patient] + 0.1 * rng.standard_normal(1000)
    y = rng.standard_normal(40)[patient] + 0.1 * rng.standard_normal(1000)
    alone = estimate_mi(x, y, settings=QUICK)
    found = estimate_mi(x, y, blocks=[f"p{k}" for k in patient], settings=QUICK)
    assert "rows that depend on each other" in found.allowance.errors
    assert "rows that depend on each other" not in alone.allowance.errors
    # The spread over 12 patients, not over 300 rows.
    assert found.mean().stderr > 2 * found.using("gap").certificate.stderr
    assert examine({"x": x, "y": y}, 100).blocks.tolist() == [k // 100 for k in range(1000)]


# ---- columns ----


def test_grids_are_seen():
    values = np.unique(np.round(np.random.default_rng(0).standard_normal(2000), 1))
    assert grid_of(values) == pytest.approx(0.1)
    assert grid_of(np.unique(np.random.default_rng(0).standard_normal(50))) is None
    assert grid_of(np.array([0.0, 1.0, 1.5, 700.0])) is None


def test_rounded_columns_are_spread_over_their_cells_and_no_further():
    rng = np.random.default_rng(0)
    values = np.c_[np.round(rng.standard_normal(3000), 1), rng.standard_normal(3000)]
    kind = kind_of(values, "x")
    assert list(kind.steps) == [0]
    spread = kind.spread(np.random.default_rng(1))
    np.testing.assert_allclose(np.round(spread[:, 0], 1), values[:, 0], atol=1e-9)
    assert len(np.unique(spread[:, 0])) == 3000
    np.testing.assert_array_equal(spread[:, 1], values[:, 1])
    assert "steps of 0.1" in kind.notes[0]


def test_indicators_are_read_as_their_label():
    label = np.random.default_rng(0).integers(4, size=600)
    for kind in (float, int, bool):
        read = kind_of(as_array(np.eye(4)[label].astype(kind), "x"), "x")
        assert read.values.tolist() == label.tolist()
    assert "pass the label itself" in kind_of(np.eye(4)[label], "x").notes[0]
    # Two in one row, or none: no indicators.
    assert kind_of(1 - np.eye(4)[label], "x").values.ndim == 2


def test_counts_with_rare_values_are_numbers_and_labels_stay_labels():
    _, y = get_task("counts-1-3").sample(5000, 0)
    read = kind_of(as_array(y, "y"), "y")
    assert read.values.ndim == 2
    assert read.steps == {0: 1.0}
    assert "read as numbers; if they are labels, merge the rare ones" in read.notes[0]
    many = np.random.default_rng(0).integers(40, size=5000)
    assert kind_of(many, "y").values.ndim == 1
    few = np.where(np.arange(500) == 3, 7, np.arange(500) % 2)
    assert kind_of(few, "y").values.ndim == 1


def test_nearly_constant_columns_are_said():
    values = np.zeros((1000, 1))
    values[:6] = np.arange(1, 7)[:, None]
    assert "nearly constant: 6 of 1000 rows" in kind_of(values, "x").notes[0]


def test_nullable_columns_without_gaps_are_numbers():
    np.testing.assert_array_equal(as_array(pd.Series([1, 2, 3], dtype="Int64"), "x"), [1, 2, 3])
    np.testing.assert_array_equal(as_array(pd.Series([1.5, 2.0], dtype="Float64"), "x"), [[1.5], [2.0]])
    np.testing.assert_array_equal(as_array(pd.Series([1.5, 2.0], dtype=object), "x"), [[1.5], [2.0]])
    assert as_array(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), "x").shape == (2, 2)


# ---- functions ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 0] ** 2,
        lambda x: np.abs(x[:, 0]),
        lambda x: np.sin(10 * x[:, 1]),
        lambda x: x[:, 0] * x[:, 1],
        lambda x: np.exp(x[:, 0]) + 0 * x[:, 1],
        lambda x: np.abs(x[:, 0] + x[:, 1]),
        lambda x: np.cos(2 * (x[:, 0] - x[:, 1])),
        lambda x: x.max(1),
    ],
)
def test_functions_are_refused_and_the_same_in_noise_are_not(function):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 2))
    y = function(x)
    with pytest.raises(ValueError, match="the mutual information is infinite"):
        refuse_determined({"x": x, "y": y[:, None]})
    noisy = y + 1e-3 * y.std() * rng.standard_normal(3000)
    refuse_determined({"x": x, "y": noisy[:, None]})


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.square(x[:, 0] + x[:, 3]),
        lambda x: np.abs(x[:, 0] - 2 * x[:, 1]),
        lambda x: np.linalg.norm(x[:, :5], axis=1),
        lambda x: np.cos(x[:, 2] + x[:, 6]),
    ],
)
def test_functions_of_some_of_eight_columns_are_seen(function):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3000, 8))
    y = function(x)
    with pytest.raises(ValueError, match="the mutual information is infinite"):
        refuse_determined({"x": x, "y": y[:, None]})
    noisy = y + 1e-3 * y.std() * rng.standard_normal(3000)
    refuse_determined({"x": x, "y": noisy[:, None]})


@pytest.mark.parametrize(
    ("function", "columns"),
    [
        (lambda x: x[:, :3].prod(1), 3),
        (lambda x: x[:, :3].prod(1), 12),
        (lambda x: x[:, 0] * x[:, 1] / x[:, 2], 6),
        (lambda x: np.exp(x[:, 0]) * x[:, 1], 5),
        (lambda x: x[:, :3].prod(1) + x[:, 3], 5),
        (lambda x: (x[:, 0] + x[:, 1]) / (x[:, 2] + x[:, 3]), 4),
        (lambda x: x[:, 0] / (1 + x[:, 1] ** 2), 6),
        (lambda x: np.abs(x[:, :3]).sum(1), 3),
        (lambda x: np.abs(x[:, 0] + x[:, 1]) - np.abs(x[:, 2] + x[:, 3]), 4),
        (lambda x: x.max(1), 8),
        (lambda x: np.median(x, 1), 5),
        (lambda x: np.maximum(x[:, 0] + x[:, 1], x[:, 2]), 6),
        (lambda x: np.sign(x[:, 0] * x[:, 1]) * x[:, 2], 5),
        (lambda x: np.where(x[:, 2] > 0, 2 * x[:, 0] + 1, 3 * x[:, 1]), 5),
        (lambda x: np.sin(x.sum(1)), 3),
        (lambda x: np.sin(x[:, 0] + 2 * x[:, 1] - x[:, 2]), 8),
        (lambda x: np.cos(2 * x.sum(1)), 4),
        (lambda x: np.tanh(x.sum(1)), 5),
    ],
)
def test_products_quotients_pieces_and_waves_of_several_columns_are_refused(function, columns):
    rng = np.random.default_rng(11)
    x = rng.standard_normal((1000, columns))
    y = function(x)
    with pytest.raises(ValueError, match="the mutual information is infinite"):
        refuse_determined({"x": x, "y": y[:, None]})
    noisy = y + 1e-3 * np.subtract(*np.quantile(y, [0.75, 0.25])) * rng.standard_normal(1000)
    refuse_determined({"x": x, "y": noisy[:, None]})


def test_columns_that_share_zeros_or_a_grid_are_no_copies():
    rng = np.random.default_rng(12)
    zero = rng.uniform(size=(2000, 1)) < 0.3
    x, y = (np.where(zero, 0, np.exp(rng.standard_normal((2000, 1)))) for _ in range(2))
    refuse_determined({"x": x, "y": y})
    x = rng.standard_normal((300, 1))
    y = x + 0.003 * rng.standard_normal((300, 1))
    rounded = {"x": x.round(3), "y": y.round(3)}
    assert (rounded["x"] == rounded["y"]).mean() > 0.05
    refuse_determined(rounded)


def test_what_inputs_fulfil_among_themselves_is_no_equation_of_the_column():
    """Shares that add to one, and a column beside its square."""
    rng = np.random.default_rng(13)
    x = rng.dirichlet([1.0, 2.0, 3.0], 1000)
    x = np.hstack([x, np.square(x[:, :1])])
    refuse_determined({"x": x, "y": x[:, :1] + 0.01 * rng.standard_normal((1000, 1))})


def test_a_column_that_rests_at_one_value_is_no_function():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3000, 1))
    y = np.maximum(x + 0.2 + 0.3 * rng.standard_normal((3000, 1)), 0)
    assert (y == 0).mean() > 0.4
    refuse_determined({"x": x, "y": y})


@pytest.mark.parametrize(
    "key", ["spiral-multinormal-sparse-3-3-2-2000.0", "student-identity-1-1-1", "spike_slab-0.4-0.5"]
)
def test_much_information_is_not_all_of_it(key):
    refuse_determined(arrays(key))
