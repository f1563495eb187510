"""Cheap readings against closed forms, and what they ask of a fit."""

import math

import numpy as np
import pytest

from mmg_diffusers.arrays.floors import (
    BENDS,
    EVERY,
    GAUSSIAN,
    Floors,
    Reading,
    gaussian,
    nearest_neighbours,
    normal_scores,
    read,
    screen,
    screen_two,
)
from mmg_diffusers.measure.value import Value
from mmg_diffusers.worlds.tasks import get_task


def pairs(count, dims, rho, seed=0):
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, count, dims))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def test_nearest_neighbours_of_a_pair_and_of_planes():
    for dims, rho in ((1, 0.8), (2, 0.6)):
        value, stderr = nearest_neighbours(*pairs(4000, dims, rho))
        assert abs(value + dims / 2 * math.log(1 - rho**2)) < 4 * stderr
        assert stderr < 0.02
    value, stderr = nearest_neighbours(*pairs(4000, 1, 0.0))
    assert abs(value) < 4 * stderr


def test_the_gaussian_part_has_no_plug_in_bias():
    """50 x 50 from 500 rows: the plug-in is more than 2 nats too high, what is told is right in the mean of 20 samples."""
    found = np.array([gaussian(*pairs(500, 50, 0.3, seed))[0] for seed in range(20)])
    truth = -25 * math.log(1 - 0.09)
    assert abs(found[:, 0].mean() - truth) < 4 * found[:, 0].std() / math.sqrt(20)
    assert found[:, 0].std() / math.sqrt(20) < 0.1
    # The error that is told is that of the scatter, to a third.
    assert 2 / 3 < found[:, 1].mean() / found[:, 0].std() < 3 / 2


def test_bartletts_test_is_exact_for_independent_columns_and_sees_many_weak_ones():
    chances = np.array([gaussian(*pairs(300, 5, 0.0, seed))[1] for seed in range(200)])
    assert abs((chances < 0.1).mean() - 0.1) < 4 * math.sqrt(0.09 / 200)
    # 30 correlations of 0.15 from 1,000 rows: no single one is beyond chance among 900.
    assert gaussian(*pairs(1000, 30, 0.15))[1] < 1e-6


def test_scores_are_normal_and_break_ties_at_random():
    values = np.random.default_rng(0).integers(4, size=(4000, 2)).astype(float)
    scores = normal_scores(values, np.random.default_rng(1))
    np.testing.assert_allclose(np.sort(scores[:, 0]), np.sort(scores[:, 1]))
    assert scores.std() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(scores, rowvar=False)[0, 1]) < 4 / math.sqrt(4000)
    assert scores[values[:, 0] == 0, 0].max() <= scores[values[:, 0] == 1, 0].min()


def test_the_screen_finds_the_one_pair_of_columns():
    x, y = get_task("fold-20-0.02").sample(5000, 0)
    found = screen(np.roll(x, 7, axis=1), np.c_[np.random.default_rng(0).standard_normal(5000), y[:, 0]])
    assert found is not None
    assert found.name == "columns 7 and 1"
    assert 1.5 < found.value.value < 3.23  # a floor, and no more than there is
    # Independent columns: among 40 pairs the best is within chance.
    rng = np.random.default_rng(2)
    none = screen(rng.standard_normal((5000, 10)), rng.standard_normal((5000, 4)))
    assert none is not None
    assert none.chance > 1e-3


@pytest.mark.parametrize("key", ["wave-20-0.3", "modes-8-8-0.05", "counts-1-3", "spiral-multinormal-sparse-3-3-2-2.0"])
def test_floors_are_found_and_are_floors(key):
    task = get_task(key)
    x, y = (values.astype(float) for values in task.sample(8000, 1))
    if task.key.startswith("counts"):
        y = y + np.random.default_rng(0).random(y.shape) - 0.5
    least = read(x, y).least
    assert least is not None
    assert 0.4 * task.mi_nats < least.value.value < task.mi_nats + 4 * least.value.stderr


