"""Turns: maps with an inverse that undo rotations by angles that depend on the place, if held-out pairs confirm them."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers.arrays.estimate import fit_model
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.fitting import Fit, FitSettings
from mmg_diffusers.arrays.floors import GAUSSIAN, Floors, Reading
from mmg_diffusers.arrays.judging import told_in_closed_form
from mmg_diffusers.arrays.preprocess import Preprocessing, fit_turned
from mmg_diffusers.arrays.turns import Turns, fit_turns, still_gains, wound
from mmg_diffusers.measure.value import Value
from mmg_diffusers.worlds.tasks import get_task
from mmg_diffusers.worlds.tasks.laws import Multinormal
from mmg_diffusers.worlds.tasks.maps import Spiral


def spiral(count, size=3, strength=20.0, seed=0):
    """Pairs of two correlated coordinates, wound up, and their information."""
    law = Multinormal.sparse(size, strength)
    x, y = law.draw(count, np.random.default_rng(seed))
    return {"x": Spiral(0, 1)(x), "y": Spiral(1, 2)(y)}, law.mi_nats


def parts(data, held=1000):
    return {name: v[held:] for name, v in data.items()}, {name: v[:held] for name, v in data.items()}


def stirred(size, seed=0):
    turns = Turns(size).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in turns.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return turns


def undone(turn, turned):
    """The inverse of one turn: angles are read off what a turn leaves as it is, so that they are known from its output."""
    rest, planes = turned[:, : -2 * turn.planes], turned[:, -2 * turn.planes :]
    still = torch.cat([planes, rest], 1)
    with torch.no_grad():
        back = torch.linalg.inv(turn.matrix)
        # Rotate by the angles of the output and see by how much: this is what was rotated by.
        again = turn(still @ back - turn.shift)[0][:, -2 * turn.planes :]
    before, after = (torch.view_as_complex(p.reshape(len(p), -1, 2).contiguous()) for p in (planes, again))
    first = torch.view_as_real(before * before / after).flatten(1)
    return torch.cat([first, rest], 1) @ back - turn.shift


@pytest.mark.parametrize("size", [2, 3, 4, 9])
def test_turns_have_an_inverse(size):
    turns = stirred(size)
    values = 2 * torch.randn(200, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        turned, _ = turns(values)
    assert float((turned - values).abs().mean()) > 0.1
    for turn in reversed(turns.turns):
        turned = undone(turn, turned)
    torch.testing.assert_close(turned, values, atol=1e-8, rtol=0)


def test_the_change_of_volume_is_that_of_the_jacobian():
    turns = stirred(4)
    for row in torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda v: turns(v[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], turns(row[None])[1])


def test_a_spiral_is_unwound():
    data, truth = spiral(12_000)
    train, held = parts(data)
    plain = Preprocessing.fit(train)
    turned, found = fit_turned(train, held, 300, 0)
    assert len(found.rounds) == 2
    linear, told = (-0.5 * np.log(1 - p.correlations**2).sum() for p in (plain, turned))
    assert linear < 0.3 * truth
    assert 0.85 * truth < told < truth + 0.05
    assert found.gained == pytest.approx(told - linear, abs=0.3)
    # Other pairs follow the law that the network starts from.
    fresh = turned(spiral(12_000, seed=1)[0])
    both = torch.cat([fresh["x"], fresh["y"]], 1)
    torch.testing.assert_close(both.T @ both / len(both), turned.covariance, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "key", ["multinormal-sparse-3-3-2-2.0", "student-identity-3-3-2", "swissroll_x-normal_cdf-1v1-normal-0.75"]
)
def test_nothing_is_turned_that_is_not_wound(key):
    x, y = get_task(key).sample(7_000, 3)
    ready = Preprocessing.fit({"x": x, "y": y})({"x": x, "y": y})
    assert wound(ready["x"], ready["y"]) < 0.03
    assert fit_turns(ready, {name: v[:500] for name, v in ready.items()}, 3_500) is None


def test_turns_are_looked_for_where_they_can_be_found(monkeypatch):
    data, _ = spiral(5_000)
    ready = Preprocessing.fit(data)(data)
    held = {name: values[:500] for name, values in ready.items()}
    assert wound(ready["x"], ready["y"]) > 0.05
    assert fit_turns(ready, held, 50) is None  # too few steps for a round
    assert fit_turns({name: values[:2_500] for name, values in ready.items()}, held, 100) is None
    # What held-out pairs do not confirm is dropped: here they are of other partners.
    strangers = {"x": held["x"], "y": held["y"].flip(0)}
    assert fit_turns(ready, strangers, 100) is None
    # Labels, and a third variable.
    labels = {"x": data["x"], "y": (data["y"][:, 0] > 0).astype(int)}
    assert fit_turned(labels, labels, 100, 0)[1] is None
    three = {**data, "c": data["x"][:, :1] + np.random.default_rng(0).standard_normal((5_000, 1))}
    assert fit_turned(three, three, 100, 0)[1] is None


def test_turns_keep_in_a_file_and_in_what_an_estimate_tells(tmp_path):
    data, truth = spiral(8_000, seed=2)
    train, test = parts(data)
    model = fit_model(train, settings=FitSettings(steps=120, pilot=120, batch=128), seed=4)
    assert len(model.fitted.turned) == 1
    again = FittedModel.load(model.save(tmp_path / "model.safetensors"))
    assert again.fitted.turned == model.fitted.turned
    found = [one.estimate(test, seed=1) for one in (model, again)]
    assert found[0].mean() == found[1].mean()
    assert found[0].mean().value > 0.7 * truth
    assert found[0].settings["turned_nats"] == [round(gain, 5) for gain in model.fitted.turned]
    assert any("cut short" in text for text in found[0].warnings())
    # The same seed gives the same turns.
    same = fit_model(train, settings=FitSettings(steps=120, pilot=120, batch=128), seed=4)
    assert same.fitted.turned == model.fitted.turned


def test_turns_that_still_gained_are_said():
    settings = FitSettings(steps=3_500)

    def fitted(*turned):
        return Fit(None, 500, 1.0, 0.0, True, (0.001,), turned)

    assert "still gained 0.300" in fitted(5.0, 0.3).unfinished(settings, 10.0)
    assert fitted(5.0, 0.005).unfinished(settings, 10.0) is None
    assert fitted().unfinished(settings, 10.0) is None
    assert fitted(5.0, 0.3).last_gain == 0.3
    assert fitted(5.0, -0.3).last_gain == 0.001
    assert still_gains((5.0, 0.3), 10.0)
    assert not still_gains((5.0, 0.015), 10.0)  # 0.2 % of what is told
    assert not still_gains((), 10.0)


def test_the_gaussian_part_is_not_told_in_place_of_turned_variables():
    reading = Reading(GAUSSIAN, Value(0.3, 0.01), 0.0)
    floors, settings = Floors((reading,)), FitSettings()
    plain = Fit(None, 500, 1.0, 0.0, True, (0.0,))
    assert told_in_closed_form(floors, plain, settings) == reading.value
    assert told_in_closed_form(floors, Fit(None, 500, 1.0, 0.0, True, (0.0,), (2.0, 0.0)), settings) is None


def test_one_coordinate_is_not_turned_but_what_it_meets_is():
    """y is a coordinate of what x was before it was wound up."""
    rng = np.random.default_rng(5)
    v = rng.standard_normal((12_000, 3))
    data = {"x": Spiral(0, 1)(v), "y": v[:, :1] + 0.05 * rng.standard_normal((12_000, 1))}
    train, held = parts(data)
    turned, found = fit_turned(train, held, 300, 0)
    assert set(found.turns) == {"x"}
    assert turned.variables["y"].turns is None
    told = -0.5 * math.log(1 - turned.correlations[0] ** 2)
    assert told > 0.8 * 0.5 * math.log(1 + 400)
