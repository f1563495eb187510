"""What bends beyond the Gaussian part: seen where there is something, and no more often than chance where there is not."""

import numpy as np
import pytest

from mmg_diffusers.arrays.bends import bent
from mmg_diffusers.arrays.floors import BENDS, CHANCE, Floors, Reading, normal_scores, read
from mmg_diffusers.measure.value import Value
from mmg_diffusers.worlds.tasks import get_task


def scores(key, count, seed):
    rng = np.random.default_rng(seed)
    return [normal_scores(values, rng) for values in get_task(key).sample(count, seed)]


@pytest.mark.parametrize(
    "key",
    ["spiral-multinormal-sparse-5-5-2-2.0", "spiral-multinormal-sparse-25-25-2-2.0", "student-identity-5-5-3"],
)
def test_spirals_and_a_common_width_are_seen_in_few_rows(key):
    found = [bent(*scores(key, 1000, seed)) for seed in (21, 22)]
    assert max(one.chance for one in found) < CHANCE
    assert min(one.nats for one in found) > 0.03


@pytest.mark.parametrize("key", ["multinormal-dense-5-5-0.5", "half_cube-multinormal-sparse-3-3-2-2.0"])
def test_of_gaussian_laws_chances_are_even(key):
    chances = np.array([bent(*scores(key, 300, seed)).chance for seed in range(40)])
    assert chances.min() > CHANCE
    assert (chances < 0.1).mean() < 0.25
    assert chances.mean() > 0.4


def test_too_few_rows_are_not_tested():
    x, y = np.random.default_rng(0).standard_normal((2, 100, 40))
    assert bent(x, y) is None


def test_it_is_among_the_readings_and_no_floor():
    floors = read(*get_task("student-identity-5-5-3").sample(1000, 23))
    assert floors.bends > 0.3
    assert floors.least.name != BENDS
    assert floors.record()[BENDS][2] < CHANCE
    assert Floors((Reading(BENDS, Value(0.5, 0.0), 0.5),)).bends == 0
    # Of two single columns neighbours and tables see more.
    assert BENDS not in read(*np.random.default_rng(1).standard_normal((2, 500, 1))).record()
