"""What is known of a mean beyond its pairs."""

import pytest

from mmg_diffusers.measure.allowance import DEPENDENT, Allowance
from mmg_diffusers.measure.value import Value


def test_errors_are_added_in_quadrature():
    found = Allowance({"one": 0.3, "two": 0.4}).of(Value(1.0, 1.2))
    assert found == Value(1.0, 1.3)
    assert Allowance().of(Value(1.0, 0.2)) == Value(1.0, 0.2)


def test_a_value_known_better_stands_in_place_of_the_measured_one():
    found = Allowance({"training": 0.03}, Value(0.5, 0.04)).of(Value(1.0, 1.2))
    assert found.value == 0.5
    assert found.stderr == pytest.approx(0.05)


def test_rows_that_depend_count_once():
    """What clusters show and what is allowed for the same rows: the larger, with the errors that have nothing to do with either."""
    pairs, clusters = Value(1.0, 0.3), Value(1.0, 0.5)
    for allowed, expected in ((0.1, 0.5), (0.4, 0.5), (1.2, 1.53**0.5)):
        assert Allowance({DEPENDENT: allowed}).of(pairs, clusters).stderr == pytest.approx(expected)
    assert Allowance({"training": 1.2}).of(pairs, clusters).stderr == pytest.approx(1.3)
    # Of a closed form, too, which has no pairs: clusters add what they add to the pairs'.
    assert Allowance({}, Value(0.9, 0.3)).of(pairs, clusters) == Value(0.9, pytest.approx(0.5))


def test_records_keep_it():
    for allowance in (Allowance({"one": 0.25}), Allowance({"one": 0.25}, Value(0.5, 0.1))):
        assert Allowance.from_record(allowance.record()) == allowance
