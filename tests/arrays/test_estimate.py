"""From arrays to an estimate: preprocessing, fitting, and the front door."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmg_diffusers import MMG, estimate_mi
from mmg_diffusers.arrays import folds as folds_module
from mmg_diffusers.arrays.estimate import fit_model
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.fitting import FitSettings, Fitter, fit, held_out_loss, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.workers import Part
from mmg_diffusers.measure.proposals import gap_fitted, published_adaptive
from mmg_diffusers.worlds.tasks import get_task

QUICK = FitSettings(steps=300, pilot=150, batch=256)


def correlated(count, rho=0.8, seed=0):
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, count, 1))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


# ---- levels and rules ----


def test_gap_fitted_looks_where_few_coordinates_speak():
    """50 coordinates, one of which carries information at the clean end: the published rule misses it."""
    cov = torch.eye(100, dtype=torch.float64)
    cov[0, 50] = cov[50, 0] = math.sqrt(1 - math.exp(-12.0))
    network = VectorNetwork({"x": 50, "y": 50}, cov, logsnr_range=(-8.0, 20.0))
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(400, 100, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T
    x, cond = pairs[:, :50].float(), {"y": pairs[:, 50:].float()}
    view = network.view("x")
    published = published_adaptive(view, x, cond)
    assert published.loc == pytest.approx(0, abs=0.3)
    assert published.scale == pytest.approx(1, abs=0.2)
    fitted = gap_fitted(view, x, cond)
    mass = np.array(fitted.mass) / sum(fitted.mass)
    assert mass[np.array(fitted.edges[:-1]) > 0].sum() > 0.5
    value = MMG("orthogonal", fitted)(view, x, cond).mean().value
    assert value == pytest.approx(6.0, abs=0.25)
    assert MMG("orthogonal", published)(view, x, cond).mean().value < 4


# ---- fitting ----


def bent(count=3000, seed=0):
    """y = x^2 with noise: no correlation, so all of the information has to be learnt."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1))
    return x, (x**2 - 1) / math.sqrt(2) + 0.3 * rng.standard_normal((count, 1))


def test_training_lowers_the_held_out_loss():
    x, y = (torch.from_numpy(v).float() for v in bent())
    data, held = {"x": x[:2000], "y": y[:2000]}, {"x": x[2000:], "y": y[2000:]}
    torch.manual_seed(0)
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2))
    before = held_out_loss(network, held, paired("x", ["y"]))
    Fitter(network, data, paired("x", ["y"]), QUICK).run(300)
    assert held_out_loss(network, held, paired("x", ["y"])) < before - 0.1


def test_a_stopped_fit_goes_on_as_if_undisturbed(tmp_path):
    x, y = (torch.from_numpy(v).float() for v in bent(500))
    settings = FitSettings(steps=20, batch=32, save_every=5)

    def fitter(path=None):
        torch.manual_seed(0)
        network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=8)
        return Fitter(network, {"x": x, "y": y}, paired("x", ["y"]), settings, checkpoint=path)

    whole = fitter()
    whole.run(20)
    path = tmp_path / "fit.safetensors"
    fitter(path).run(10)
    again = fitter(path)
    assert again.step == 10
    again.run(20)
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    # Another run's file is refused, and so is a broken one.
    with pytest.raises(ValueError, match="other settings"):
        Fitter(fitter().network, {"x": x, "y": y}, paired("x", ["y"]), QUICK, checkpoint=path)
    narrow = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    with pytest.raises(ValueError, match="another architecture"):
        Fitter(narrow, {"x": x, "y": y}, paired("x", ["y"]), settings, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no checkpoint of this library"):
        fitter(path)


def test_a_fit_stopped_in_its_second_round_goes_on(tmp_path):
    x, y = (torch.from_numpy(v).float() for v in bent(800))
    data, held = {"x": x[:600], "y": y[:600]}, {"x": x[600:], "y": y[600:]}
    settings = FitSettings(steps=20, pilot=10, least_gain=-1.0, batch=32, save_every=5)

    def run(path=None, progress=None):
        torch.manual_seed(0)
        network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=8)
        fit(network, data, held, paired("x", ["y"]), settings, checkpoint=path, progress=progress)
        return network

    steps = []

    def stop(count):
        steps.append(count)
        if len(steps) == 17:  # in the second round, two after a checkpoint
            raise KeyboardInterrupt

    path = tmp_path / "fit.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(path, stop)
    for one, other in zip(run().parameters(), run(path).parameters(), strict=True):
        assert torch.equal(one, other)
    wide = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=8, logsnr_range=(-8.0, 22.0))
    with pytest.raises(ValueError, match="other settings"):
        fit(wide, data, held, paired("x", ["y"]), settings, checkpoint=path)


