"""Training over any source: it learns, stops, resumes as if undisturbed, and runs on several processes."""

import itertools
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from mmg_diffusers.arrays import trainer as trainer_module
from mmg_diffusers.arrays.checkpoints import cosine_rate
from mmg_diffusers.arrays.estimate import FittedModel, fit_model
from mmg_diffusers.arrays.fitting import FitSettings, losses, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, join_processes, rows_of
from mmg_diffusers.measure.estimate import Estimate
from tests.launching import forked

ROLES = paired("x", ["y"])
SETTINGS = TrainSettings(steps=12, batch=16, check_every=4, warmup=2)


def bent(count=600, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, count, 1, generator=generator)
    return {"x": x, "y": (x**2 - 1) / math.sqrt(2) + 0.3 * noise}


def trainer(path=None, settings=SETTINGS, width=8, data=None, seed=0):
    data = data or bent()
    torch.manual_seed(0)
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=width)
    held = {name: values[500:] for name, values in data.items()}
    fresh = rows_of({name: values[:500] for name, values in data.items()})
    return Trainer(network, fresh, held, ROLES, settings, seed=seed, checkpoint=path)


def test_it_learns_what_has_to_be_learnt():
    settings = TrainSettings(steps=150, batch=64, lr=5e-3, check_every=50, warmup=10)
    one = trainer(settings=settings, width=24)
    fitted = one.run(progress=False)
    losses = [look["loss"] for look in one.history]
    assert sum(fitted.rounds) == pytest.approx(losses[0] - losses[-1])
    assert fitted.gained == pytest.approx(losses[0] - min(losses))
    assert fitted.gained > 0.2
    assert not any(parameter.requires_grad for parameter in fitted.network.parameters())


def test_examples_are_seen_at_several_levels():
    data = {name: values[:3] for name, values in bent().items()}
    torch.manual_seed(0)
    network = VectorNetwork({"x": 1, "y": 1}, torch.tensor([[1.0, 0.5], [0.5, 1.0]]), width=8)
    logsnr, eps = torch.linspace(-5, 8, 12, dtype=torch.float64), {"x": torch.randn(12, 1)}
    few = losses(network, data, ROLES, logsnr, eps)
    every = losses(network, {name: values.repeat(4, 1) for name, values in data.items()}, ROLES, logsnr, eps)
    for one, other in zip(few, every, strict=True):
        assert torch.equal(one, other)
    asked, drawn = [], []
    source = rows_of(data)

    def spied(count, generator):
        asked.append(count)
        return source(count, generator)

    one = Trainer(network, spied, data, ROLES, TrainSettings(steps=2, batch=5, draws=3))
    draw = one.levels.draw
    one.levels.draw = lambda count, generator: drawn.append(count) or draw(count, generator)
    one.run(progress=False)
    assert asked == [5, 5]
    assert drawn == [15, 15]


def test_it_stops_where_nothing_is_left_to_learn_and_keeps_the_best():
    generator = torch.Generator().manual_seed(0)
    data = dict(zip("xy", torch.randn(2, 600, 1, generator=generator), strict=True))
    settings = TrainSettings(steps=500, batch=8, lr=0.03, check_every=5, patience=2, warmup=1)
    one = trainer(settings=settings, data=data)
    start = {key: value.clone() for key, value in one.network.state_dict().items()}
    fitted = one.run(progress=False)
    assert fitted.steps < 100
    losses = [look["loss"] for look in one.history]
    assert min(losses[-2:]) > min(losses)
    assert fitted.gained == 0  # the exact start is the best
    assert all(torch.equal(value, start[key]) for key, value in fitted.network.state_dict().items())


def test_a_stopped_training_goes_on_as_if_undisturbed(tmp_path):
    undisturbed = trainer()
    whole = undisturbed.run(progress=False)

    path, seen = tmp_path / "checkpoint.safetensors", []
    first = trainer(path)
    step = first._one_step

    def stopping(loss_of):
        seen.append(first.step)
        if len(seen) == 10:  # two steps after a checkpoint
            raise KeyboardInterrupt
        step(loss_of)

    first._one_step = stopping
    with pytest.raises(KeyboardInterrupt):
        first.run(progress=False)
    second = trainer(path)
    assert second.step == 8
    again = second.run(progress=False)
    assert second.history == undisturbed.history
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    # Finished, it is read back.
    done = trainer(path)
    assert done.step == 12
    assert done.run(progress=False).rounds == whole.rounds


