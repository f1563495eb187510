"""What is trained: errors, levels, antithetic noise and rounds, against numbers that are known."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers.arrays import fitting
from mmg_diffusers.arrays.base import MultiDenoiser, Roles
from mmg_diffusers.arrays.checkpoints import cosine_rate
from mmg_diffusers.arrays.fitting import FitSettings, Fitter, fit
from mmg_diffusers.arrays.losses import BINS, Levels, crossed, held_out_loss, losses, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.denoisers.levels import signal_and_noise

ROLES = paired("x", ["y"])
RHO = 0.8
LAW = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)


class Known(MultiDenoiser):
    """Of data that are 0 it predicts all of the noise, or a quarter if something is given; it keeps what it is shown."""

    def __init__(self):
        super().__init__({"x": (2,), "y": (1,)}, (-4.0, 6.0))
        self.seen = []

    def forward(self, noisy, logsnr, given):
        self.seen.append((noisy["x"].clone(), logsnr.clone()))
        share = 0.25 if given else 1.0
        return {name: share * z / signal_and_noise(logsnr)[1].float()[:, None] for name, z in noisy.items()}


def test_errors_and_differences_are_sums_of_squares():
    data, logsnr = {"x": torch.zeros(6, 2), "y": torch.zeros(6, 1)}, torch.linspace(-3, 5, 6, dtype=torch.float64)
    eps = {"x": torch.randn(6, 2, generator=torch.Generator().manual_seed(0))}
    errors, differ = losses(Known(), data, ROLES, logsnr, eps)
    square = eps["x"].square().sum(1)
    torch.testing.assert_close(errors, torch.stack([0 * square, 9 / 16 * square]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(differ, 9 / 16 * square, rtol=1e-5, atol=1e-5)


def test_the_held_out_loss_is_that_of_the_exact_denoiser():
    """Half the integral of a^2 v / (a^2 v + s^2) over log-SNR is 1/2 log(1 + v e^lambda) between the ends."""
    network = VectorNetwork({"x": 1, "y": 1}, LAW, width=4)
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.randn(40_000, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(LAW).T).float()
    data = {"x": pairs[:, :1], "y": pairs[:, 1:]}
    low, high = network.logsnr_range
    each = [0.5 * (math.log1p(v * math.exp(high)) - math.log1p(v * math.exp(low))) for v in (1.0, 1 - RHO**2)]
    losses = [held_out_loss(network, data, ROLES, seed=seed) for seed in range(4)]
    stderr = np.std(losses, ddof=1) / 2
    assert abs(np.mean(losses) - np.mean(each)) < 4 * stderr + 0.01 < 0.1
    # One branch alone, and the other: their difference is the information between these levels.
    one, other = (np.mean([held_out_loss(network, data, [roles], seed=seed) for seed in range(4)]) for roles in ROLES)
    assert one - other == pytest.approx(each[0] - each[1], abs=0.03)


def test_held_out_noise_comes_with_both_signs_and_on_all_levels():
    network, data = Known(), {"x": torch.zeros(500, 2), "y": torch.zeros(500, 1)}
    held_out_loss(network, data, [Roles(("x",), ())], levels=5)
    assert len(network.seen) == 10
    for k in range(5):
        (one, level), (other, again) = network.seen[2 * k : 2 * k + 2]
        assert torch.equal(one, -other)
        assert torch.equal(level, again)
        assert -4 + 2 * k <= float(level.min()) < float(level.max()) <= -4 + 2 * (k + 1)
    assert not torch.equal(network.seen[0][0], network.seen[2][0])


def test_roles():
    assert paired("x", ["y"], ["c"]) == (Roles(("x",), ("c",)), Roles(("x",), ("c", "y")))
    assert crossed("a", "b") == (Roles(("a", "b"), ()), Roles(("a",), ("b",)), Roles(("b",), ("a",)))


# ---- levels ----


def test_levels_follow_the_gap():
    levels = Levels(-8.0, 12.0, 0.3)
    levels.gap = torch.full((40,), 1e-8)
    levels.gap[20] = 1.0
    drawn = levels.draw(4096, torch.Generator().manual_seed(0))
    inside = ((drawn >= 2.0) & (drawn < 2.5)).float().mean()
    assert float(inside) == pytest.approx(0.7 + 0.3 / 40, abs=0.01)
    assert -8 <= float(drawn.min()) < -7.5 < 11.5 < float(drawn.max()) <= 12


def test_levels_go_with_the_root_of_the_gap():
    """The noise of both forms grows with the root: 4 times the gap, twice the levels."""
    levels = Levels(-8.0, 12.0, 0.2)
    levels.gap = torch.where(torch.arange(BINS) < BINS // 2, 1.0, 4.0)
    drawn = levels.draw(30_000, torch.Generator().manual_seed(0))
    assert float((drawn > 2.0).float().mean()) == pytest.approx(0.1 + 0.8 * 2 / 3, abs=1e-3)


def test_the_gap_is_remembered_by_level():
    levels = Levels(-8.0, 12.0, 0.3)
    levels.see(torch.tensor([2.1, 2.4, 11.99, 12.0]), torch.tensor([3.0, 5.0, 7.0, 9.0]))
    expected = torch.ones(BINS)
    expected[20], expected[39] = 0.97 + 0.03 * 4, 0.97 + 0.03 * 8
    torch.testing.assert_close(levels.gap, expected)


@pytest.mark.parametrize(("first", "last", "settled"), [(1.0, 0.04, True), (1.0, 0.06, False), (0.04, 1.0, False)])
def test_a_gap_that_is_open_at_the_clean_end_is_not_settled(first, last, settled):
    levels = Levels(-8.0, 12.0, 0.3)
    levels.gap = torch.linspace(first, last, BINS)
    assert levels.settled == settled


# ---- steps and rounds ----


def fitter(settings, **options):
    data = {name: torch.randn(50, 1, generator=torch.Generator().manual_seed(k)) for k, name in enumerate("xy")}
    return Fitter(VectorNetwork({"x": 1, "y": 1}, LAW, width=4), data, ROLES, settings, **options)


def test_a_step_sees_every_pair_with_both_signs_of_the_noise(monkeypatch):
    calls = []

    def spied(network, data, assignments, logsnr, eps):
        calls.append((data, logsnr, eps))
        return losses(network, data, assignments, logsnr, eps)

    monkeypatch.setattr(fitting, "losses", spied)
    fitter(FitSettings(steps=2, batch=16)).run(2)
    for data, logsnr, eps in calls:
        for name in "xy":
            assert torch.equal(eps[name][:, :16], -eps[name][:, 16:])
            assert torch.equal(data[name][:, :16], data[name][:, 16:])
        assert torch.equal(logsnr[:, :16], logsnr[:, 16:])
    assert not torch.equal(calls[0][2]["x"], calls[1][2]["x"])
    assert not torch.equal(calls[0][2]["x"], calls[0][2]["y"])


def test_the_rate_falls_in_every_round():
    settings = FitSettings(steps=70, pilot=10, warmup=4, lr=0.1)
    assert settings.rounds == (10, 30, 70)
    one = fitter(settings)
    for start, end in ((0, 10), (10, 30), (30, 70)):
        for step in (start, start + 5, end - 1):
            one.step = step
            assert one._rate() == pytest.approx(cosine_rate(0.1, step - start, end - start, 4))


@pytest.mark.parametrize(
    ("after", "steps", "gains"),
    [
        ([9.998], 10, [0.002]),  # less than least_gain
        ([9.99, 9.98], 30, [0.01, 0.01]),  # enough for a second round, not for a third
        ([9.99, 9.89, 9.9], 70, [0.01, 0.1, -0.01]),
    ],
)
def test_rounds_follow_while_they_gain(monkeypatch, after, steps, gains):
    answers = iter([10.0, *after])
    monkeypatch.setattr(fitting, "held_out_losses", lambda *args: torch.full((2,), next(answers), dtype=torch.float64))
    settings = FitSettings(steps=70, pilot=10, batch=4, least_gain=0.003, least_more=0.05)
    network = VectorNetwork({"x": 1, "y": 1}, LAW, width=4)
    data = {name: torch.randn(20, 1) for name in "xy"}
    fitted = fit(network, data, data, ROLES, settings)
    assert fitted.steps == steps
    assert fitted.rounds == pytest.approx(gains)
    assert fitted.gained == pytest.approx(sum(gain for gain in gains if gain > 0))


def test_rounds_that_lose_leave_the_weights_of_the_best():
    """Independent noise, and far too high a rate: the start, which is exact, is the best."""
    settings = FitSettings(steps=30, pilot=10, batch=8, lr=0.3, warmup=1, least_gain=-1e9, least_more=-1e9)
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=8)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    data = {name: torch.randn(300, 1, generator=torch.Generator().manual_seed(k)) for k, name in enumerate("xy")}
    fitted = fit(network, data, data, ROLES, settings)
    assert fitted.steps == 30
    assert max(fitted.rounds) < 0
    assert fitted.gained == 0
    assert all(torch.equal(value, start[key]) for key, value in network.state_dict().items())