def test_members_of_a_stack_train_as_if_alone():
    x, y = (torch.from_numpy(v).float() for v in bent(500))
    settings = FitSettings(steps=10, batch=32)
    torch.manual_seed(0)
    stack = VectorNetwork({"x": 1, "y": 1}, torch.eye(2).expand(2, -1, -1), width=8)
    alone = [stack.member(k) for k in range(2)]
    Fitter(stack, {"x": x, "y": y}, paired("x", ["y"]), settings).run(10)
    moved = [stack.member(k).state_dict() for k in range(2)]
    assert not torch.equal(moved[0]["inlet.weight"], alone[0].state_dict()["inlet.weight"])
    assert not torch.equal(moved[0]["inlet.weight"], moved[1]["inlet.weight"])


# ---- the front door ----


def test_correlated_normals():
    x, y = correlated(6000)
    found = estimate_mi(x, y, settings=QUICK)
    truth = -0.5 * math.log(1 - 0.64)
    # The weighed mean may lean on either form, whose errors alone say little of how well it is met.
    for form, most in (("gap", 0.02), ("orthogonal", 0.013), ("balanced", 0.035)):
        value, stderr = found.using(form).mean()
        assert abs(value - truth) < 4 * min(stderr, 0.02), form
        assert stderr < most
    assert len(found) == 1800
    assert found.settings["fit_steps"] == 150  # nothing to learn beyond the Gaussian start
    again = estimate_mi(torch.from_numpy(x), y.tolist(), settings=QUICK)
    assert torch.equal(again.nats, found.nats)


def test_information_that_has_to_be_learnt():
    """Against numerical integration: y given x is normal, so I = h(y) - h(noise), and h(y) by quadrature."""
    x, y = bent(10000)
    value, stderr = estimate_mi(x, y, settings=FitSettings(steps=400, pilot=200)).mean()
    nodes = np.linspace(-8, 8, 2001)
    weights = np.exp(-(nodes**2) / 2)
    grid = np.linspace(-4, 46, 8000)
    centres = (nodes**2 - 1) / math.sqrt(2)
    density = (weights / weights.sum()) @ np.exp(-((grid - centres[:, None]) ** 2) / 0.18) / math.sqrt(0.18 * math.pi)
    entropy = -np.trapezoid(density * np.log(np.where(density > 0, density, 1)), grid)
    truth = entropy - 0.5 * math.log(2 * math.pi * math.e * 0.09)
    assert abs(value - truth) < 4 * stderr + 0.05
    assert truth > 0.9 > 20 * stderr


def test_independent_arrays():
    rng = np.random.default_rng(0)
    value, stderr = estimate_mi(rng.standard_normal((4000, 2)), rng.uniform(size=4000), settings=QUICK).mean()
    assert abs(value) < 4 * stderr + 0.01
    assert stderr < 0.02


@pytest.mark.parametrize("key", ["labels-normal-1-3", "labels-uniform-1-5"])
def test_labels(key):
    task = get_task(key)
    x, y = task.sample(8000, 0)
    value, stderr = estimate_mi(x, y, settings=FitSettings(steps=500, pilot=150, batch=256)).mean()
    assert abs(value - task.mi_nats) < 4 * stderr + 0.06
    assert task.mi_nats > 0.5 > 10 * stderr


def test_conditional_information():
    rng = np.random.default_rng(0)
    c, a, b = rng.standard_normal((3, 6000, 1))
    x, y = c + a, c + a + b  # given c: x = a, y = a + b
    found = estimate_mi(x, y, given=c, settings=QUICK)
    value, stderr = found.mean()
    assert abs(value - 0.5 * math.log(2)) < 4 * stderr
    assert abs(estimate_mi(x, y, settings=QUICK).mean().value - value) > 0.1