class Rank:
    """One of several processes, alone: sums over processes are those of this one."""

    def __init__(self, process_index, num_processes):
        self.process_index, self.num_processes, self.inner = process_index, num_processes, join_processes()

    def __getattr__(self, name):
        return getattr(self.inner, name)


def ranked(rank, count, source=None):
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    data = bent(60)
    settings = TrainSettings(steps=1, batch=8, check_every=1)
    return Trainer(network, source or rows_of(data), data, ROLES, settings, accelerator=Rank(rank, count))


def test_processes_see_different_examples_and_share_what_is_held_out(monkeypatch):
    drawn = []

    def source(size, generator):
        drawn.append(torch.randn(size, 1, generator=generator))
        return {"x": drawn[-1], "y": drawn[-1]}

    for rank in range(3):
        ranked(rank, 3, source).run(progress=False)
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == 3
    held = [ranked(rank, 3).held_out["x"].flatten().tolist() for rank in range(3)]
    assert sorted(itertools.chain(*held)) == sorted(bent(60)["x"].flatten().tolist())
    # Batches of what is held out have noise of their own, on every process.
    seeds = []
    monkeypatch.setattr(trainer_module, "held_out_loss", lambda *args, seed, levels: seeds.append(seed) or 1.0)
    for rank in range(3):
        ranked(rank, 3)._look()
    assert sorted(seeds) == list(range(6))


@pytest.mark.parametrize("weighting", ["eps", "v"])
def test_the_loss_of_a_step(monkeypatch, weighting):
    """A mean over assignments and levels, per coordinate; the velocity's is 1 + 1/SNR times that of the noise."""
    data = {"x": torch.randn(20, 3), "y": torch.randn(20, 1)}
    network = VectorNetwork({"x": 3, "y": 1}, torch.eye(4), width=4)
    one = Trainer(network, rows_of(data), data, ROLES, TrainSettings(batch=8, draws=2, weighting=weighting))
    seen, found = [], []

    def loss_of(batch, logsnr, eps):
        seen.append((logsnr, eps))
        errors = network.null.sum() * 0 + torch.stack([torch.full((32,), 6.0), torch.full((32,), 12.0)])
        return errors, torch.ones(32)

    backward = one.accelerator.backward
    monkeypatch.setattr(one.accelerator, "backward", lambda loss: found.append(float(loss)) or backward(loss))
    one._one_step(loss_of)
    logsnr, eps = seen[0]
    assert torch.equal(logsnr[:16], logsnr[16:])
    assert torch.equal(eps["x"][:16], -eps["x"][16:])
    weight = float((1 + torch.exp(-logsnr)).mean()) if weighting == "v" else 1.0
    assert found == [pytest.approx(9 / 3 * weight, rel=1e-5)]


def test_the_likelihood_is_trained_at_even_levels_whatever_the_branches_say():
    asked = {}
    for objective in ("epsilon", "likelihood"):
        one = trainer(settings=TrainSettings(objective=objective))
        low, high = one.network.logsnr_range
        one.levels.see(torch.full((50,), high - 0.1, dtype=torch.float64), torch.full((50,), 1e6))
        levels = one.levels.draw(64, torch.Generator().manual_seed(0))
        strata = ((levels - low) / (high - low) * 64).long()
        asked[objective] = len(strata.unique())
    assert asked["likelihood"] == 64  # one in each of as many strata as there are levels
    assert asked["epsilon"] < 40


def test_checkpoints_from_before_there_were_objectives_go_on(tmp_path):
    assert "objective" not in TrainSettings().record()
    assert TrainSettings(objective="likelihood").record()["objective"] == "likelihood"
    path = tmp_path / "c"
    trainer(path).run(progress=False)
    with pytest.raises(ValueError, match="settings"):
        trainer(path, settings=TrainSettings(steps=12, batch=16, check_every=4, warmup=2, objective="likelihood"))


