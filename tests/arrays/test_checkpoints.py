"""Checkpoints belong to their data: another training is refused in words, before anything is changed."""

import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from mmg_diffusers.arrays.checkpoints import Origin, load_checkpoint, save_checkpoint
from mmg_diffusers.arrays.estimate import fit_model
from mmg_diffusers.arrays.fitting import FitSettings, Fitter, fit, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, rows_of

QUICK = FitSettings(steps=6, pilot=3, batch=16, save_every=3, least_gain=-10, least_more=-10)
ROLES = paired("x", ["y"])


def correlated(rho, count=400, seed=0):
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, count, 1))
    return {"x": x, "y": rho * x + math.sqrt(1 - rho**2) * noise}


def tensors(data):
    return {name: torch.from_numpy(values).float() for name, values in data.items()}


# ---- fit_model ----


def test_a_fit_goes_on_with_its_own_data_alone(tmp_path):
    path = tmp_path / "fit.safetensors"
    strong, weak = correlated(0.95), correlated(0.05)
    first = fit_model(strong, settings=QUICK, checkpoint=path)
    again = fit_model(strong, settings=QUICK, checkpoint=path)
    for one, other in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"other settings or data \(data: .* there, .* now\)"):
        fit_model(weak, settings=QUICK, checkpoint=path)
    changed = {**strong, "y": strong["y"].copy()}
    changed["y"][-1] += 1e-9
    with pytest.raises(ValueError, match="other settings or data"):
        fit_model(changed, settings=QUICK, checkpoint=path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"held_out": 0.1}, "held_out: 0.05 there, 0.1 now"),
        ({"width": 32}, "width: 64 there, 32 now"),
        ({"settings": FitSettings(steps=7, pilot=3, batch=16)}, "settings.steps: 6 there, 7 now"),
        ({"given": ("x",)}, r"given: \['y'\] there, \['x'\] now"),
        ({"base": ("y",), "given": ("c",)}, r"base: \['c'\] there, \['y'\] now"),
    ],
)
def test_a_fit_with_other_options_is_refused(tmp_path, options, says):
    data = {**correlated(0.8), "c": correlated(0.0, seed=2)["x"]}
    given = {"base": ("c",), "given": ("y",), "settings": QUICK, "checkpoint": tmp_path / "fit.safetensors"}
    fit_model(data, **given)
    with pytest.raises(ValueError, match=says):
        fit_model(data, **{**given, **options})


# ---- Fitter and fit ----


def fitter(data, path, **options):
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    return Fitter(network, data, ROLES, QUICK, checkpoint=path, **options)


def test_the_data_of_a_fitter_are_looked_at(tmp_path):
    path = tmp_path / "fit.safetensors"
    data, other = tensors(correlated(0.9)), tensors(correlated(0.1))
    fitter(data, path).run(3)
    assert fitter(data, path).step == 3
    with pytest.raises(ValueError, match="data: "):
        fitter(other, path)
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    with pytest.raises(ValueError, match="assignments: "):
        Fitter(network, data, paired("y", ["x"]), QUICK, checkpoint=path)
    # The same data, held out otherwise.
    path = tmp_path / "held.safetensors"
    fit(network, data, data, ROLES, QUICK, checkpoint=path)
    with pytest.raises(ValueError, match="held_out: "):
        fit(network, data, other, ROLES, QUICK, checkpoint=path)


def test_what_was_made_ready_in_another_way_is_refused(tmp_path):
    """The data that a user states are the same, and the tensors are not: flipped axes, or the law of other data."""
    path = tmp_path / "fit.safetensors"
    data, origin = tensors(correlated(0.9)), {"data": "mine"}
    fitter(data, path, origin=origin).run(3)
    nearly = {name: values * (1 + 1e-6) for name, values in data.items()}
    assert fitter(nearly, path, origin=origin).step == 3
    with pytest.raises(ValueError, match="x is made ready in another way"):
        fitter({**data, "x": -data["x"]}, path, origin=origin)
    network = VectorNetwork({"x": 1, "y": 1}, torch.tensor([[1.0, 0.5], [0.5, 1.0]]), width=4)
    with pytest.raises(ValueError, match="covariance is made ready in another way"):
        Fitter(network, data, ROLES, QUICK, checkpoint=path, origin=origin)
    with pytest.raises(ValueError, match="data: 'mine' there, 'yours' now"):
        fitter(data, path, origin={"data": "yours"})


def test_a_refused_checkpoint_changes_nothing(tmp_path):
    path = tmp_path / "c.safetensors"
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizers = [torch.optim.AdamW(each.parameters()) for each in (one, other)]
    save_checkpoint(path, {"m": one}, optimizers[0], {"step": 1}, Origin({"data": "a"}))
    before = other.weight.clone()
    with pytest.raises(ValueError, match="data: 'a' there, 'b' now"):
        load_checkpoint(path, {"m": other}, optimizers[1], Origin({"data": "b"}))
    assert torch.equal(other.weight, before)
    assert load_checkpoint(path, {"m": other}, optimizers[1], Origin({"data": "a"}))["step"] == 1
    assert torch.equal(other.weight, one.weight)


