"""Tables of counts against known tables, and against leaving pairs out one by one."""

import math

import numpy as np
import pytest

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays.counts import Counted, Table
from mmg_diffusers.worlds.tasks import get_task


def test_the_jackknife_is_that_of_leaving_out_one_pair_after_the_other():
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=60)
    y = (x + rng.integers(2, size=60)) % 4
    table = Table.of(x, y)
    left = [Table.of(np.delete(x, k), np.delete(y, k)).plug_in for k in range(60)]
    assert table.nats == pytest.approx(60 * table.plug_in - 59 * np.mean(left), abs=1e-10)


@pytest.mark.parametrize("key", ["confused-10-0.65", "table-3-4"])
def test_two_errors_hold_the_truth(key):
    task = get_task(key)
    found = np.array([Counted.of(x[:, 0], y[:, 0]).mean() for x, y in (task.sample(1000, s) for s in range(60))])
    off = (found[:, 0] - task.mi_nats) / found[:, 1]
    assert abs(off.mean()) < 4 / math.sqrt(60)
    assert 0.6 < off.std() < 1.4
    assert found[:, 1].max() < 0.05


def test_independent_labels_have_an_honest_error():
    rng = np.random.default_rng(0)
    tables = [Table.of(rng.integers(6, size=400), rng.integers(8, size=400)) for _ in range(100)]
    assert abs(np.mean([t.nats for t in tables])) < 4 * 0.011 / 10
    covered = np.mean([abs(t.nats) < 2 * t.stderr for t in tables])
    assert covered > 0.9
    assert abs(np.mean([t.chance < 0.1 for t in tables]) - 0.1) < 0.12


@pytest.mark.parametrize("key", ["confused-10-0.65", "parity-8", "rounded-0.1-0.001"])
def test_two_discrete_variables_are_counted_without_a_network(key, monkeypatch):
    monkeypatch.setattr("mmg_diffusers.arrays.estimate.fit_model", None)
    task = get_task(key)
    found = estimate_mi(*task.sample(10_000, 3))
    assert isinstance(found, Counted)
    value, stderr = found.mean()
    assert abs(value - task.mi_nats) < 4 * stderr
    assert stderr < 0.02 * max(task.mi_nats, 1)
    assert float(found.nats.mean()) == pytest.approx(value)


def test_counted_pairs_keep_in_a_file(tmp_path):
    x, y = get_task("table-3-4").sample(500, 0)
    found = estimate_mi(x, y, seed=3)
    again = Counted.load(found.save(tmp_path / "counted.safetensors"))
    assert again.mean() == found.mean()
    assert (again.nats == found.nats).all()
    assert again.settings == found.settings
    assert "table of 3 x 4 counts" in str(again)


def test_sparse_tables_have_an_error_for_the_bias():
    """Independent labels, 30 x 20 in 1,000 pairs: two of the jackknife's own errors do not hold 0, with the bias's they do."""
    rng = np.random.default_rng(4)
    found = [Counted.of(rng.integers(30, size=1000), rng.integers(20, size=1000)) for _ in range(20)]
    alone = np.mean([abs(f.table.nats) < 2 * f.table.stderr for f in found])
    assert np.mean([abs(f.mean().value) < 2 * f.mean().stderr for f in found]) == 1 > alone
    # Strongly dependent labels meet few cells, which are full.
    label = rng.integers(30, size=1000)
    assert Counted.of(label, (label + (rng.random(1000) < 0.2)) % 30).table.unsure == 0


def test_sparse_tables_are_warned_of():
    rng = np.random.default_rng(0)
    found = Counted.of(rng.integers(40, size=500), rng.integers(40, size=500))
    assert any("merge rare labels" in text for text in found.warnings())


@pytest.mark.parametrize(
    ("key", "count", "most"),
    [("rounded-0.05-0.1", 4000, 0.15), ("rounded-0.05-0.1", 1000, 0.8), ("confused-25-0.4", 1000, 0.3)],
)
def test_the_error_of_cells_that_hold_few_pairs_holds_the_bias_and_not_much_more(key, count, most):
    """Grids of many cells that cannot be met: their number is no measure of the bias."""
    task = get_task(key)
    value, stderr = estimate_mi(*task.sample(count, 31)).mean()
    assert abs(value - task.mi_nats) < 2 * stderr
    assert stderr < most


def test_labels_that_are_nearly_all_alone_in_their_cell_tell_nothing():
    x, y = np.random.default_rng(32).integers(100, size=(2, 1000))
    value, stderr = Counted.of(x, y).mean()
    assert value > 1
    assert value < 2 * stderr
