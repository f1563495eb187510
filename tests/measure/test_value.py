"""Numbers with units, and standard errors over pairs that belong together."""

import copy
import json
import math
import pickle

import pytest
import torch

from mmg_diffusers import MMG, Value
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import mean_over_pairs, repeated, stderr_over_pairs


def test_a_value_is_two_numbers_and_a_unit():
    value = Value(1.5, 0.25)
    number, stderr = value
    assert (number, stderr) == value == (1.5, 0.25) == (value.value, value.stderr)
    assert str(value) == "1.5000 +- 0.2500 nats"
    assert f"{value}" == str(value)
    assert json.loads(json.dumps({"mean": value})) == {"mean": [1.5, 0.25]}
    assert value.bits() == Value(1.5 / math.log(2), 0.25 / math.log(2), "bits")
    assert str(value.bits()) == "2.1640 +- 0.3607 bits"
    assert value.bits().bits() == value.bits()
    assert Value(0.5, 0.1, "tau") != Value(0.5, 0.1)
    assert str(Value(0.5, 0.1, "tau")) == "0.5000 +- 0.1000 tau"
    with pytest.raises(ValueError, match="not an amount of information"):
        Value(0.5, 0.1, "tau").bits()
    for again in (copy.deepcopy(value.bits()), pickle.loads(pickle.dumps(value.bits()))):
        assert again == value.bits()
        assert again.unit == "bits"
    assert eval(repr(value.bits())) == value.bits()
    assert pytest.approx((1.5, 0.25)) == value
    assert hash(value) == hash(Value(1.5, 0.25))


def test_clusters_of_one_are_pairs_and_copies_change_nothing():
    values = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = stderr_over_pairs(values)
    torch.testing.assert_close(plain, values.std(0) / 30**0.5)
    torch.testing.assert_close(stderr_over_pairs(values, list(range(30))), plain)
    # Every pair three times, in any order, under its label: the error of the 30, where the plain one is too small.
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    labels = [f"image {k}" for k in (torch.arange(30).repeat(3)[order]).tolist()]
    copies = values.repeat(3, 1)[order]
    torch.testing.assert_close(stderr_over_pairs(copies, labels), plain)
    assert bool((stderr_over_pairs(copies) < 0.6 * plain).all())
    torch.testing.assert_close(stderr_over_pairs(copies, torch.arange(30).repeat(3)[order]), plain)


def test_clusters_of_different_sizes():
    """The formula, by hand: residuals -2, 0, 2, 0 in two clusters sum to -2 and 2, so 2 / 1 (4 + 4) / 16 is the variance."""
    values = torch.tensor([1.0, 3.0, 5.0, 3.0], dtype=torch.float64)
    assert float(stderr_over_pairs(values, ["a", "a", "b", "b"])) == pytest.approx(1.0)
    assert float(stderr_over_pairs(values, ["a", "b", "c", "b"])) == pytest.approx((3 / 2 * 8 / 16) ** 0.5)


@pytest.mark.parametrize("form", ["gap", "auto", "balanced"])
def test_the_error_of_repeated_pairs(gaussian, form):
    denoiser, x, cond = gaussian
    run = MMG(form, Trapezoid(12))
    x, cond = x[:40], {"y": cond["y"][:40]}
    once = run(denoiser, x, cond, logsnr_range=(-8.0, 8.0))
    # Copies have ids, and so noise, of their own; that they are copies is hidden from the plain error.
    four = run(denoiser, x.repeat(4, 1), {"y": cond["y"].repeat(4, 1)}, logsnr_range=(-8.0, 8.0))
    labels = list(range(40)) * 4
    assert four.mean(labels).stderr > 1.3 * four.mean().stderr
    assert four.mean(labels).stderr < once.mean().stderr
    assert four.mean(list(range(160))) == pytest.approx(four.mean())


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        ("abcd", TypeError, "cluster is a str"),
        (5, TypeError, "cluster is a int"),
        (["a"] * 3, ValueError, "3 cluster labels for 4 pairs"),
        (["a"] * 4, ValueError, "all pairs are in one cluster"),
        ([["a"], ["b"], ["c"], ["d"]], TypeError, "cannot be compared"),
        (["a", "b", None, "c"], ValueError, "a label for every pair"),
        ([1.0, 2.0, float("nan"), 3.0], ValueError, "a label for every pair"),
    ],
)
def test_labels_that_are_none(labels, error, says):
    with pytest.raises(error, match=says):
        mean_over_pairs(torch.arange(4.0), cluster=labels)


def test_what_is_said_of_repeated_images():
    assert repeated(["a", "b", "c"], "image") is None
    said = repeated(["a", "b", "a", "c", "a"], "image")
    assert said is not None
    assert "3 of 5 pairs share an image with another pair (3 different ones, one in up to 3 pairs)" in said
    assert "share a prompt" in str(repeated(["a", "a"], "prompt"))