def test_the_running_mean_begins_short():
    one = trainer(settings=TrainSettings(average=0.99))
    for count, share in ((0, 0.9), (10, 9 / 20), (10**6, 0.01)):
        averaged = [torch.zeros(2)]
        one._average(averaged, [torch.ones(2)], count)
        torch.testing.assert_close(averaged[0], torch.full((2,), share))


def test_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trainer(path).run(progress=False)
    with pytest.raises(ValueError, match="other settings"):
        trainer(path, seed=1)
    with pytest.raises(ValueError, match="another architecture"):
        trainer(path, width=4)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="no checkpoint of this library"):
        trainer(path)


def test_bad_settings_and_diverging_losses_are_said():
    with pytest.raises(ValueError, match="steps is 0"):
        TrainSettings(steps=0)
    with pytest.raises(ValueError, match="uniform in"):
        TrainSettings(uniform=0.0)
    with pytest.raises(ValueError, match="draws is 0"):
        TrainSettings(draws=0)
    with pytest.raises(ValueError, match="weighting is 'x'; expected one of eps, v"):
        TrainSettings(weighting="x")  # pyright: ignore[reportArgumentType]
    broken = bent()
    broken["y"][:500] = math.inf
    with pytest.raises(ValueError, match="the loss is"):
        trainer(data=broken).run(progress=False)
    with pytest.raises(ValueError, match="no held-out example"):
        trainer(data={name: values[:500] for name, values in bent().items()})


# ---- files of models ----


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_a_saved_model_measures_the_same(tmp_path, kind):
    rng = np.random.default_rng(0)
    x = rng.standard_t(2, (600, 2))  # ranks, linear columns and labels: all that preprocessing knows
    y = np.stack([x[:, 0] ** 3 + rng.standard_normal(600), rng.standard_normal(600)], 1)
    data = {"x": x, "y": y if kind == "numbers" else (y[:, 0] > 0).astype(np.int32) + 3}
    model = fit_model(data, settings=FitSettings(steps=5, pilot=2, batch=32, least_gain=-10))
    other = FittedModel.load(model.save(tmp_path / "model.safetensors"))
    found = [each.estimate(data) for each in (model, other)]
    assert torch.equal(found[0].nats, found[1].nats)
    assert found[0].settings == found[1].settings
    assert other.fitted.steps == model.fitted.steps
    if kind == "labels":
        with pytest.raises(ValueError, match="label 9"):
            other.estimate({"x": x[:1], "y": np.array([9])})


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    model = fit_model(bent(), settings=FitSettings(steps=1, batch=8))
    body = model.save(path).read_bytes()
    pickled = pickle.dumps({"weights": [1.0]})
    estimate = model.estimate(bent(16, seed=3)).to_bytes()
    for wrong in (body[: len(body) // 2], b"", pickled, estimate, body.replace(b"VectorNetwork", b"VectorNotwork")):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="no complete fitted model"):
            FittedModel.load(path)
    with pytest.raises(FileNotFoundError):
        FittedModel.load(tmp_path / "none.safetensors")


# ---- several processes ----


def test_two_processes_train_one_model(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 1))
    np.savez(tmp_path / "pairs.npz", x=x, y=x**2 + 0.3 * rng.standard_normal((600, 1)))
    small = ["--batch", 64, "--lr", 0.005, "--check-every", 40, "--levels", 4, "--width", 8, "--steps", 120]
    said = forked(2, tmp_path, "train", tmp_path / "pairs.npz", "--output", tmp_path, *small)
    assert said.count("wrote") == 2
    model = FittedModel.load(tmp_path / "model.safetensors")
    assert model.settings["processes"] == 2
    assert model.fitted.gained > 0.1
    assert model.fitted.steps == 120
    assert len(Estimate.load(tmp_path / "estimate.safetensors")) == 120


def test_the_rate_rises_over_the_warmup_and_falls_to_nothing():
    rates = [cosine_rate(0.1, step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == max(rates) > 0.097
    assert rates[50] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(later < sooner for sooner, later in pairwise(rates[9:]))
