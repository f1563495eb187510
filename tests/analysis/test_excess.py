"""Excess information, of numbers that are known and of an exact world."""

from dataclasses import replace

import pytest
import torch

import mmg_diffusers
from mmg_diffusers import MMG
from mmg_diffusers.analysis import Excess, PathInfluence, excess
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.quadrature import Trapezoid
from tests.conftest import joint

RANGE = (-9.0, 9.0)


def made(nats, other=None):
    nats = torch.tensor(nats, dtype=torch.float64)
    zero = torch.zeros_like(nats)
    return Excess(nats, zero + 3, zero if other is None else other, zero + 4, torch.arange(len(nats)), "the truth")


def test_an_exact_model_has_none(gaussian):
    denoiser, x, cond = gaussian
    x, y = x[:300], cond["y"][:300]
    found = MMG("gap", Trapezoid(48))(denoiser, x, {"y": y}, logsnr_range=RANGE)
    rho = torch.tensor([0.9, 0.5], dtype=torch.float64)
    variance = 1 - rho**2
    exact = ((x**2 - (x - rho * y) ** 2 / variance - variance.log()) / 2).sum(1)
    over = excess(found, exact)
    value, stderr = over.mean()
    assert abs(value) < 4 * stderr + 0.01
    assert float(exact.mean()) > 0.5
    # One that is too sure of the second coordinate is off by what its two branches get wrong.
    sure = MMG("gap", Trapezoid(48))(GaussianDenoiser(joint(0.9, 0.8), 2), x, {"y": y}, logsnr_range=RANGE)
    wrong = (
        (x**2 - (x - torch.tensor([0.9, 0.8]) * y) ** 2 / torch.tensor([0.19, 0.36]) - torch.tensor([0.19, 0.36]).log())
        / 2
    ).sum(1)
    value, stderr = excess(sure, exact).mean()
    assert abs(value - float((wrong - exact).mean())) < 4 * stderr
    # Against another model, at the same noise.
    held = excess(sure, found)
    torch.testing.assert_close(held.nats, sure.nats - found.nats)
    assert held.mean().stderr < 1


def test_what_stands_out():
    found = made([0.0, 1.0, -1.0, 2.0, -2.0, 50.0])
    assert float(found.stderr[0]) == 5.0
    # The median of the six is 0, and that of their sizes 1.
    torch.testing.assert_close(found.z()[5], torch.tensor(50 / 1.4826, dtype=torch.float64))
    assert found.auroc([False] * 5 + [True]) == 1.0
    assert found.auroc([True, False, False, False, False, False]) == pytest.approx(2 / 5)
    groups = found.by([1, 1, 1, 1, 1, 64])
    assert groups[1].value == 0.0
    assert tuple(groups[64]) == (50.0, 5.0)


def test_files_and_merging(tmp_path):
    found = made([1.0, 2.0])
    read = mmg_diffusers.load(found.save(tmp_path / "e.safetensors"))
    assert isinstance(read, Excess)
    assert torch.equal(read.nats, found.nats)
    assert len(Excess.merge([found, found])) == 4
    assert "above the truth" in str(found)


@pytest.mark.parametrize(
    ("other", "error", "says"),
    [
        ([1.0], ValueError, "got exact informations of shape"),
        ([1.0, float("nan"), 0.0], ValueError, "the other's informations are not finite"),
    ],
)
def test_what_it_cannot_be_held_against(other, error, says):
    with pytest.raises(error, match=says):
        excess(made([1.0, 2.0, 3.0]), other)


def test_results_that_were_measured_otherwise():
    one = replace(made([1.0, 2.0, 3.0]), settings={"seed": 1, "draws": 2, "model": "a"})
    assert "3 pairs: too few" in excess(one, one).warnings()[0]
    (said,) = excess(one, replace(one, settings={"seed": 3, "draws": 2, "model": "b"})).notes
    assert said.startswith("the two were measured with seed 1 and 3")
    assert excess(one, replace(one, settings={"seed": 1, "model": "b"})).notes == ()
    path = PathInfluence(torch.tensor([0.0, 1.0]).double(), torch.ones(3, 2).double(), torch.ones(3, 2, 1), True)
    with pytest.raises(ValueError, match="kind 'excess' and the other's 'path influence'"):
        excess(one, path)


def test_other_pairs():
    one = made([1.0, 2.0])
    other = Excess(one.model, one.model_error, one.other, one.other_error, torch.tensor([3, 4]), "x")
    with pytest.raises(ValueError, match="in one order"):
        excess(one, other)
    with pytest.raises(TypeError, match="expected a result"):
        excess(3.0, other)
    with pytest.raises(ValueError, match="some of either"):
        one.auroc([True, True])
