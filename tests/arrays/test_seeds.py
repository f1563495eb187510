"""Random numbers: seeds of any size tell trainings apart, and nobody's global generator is moved."""

import random

import numpy as np
import pytest
import torch

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays.estimate import FittedModel, fit_model
from mmg_diffusers.arrays.fitting import FitSettings, Fitter, paired
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.seeds import folded, generator_of, seeded, step_generator
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, rows_of
from mmg_diffusers.arrays.turns import fit_turns
from mmg_diffusers.worlds.tasks.maps import Spiral

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 1))
Y = 0.8 * X + 0.6 * RNG.standard_normal((400, 1))
DATA = {"x": torch.from_numpy(X).float(), "y": torch.from_numpy(Y).float()}
QUICK = FitSettings(steps=4, pilot=2, batch=8)
ROLES = paired("x", ["y"])


def train(seed=0):
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    Trainer(network, rows_of(DATA), DATA, ROLES, TrainSettings(steps=2, batch=4, check_every=1), seed=seed).run(False)
    return network


def saved(folder):
    model = fit_model(DATA, settings=QUICK)
    return FittedModel.load(model.save(folder / "model.safetensors"))


FLAT = RNG.standard_normal((4000, 3))
WOUND = {
    "x": torch.from_numpy(Spiral(0, 1)(FLAT)),
    "y": torch.from_numpy(Spiral(1, 2)(0.9 * FLAT + 0.44 * RNG.standard_normal((4000, 3)))),
}


PICTURES = {"x": RNG.random((20, 4, 4)), "y": RNG.integers(0, 2, 20)}
WORK = {
    "estimate_mi": lambda folder: estimate_mi(X, Y, settings=QUICK, seed=3),
    "fit_model": lambda folder: fit_model(DATA, settings=QUICK, checkpoint=folder / "fit.safetensors"),
    "a saved model": saved,
    "Fitter": lambda folder: Fitter(VectorNetwork({"x": 1, "y": 1}, torch.eye(2)), DATA, ROLES, QUICK).run(2),
    "Trainer": lambda folder: train(),
    "VectorNetwork": lambda folder: VectorNetwork({"x": 2}, torch.eye(2), seed=5).member(0),
    "ImageNetwork": lambda folder: ImageNetwork({"x": (1, 4, 4), "y": (1, 1, 1)}, widths=(8, 8)),
    "fit_turns": lambda folder: fit_turns(WOUND, WOUND, 100).turns["x"],
    "ImagePreprocessing": lambda folder: ImagePreprocessing.fit(PICTURES),
}


@pytest.mark.parametrize("name", WORK)
def test_global_generators_stay_where_they_were(name, tmp_path):
    def numbers():
        return torch.rand(4).tolist(), np.random.rand(4).tolist(), [random.random() for _ in range(4)]  # noqa: NPY002

    def begin():
        torch.manual_seed(17)
        np.random.seed(17)  # noqa: NPY002
        random.seed(17)

    begin()
    first, then = numbers(), numbers()
    begin()
    assert numbers() == first
    WORK[name](tmp_path)
    assert numbers() == then


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=8, seed=seed),
        lambda seed: ImageNetwork({"x": (1, 4, 4), "y": (1, 1, 1)}, widths=(8, 8), seed=seed),
    ],
    ids=["VectorNetwork", "ImageNetwork"],
)
def test_networks_start_as_their_seed_says(make):
    torch.manual_seed(1)
    start = weights(make(0))
    torch.manual_seed(2)
    assert torch.equal(weights(make(0)), start)
    for seed in (1, 2**32, 2**63 - 1):
        assert float((weights(make(seed)) - start).abs().max()) > 0.05
    with pytest.raises(ValueError, match="seed is -1"):
        make(-1)


def test_starting_weights_are_those_of_torch_with_the_same_seed():
    """What was trained by version 0.1 after torch.manual_seed(seed) can be trained again."""
    torch.manual_seed(7)
    expected = torch.empty(3, 2).uniform_(-1, 1)
    with seeded(7):
        assert torch.equal(torch.empty(3, 2).uniform_(-1, 1), expected)
    assert torch.equal(torch.empty(3, 2).uniform_(-1, 1, generator=generator_of(7)), expected)


def test_seeds_of_any_size_are_seeds_of_their_own():
    """torch reads 32 bits of a seed on the CPU: 0, 2**32 and 256 * 2**24 would be the same."""
    places = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**63 - 1, 2**90]
    first = {tuple(torch.rand(2, generator=generator_of(place)).tolist()) for place in places}
    assert len(first) == len(places)
    assert [folded(place) for place in places[:4]] == places[:4]
    assert all(0 <= folded(place) < 2**32 for place in places)
    # And so are steps, processes and seeds of a training.
    alone = [(0, 0), (256, 0), (0, 1), (2**39, 0), (2**63 - 1, 0), (2**63 - 1, 1)]
    together = [(0, 0, 0, 2), (0, 0, 1, 2), (0, 1, 0, 2), (128, 0, 0, 2), (256, 0, 1, 2)]
    for steps in (alone, together):
        drawn = {tuple(torch.rand(2, generator=step_generator(*step)).tolist()) for step in steps}
        assert len(drawn) == len(steps)


def test_the_largest_seed_works_everywhere():
    largest = 2**63 - 1
    small = weights(train(seed=0))
    for seed in (256, 2**39, largest):
        assert not torch.equal(weights(train(seed=seed)), small)
    found = [estimate_mi(X, Y, settings=QUICK, seed=seed).nats for seed in (largest, 2**32)]
    assert all(bool(nats.isfinite().all()) for nats in found)
    fits = [weights(fit_model(DATA, settings=QUICK, seed=seed).network) for seed in (0, 256, 2**32, largest)]
    for place, one in enumerate(fits):
        assert not any(torch.equal(one, other) for other in fits[:place])


def test_a_loop_of_trials_gets_new_data():
    """Data that a user draws from torch's global generator are not the same after the first estimate."""
    torch.manual_seed(0)
    trials = []
    for _ in range(3):
        trials.append(torch.randn(300, 1))
        estimate_mi(trials[-1], torch.randn(300, 1), settings=QUICK)
    assert not torch.equal(trials[1], trials[2])
    assert not torch.equal(trials[0], trials[1])