def test_what_is_measured_took_no_part_in_the_fit(monkeypatch):
    """Pairs are told apart by x: three parts that share none, and that are all of them."""
    x, y = correlated(1000)
    parts = {}
    fit = folds_module.fit
    monkeypatch.setattr(
        folds_module,
        "fit",
        lambda network, data, held, *rest, **options: (
            parts.update(fitted=data["x"], held=held["x"]) or fit(network, data, held, *rest, **options)
        ),
    )
    measure = FittedModel.estimate
    monkeypatch.setattr(
        FittedModel,
        "estimate",
        lambda model, data, **options: (
            parts.update(measured=model.preprocessing({"x": data["x"]})["x"], all=model.preprocessing({"x": x})["x"])
            or measure(model, data, **options)
        ),
    )
    estimate_mi(x, y, test_share=0.3, settings=FitSettings(steps=1, pilot=1, batch=8))
    parts = {name: set(values.flatten().tolist()) for name, values in parts.items()}
    assert {name: len(values) for name, values in parts.items()} == {
        "fitted": 595,
        "held": 105,
        "measured": 300,
        "all": 1000,
    }
    assert parts["fitted"] | parts["held"] | parts["measured"] == parts["all"]


@pytest.mark.parametrize(("rho", "high"), [(0.5, 12.0), (math.sqrt(1 - math.exp(-8.0)), 15.0), (1 - 1e-9, 22.0)])
def test_the_range_reaches_beyond_what_the_correlation_tells(monkeypatch, rho, high):
    """The curve of a Gaussian pair falls beyond log-SNR -log(1 - rho^2); 7 more leave a thousandth of it."""
    x, y = correlated(3000, rho)
    ranges = []
    fit = folds_module.fit
    monkeypatch.setattr(
        folds_module,
        "fit",
        lambda network, *rest, **options: ranges.append(network.logsnr_range) or fit(network, *rest, **options),
    )
    fit_model({"x": x, "y": y}, settings=FitSettings(steps=1, pilot=1, batch=8))
    # That the branches still differ at the clean end, as after a single step, is not enough to try all of the range.
    assert ranges == [(-8.0, pytest.approx(high, abs=0.2))]


def test_a_wider_range_is_tried_where_held_out_pairs_show_information_at_the_end():
    """A pair of much information, over a range that ends too early, and a weak one."""
    for rho, beyond in ((math.sqrt(1 - math.exp(-14.0)), True), (0.5, False)):
        x, y = (torch.from_numpy(v).float() for v in correlated(400, rho))
        network = VectorNetwork(
            {"x": 1, "y": 1}, torch.tensor([[[1, rho], [rho, 1]]]).double(), logsnr_range=(-8.0, 12.0)
        )
        parts = [({}, {"x": x, "y": y})]
        assert folds_module.lies_beyond(network, parts, paired("x", ["y"]), 0, Part.whole(1)) == beyond


def test_pairs_of_ones_own_to_measure():
    x, y = correlated(3000)
    found = estimate_mi(x, y, test=correlated(500, seed=1), settings=QUICK)
    assert len(found) == 500
    model = fit_model({"x": x, "y": y}, settings=QUICK)
    assert model.diffused in ("x", "y")
    held = dict(zip("xy", correlated(500, seed=1), strict=True))
    assert abs(model.estimate(held).mean().value - found.mean().value) < 0.05


def test_the_smaller_variable_is_diffused():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 3))
    y = x[:, :1] + rng.standard_normal((1000, 1))
    brief = FitSettings(steps=1, pilot=1, batch=8)
    assert fit_model({"x": x, "y": y}, settings=brief).diffused == "y"
    assert fit_model({"x": x, "y": (y[:, 0] > 0).astype(int)}, settings=brief).diffused == "x"


def test_repeated_columns_are_said():
    x, y = correlated(1000)
    found = estimate_mi(np.concatenate([x, x], 1), y, settings=FitSettings(steps=1, pilot=1, batch=8))
    assert any("repeat others" in text for text in found.warnings())


def test_a_fitted_model_says_that_its_last_round_still_gained():
    """A spiral that is not learned reads too low, and its certificate does not always see that."""
    task = get_task("spiral-multinormal-sparse-3-3-2-200.0")
    x, y = task.sample(3000, 0)
    short = fit_model({"x": x, "y": y}, settings=FitSettings(steps=60, pilot=30, batch=128))
    found = short.estimate(dict(zip("xy", task.sample(500, 1), strict=True)))
    (said,) = (text for text in found.warnings() if "last round" in text)
    assert "steps=120" in said
    assert found.mean().value < 0.95 * task.mi_nats
    # One that gains no more says nothing.
    done = replace(short, fitted=replace(short.fitted, rounds=(0.5, 0.001)))
    assert not any("last round" in text for text in done.estimate({"x": x[:500], "y": y[:500]}).warnings())