def test_long_values_are_not_printed_whole(tmp_path):
    path = tmp_path / "c.safetensors"
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    save_checkpoint(path, {"m": module}, optimizer, {}, Origin({"data": "a", "names": ["x" * 5000] * 900}))
    with pytest.raises(ValueError, match="names") as refused:
        load_checkpoint(path, {"m": module}, optimizer, Origin({"data": "a", "names": ["y" * 5000] * 900}))
    assert len(str(refused.value)) < 900


def without_origin(path):
    """As version 0.1 wrote it: no identity, and nothing of the data."""
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
        kept = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("prepared/")}
    state["record"] = {key: state["record"][key] for key in ("settings", "seed", "count", "logsnr_range")}
    safetensors.torch.save_file(kept, path, metadata={"state": json.dumps(state)})


def test_checkpoints_of_version_0_1_are_taken_up_with_a_warning(tmp_path):
    path = tmp_path / "fit.safetensors"
    data = tensors(correlated(0.9))
    fitter(data, path).run(3)
    without_origin(path)
    with pytest.warns(UserWarning, match="written by version 0.1, which did not keep what data"):
        assert fitter(data, path).step == 3
    with pytest.warns(UserWarning, match="version 0.1"), pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        fitter(data, path, seed=1)


def test_moments_lie_in_memory_as_their_parameters_do(tmp_path):
    """Fused Adam reads both in the same order, so moments of channels-last weights would be scrambled."""
    path = tmp_path / "c.safetensors"

    def made():
        module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return module, torch.optim.AdamW(module.parameters(), fused=True)

    module, optimizer = made()
    module(torch.randn(2, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    save_checkpoint(path, {"m": module}, optimizer, {})
    other, again = made()
    load_checkpoint(path, {"m": other}, again)
    for there, here in zip(module.parameters(), other.parameters(), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[there][name], again.state[here][name])
            assert again.state[here][name].stride() == here.stride()


# ---- Trainer ----


def trainer(data, path, source=None, held_out=None, **options):
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    settings = TrainSettings(steps=2, batch=8, check_every=1)
    held_out = {name: values[:50] for name, values in data.items()} if held_out is None else held_out
    return Trainer(network, source or rows_of(data), held_out, ROLES, settings, checkpoint=path, **options)


def test_the_examples_of_a_trainer_are_looked_at(tmp_path):
    path = tmp_path / "c.safetensors"
    data = tensors(correlated(0.9))
    trainer(data, path).run(False)
    assert trainer(data, path).step == 2
    held = {name: values[:50] for name, values in data.items()}
    # One row in 400, which a batch may never have drawn.
    changed = {name: values.clone() for name, values in data.items()}
    changed["x"][399] += 0.5
    with pytest.raises(ValueError, match=r"\(data: "):
        trainer(changed, path, held_out=held)
    with pytest.raises(ValueError, match=r"\(held_out: "):
        trainer(data, path, held_out={name: values[50:90] for name, values in data.items()})


def stream(rho):
    def draw(size, generator):
        x, noise = torch.randn(2, size, 1, generator=generator)
        return {"x": x, "y": rho * x + math.sqrt(1 - rho**2) * noise}

    return draw


def test_a_stream_is_known_by_what_it_draws_first_or_by_what_its_user_states(tmp_path):
    path = tmp_path / "c.safetensors"
    held = tensors(correlated(0.5, 50))
    trainer(None, path, stream(0.95), held).run(False)
    assert trainer(None, path, stream(0.95), held).step == 2
    with pytest.raises(ValueError, match=r"\(data: "):
        trainer(None, path, stream(0.05), held)
    stated = tmp_path / "stated.safetensors"
    trainer(None, stated, stream(0.95), held, origin={"data": "my stream, version 1"}).run(False)
    asked = []

    def counted(size, generator):
        asked.append(size)
        return stream(0.95)(size, generator)

    assert trainer(None, stated, counted, held, origin={"data": "my stream, version 1"}).step == 2
    assert not asked
    with pytest.raises(ValueError, match=r"version 1' there, .*version 2' now"):
        trainer(None, stated, stream(0.95), held, origin={"data": "my stream, version 2"})


def test_numbers_of_numpy_are_written_as_pythons(tmp_path):
    settings = FitSettings(steps=np.int64(4), pilot=np.int32(2), batch=np.int64(8), lr=np.float32(0.01))
    options = {"settings": settings, "seed": np.int64(3), "width": np.int64(8), "held_out": np.float32(0.125)}
    path = tmp_path / "fit.safetensors"
    model = fit_model(correlated(0.5), checkpoint=path, **options)
    model.save(tmp_path / "model.safetensors")
    assert fit_model(correlated(0.5), checkpoint=path, **options).fitted.steps == model.fitted.steps
    trainer(tensors(correlated(0.5)), tmp_path / "c.safetensors", seed=np.int64(2)).run(False)