def test_labels_beside_numbers_are_cells():
    task = get_task("labels-normal-1-3")
    x, y = task.sample(6000, 0)
    least = read(x, y[:, 0]).least
    assert least is not None
    assert 0.8 * task.mi_nats < least.value.value < task.mi_nats + 4 * least.value.stderr


def test_nothing_is_asked_of_independent_arrays():
    rng = np.random.default_rng(0)
    for dims in (1, 5, 20):
        floors = read(*rng.standard_normal((2, 3000, dims)))
        assert floors.least is None
        assert floors.missed(Value(0.0, 0.0)) is None


def test_what_is_missed_counts_beyond_both_errors():
    floors = Floors(
        (Reading("one", Value(0.5, 0.02)), Reading("two", Value(0.52, 0.2)), Reading("by chance", Value(0.9, 0.1), 0.2))
    )
    assert floors.least == floors.readings[0]
    assert floors.missed(Value(0.45, 0.02)) is None
    missed = floors.missed(Value(0.4, 0.02))
    assert missed is not None
    assert missed[0].name == "one"
    assert missed[1] == pytest.approx(0.1)
    assert floors.record()["by chance"] == [0.9, 0.1, 0.2]


def test_two_columns_are_seen_that_tell_together_what_neither_tells_alone():
    rng = np.random.default_rng(5)
    bits = rng.integers(2, size=(4000, 12)).astype(float)
    y = (bits[:, 2] != bits[:, 9]).astype(float)[:, None] + 0.2 * rng.standard_normal((4000, 1))
    assert screen(bits, y).chance > 1e-3
    found = screen_two(bits, y)
    assert found.name == "columns 2 and 9 of x with column 0 of y"
    assert found.chance < 1e-9
    assert 0.4 < found.value.value < math.log(2)
    label = (y > 0.5).astype(float)
    assert screen_two(bits, label, (False, True)).name == found.name
    # A wave of a difference, from the other side; and independent columns are within chance.
    x = rng.uniform(-math.pi, math.pi, (4000, 6))
    wave = np.cos(x[:, [1]] - x[:, [4]]) + 0.3 * rng.standard_normal((4000, 1))
    assert screen_two(wave, x).name == "columns 1 and 4 of y with column 0 of x"
    assert screen_two(x, rng.standard_normal((4000, 3))).chance > 1e-3
    # Too many threes of columns would take long.
    assert screen_two(rng.standard_normal((1000, 50)), y[:1000]) is None


def test_the_gaussian_part_is_read_from_all_pairs():
    x, y = pairs(60_000, 2, 0.6, seed=5)
    few, every = (read(x[:n], y[:n]).told.value for n in (10_000, 60_000))
    assert abs(every.value + math.log(1 - 0.36)) < 3 * every.stderr
    assert abs(every.stderr / few.stderr - 6**-0.5) < 0.02
    # Neighbours see the same pairs as the part that they are held against.
    held = Floors(
        (Reading(GAUSSIAN, Value(0.4, 0.02)), Reading(EVERY, Value(0.3, 0.001)), Reading("b", Value(0.42, 0.02)))
    )
    assert held.told.value.value == 0.3
    assert held.least.name == "b"
    missed = Floors((*held.readings, Reading("c", Value(0.6, 0.01))))
    assert missed.told is None


def test_bends_lend_their_certainty_to_a_reading_without_a_test():
    """Student-t 3 x 3 of 500 pairs: neighbours within three errors of 0 are a floor where powers show that there is something."""
    floors = read(*get_task("student-identity-3-3-3").sample(500, 722), seed=722)
    assert floors.bends > 0
    assert floors.least.name == "nearest neighbours"
    assert floors.least.value.value < 3 * floors.least.value.stderr + 0.01
    assert floors.gaussian is None
    straight = Floors(tuple(reading for reading in floors.readings if reading.name != BENDS))
    assert straight.least is None
    assert straight.gaussian.name == GAUSSIAN
