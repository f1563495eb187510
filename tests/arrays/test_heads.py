"""Predictions on the hull of a grid: the right form from the start, and what training gains by it."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers.arrays import OnGrid, Trainer, TrainSettings, VectorNetwork
from mmg_diffusers.arrays.base import MultiDenoiser, Roles
from mmg_diffusers.arrays.heads import SpreadOnGrid
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.losses import held_out_loss
from mmg_diffusers.arrays.trainer import rows_of
from mmg_diffusers.denoisers import ExactDenoiser, GaussianReference, add_noise
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.measure import Density, StratifiedUniform
from mmg_diffusers.measure.grid import Grid
from mmg_diffusers.worlds.densities import LevelMixture
from mmg_diffusers.worlds.tasks import get_density_task

ALONE = [Roles(("x",), ())]
RANGE = (-7.0, 5.0)


class Fixed(MultiDenoiser):
    """A network whose answer makes the tilt a given number."""

    def __init__(self, shape, tilt):
        super().__init__({"x": shape, "y": (1,)}, RANGE)
        self.tilt = tilt

    def forward(self, noisy, logsnr, given):
        z = noisy["x"]
        a, s = (
            scale.view(-1, *(1,) * (z.ndim - 1)).to(z)
            for scale in (logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt())
        )
        return {"x": s * z - a * self.tilt} | ({"y": noisy["y"]} if "y" in noisy else {})


def test_of_two_levels_it_is_a_tanh():
    z, logsnr = torch.randn(40, 3, dtype=torch.float64), torch.linspace(*RANGE, 40, dtype=torch.float64)
    a, s = logsnr.sigmoid().sqrt()[:, None], (-logsnr).sigmoid().sqrt()[:, None]
    eps = OnGrid(Fixed((3,), 0.7), {"x": Grid(-1, 1, 2)}).view("x")(z, logsnr)
    torch.testing.assert_close(eps, (z - a * torch.tanh(a * z / s**2 + 0.7)) / s)


@pytest.mark.parametrize("grid", [Grid(0, 1, 2), Grid(-1, 1, 5), Grid(2, 9, 16)])
def test_without_a_tilt_it_is_exact_for_levels_that_are_equally_likely(grid):
    law = LevelMixture(np.ones(1), np.ones((1, 2, grid.levels)), grid.low, grid.high)
    x = torch.from_numpy(law.draw(40, np.random.default_rng(0)))
    logsnr = torch.linspace(*RANGE, 40, dtype=torch.float64)
    z = add_noise(x, logsnr, torch.randn_like(x))
    found = OnGrid(Fixed((2,), 0.0), {"x": grid}).view("x")(z, logsnr)
    torch.testing.assert_close(found, ExactDenoiser(law)(z, logsnr), atol=1e-9, rtol=1e-9)


def test_a_tilt_is_a_law_that_falls_along_the_levels():
    grid, tilt = Grid(-1, 1, 4), -1.3
    share = np.exp(tilt * np.linspace(-1, 1, 4))
    law = LevelMixture(np.ones(1), np.tile(share, (1, 2, 1)), -1, 1)
    z, logsnr = torch.randn(40, 2, dtype=torch.float64), torch.linspace(*RANGE, 40, dtype=torch.float64)
    found = OnGrid(Fixed((2,), tilt), {"x": grid}).view("x")(z, logsnr)
    torch.testing.assert_close(found, ExactDenoiser(law)(z, logsnr), atol=1e-9, rtol=1e-9)


def test_predictions_stay_within_the_hull():
    network = OnGrid(Fixed((3, 4, 4), 50.0), {"x": Grid(0, 1, 256)})
    z, logsnr = 3 * torch.randn(40, 3, 4, 4), torch.linspace(-7, 5, 40, dtype=torch.float64)
    a, s = (scale.view(-1, 1, 1, 1) for scale in (logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()))
    clean = (z - s * network.view("x")(z, logsnr)) / a
    assert float(clean.min()) > -1e-4
    assert float(clean.max()) < 1 + 1e-4


def test_variables_without_a_grid_keep_their_prediction():
    network = OnGrid(Fixed((3,), 0.0), {"x": Grid(-1, 1, 2)})
    z = torch.randn(5, 4)
    assert torch.equal(network.view("x", "y")(z, torch.zeros(5, dtype=torch.float64))[:, 3:], z[:, 3:])


def test_it_goes_around_networks_of_pictures():
    inner = ImageNetwork({"x": (1, 8, 8)}, widths=(8, 8), logsnr_range=RANGE, seed=0)
    network = OnGrid(inner, {"x": Grid(-1, 1, 2)})
    z, logsnr = torch.randn(6, 1, 8, 8), torch.linspace(-6, 4, 6, dtype=torch.float64)
    eps = network.view("x")(z, logsnr)
    assert eps.shape == z.shape
    eps.square().sum().backward()
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in inner.parameters())


def excess(network, steps):
    """Train on Ising pictures of 4 x 4; nats above the entropy, on fresh pictures."""
    task = get_density_task("ising-4-4-0.4")
    train, held_out, fresh = (torch.from_numpy(task.sample(n, n)).float().flatten(1) for n in (5000, 200, 500))
    settings = TrainSettings(steps=steps, batch=64, lr=3e-3, uniform=1.0, check_every=steps, warmup=20)
    trainer = Trainer(network, rows_of({"x": train}), {"x": held_out}, ALONE, settings)
    trainer.run(progress=False)
    # Half the integral of the error, with what the error of a fair coin adds below the range; above there is none.
    below = 16 / 2 * math.log1p(math.exp(RANGE[0]))
    surprise = -task.law.log_prob(task.sample(500, 500)).mean()
    return held_out_loss(trainer.best, {"x": fresh}, ALONE, levels=32) + below - surprise


def test_the_same_network_is_nats_nearer_to_the_truth_with_it():
    made = [VectorNetwork({"x": 16}, torch.eye(16), logsnr_range=RANGE, width=32, seed=0) for _ in range(2)]
    plain, on_grid = excess(made[0], 120), excess(OnGrid(made[1], {"x": Grid(-1, 1, 2)}), 120)
    # Independent spins are 2.43 nats above the truth.
    assert -0.2 < on_grid < 1.5
    assert plain > on_grid + 4


def test_what_is_refused():
    inner = VectorNetwork({"x": 2}, torch.eye(2))
    for grids, kind, text in [
        ({}, ValueError, "no grid"),
        ({"z": Grid()}, ValueError, "no variable 'z'"),
        ({"x": (0, 1, 2)}, TypeError, "the grid of 'x' is a tuple"),
        ([Grid()], TypeError, "grids is a list"),
    ]:
        with pytest.raises(kind, match=text):
            OnGrid(inner, grids)
    with pytest.raises(TypeError, match="the network is a View"):
        OnGrid(inner.view("x"), {"x": Grid()})


@pytest.mark.parametrize(("grid", "tilt"), [(Grid(-1, 1, 256), 0.0), (Grid(-1, 1, 256), 40.0), (Grid(2, 9, 5), -1.3)])
def test_of_spread_values_it_is_the_mean_over_boxes(grid, tilt):
    """Against the integral over x, finely cut; z lies where data are, in noise from a thirtieth of a step to three."""
    made = torch.Generator().manual_seed(0)
    noise = grid.step * torch.logspace(-1.5, 0.5, 30, dtype=torch.float64)
    logsnr = -2 * noise.log()
    level = torch.randint(grid.levels, (30,), generator=made)
    x = grid.low + grid.step * (level + torch.rand(30, generator=made, dtype=torch.float64) - 0.5)
    z = add_noise(x[:, None], logsnr, torch.randn(30, 1, generator=made, dtype=torch.float64))
    found = SpreadOnGrid(Fixed((1,), tilt), {"x": grid}).view("x")(z, logsnr)
    a, s = logsnr.sigmoid().sqrt()[:, None], (-logsnr).sigmoid().sqrt()[:, None]
    parts = 1000
    places = (torch.arange(grid.levels * parts, dtype=torch.float64) + 0.5) / parts - 0.5
    log_p = tilt * torch.linspace(-1, 1, grid.levels, dtype=torch.float64).repeat_interleave(parts)
    at = grid.low + grid.step * places
    share = torch.softmax(log_p - (z - a * at).square() / (2 * s**2), 1)
    mean = share @ at
    torch.testing.assert_close((z[:, 0] - s[:, 0] * found[:, 0]) / a[:, 0], mean, atol=1e-5 * grid.step, rtol=0)


def test_of_spread_values_in_wide_noise_it_is_that_of_levels():
    grid, z, logsnr = Grid(-1, 1, 256), torch.randn(20, 3), torch.linspace(-7, 6, 20, dtype=torch.float64)
    wide, plain = (head(Fixed((3,), 0.4), {"x": grid}).view("x") for head in (SpreadOnGrid, OnGrid))
    torch.testing.assert_close(wide(z, logsnr), plain(z, logsnr), atol=1e-5, rtol=1e-5)
    assert float((wide(z, logsnr + 3) - plain(z, logsnr + 3)).abs().max()) > 0.1


class Knowing(MultiDenoiser):
    """A network that tilts as an exact law of two levels says, over a range that ends where levels are told."""

    def __init__(self, law):
        super().__init__({"x": law.shape}, (-7.0, 8.0))
        self.law, self.asked = law, []

    def forward(self, noisy, logsnr, given):
        z = noisy["x"].double()
        self.asked.append(float(logsnr.max()))
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        mean = torch.from_numpy(self.law.posterior_mean((z / a).numpy(), (s / a).flatten().numpy()))
        tilt = torch.atanh(mean.clamp(-1 + 1e-15, 1 - 1e-15)) - a * z / s**2
        return {"x": s * z - a * tilt}


def spread(x, grid, seed):
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) - 0.5
    return x + grid.step * noise


def test_spread_coordinates_that_are_independent_have_the_density_of_their_boxes():
    """log p(x) is that of the levels, less log of a step each: the range goes on until nothing is left above it."""
    grid, made = Grid(-1, 1, 7), np.random.default_rng(0)
    shares = torch.from_numpy(made.dirichlet(np.ones(7), 3))
    index = torch.stack([torch.from_numpy(made.choice(7, 1200, p=share.numpy())) for share in shares], 1)
    x = spread(grid.low + grid.step * index.double(), grid, 1)
    truth = shares.log().expand(1200, 3, 7).gather(2, index[..., None]).sum((1, 2)) - 3 * math.log(grid.step)
    denoiser = SpreadOnGrid(Fixed((3,), 0.0), {"x": grid}, {"x": shares}).view("x")
    assert denoiser.logsnr_range[1] > 15 > RANGE[1]
    run = Density(GaussianReference.fit(x[200:]), StratifiedUniform(256)).piloted(denoiser, x[200:264])
    found = run(denoiser, x[:200])
    error = found.nats - truth[:200]
    assert abs(float(error.mean())) < 3 * float(error.std()) / 200**0.5 < 0.1
    assert 0.8 < float((error / found.stderr).square().mean().sqrt()) < 1.25
    assert not any("still predicts" in said for said in found.warnings())


def test_what_others_say_of_a_level_is_read_at_the_noise_of_both():
    """Spins with a step of noise added: a bound of the probability of the spins, and hardly looser than it."""
    task, grid = get_density_task("ising-4-4-0.4"), Grid(-1, 1, 2)
    network = Knowing(task.law)
    spins, others = (torch.from_numpy(task.sample(count, count)).double() for count in (300, 2000))
    x, aside = spread(spins, grid, 1), spread(others, grid, 2)
    head = SpreadOnGrid(network, {"x": grid})
    run = Density(GaussianReference.fit(aside), StratifiedUniform(64), 2).piloted(head.view("x"), aside[:64])
    found = run(head.view("x"), x)
    error = found.nats + 16 * math.log(grid.step) - torch.from_numpy(task.law.log_prob(spins.numpy()))
    off = float(error.std()) / 300**0.5
    # Independent spins are 2.43 nats looser.
    assert -0.2 - 3 * off < float(error.mean()) < 3 * off < 0.15
    # Noise of a step's width has the variance of a level at which the network knows the spins well, and not all of them.
    assert max(network.asked) == pytest.approx(-math.log(grid.step**2 / 12), abs=0.01)


def test_spread_values_are_refused_where_no_level_has_their_noise():
    two = VectorNetwork({"x": 2, "y": 1}, torch.eye(3))
    with pytest.raises(ValueError, match=r"the grids' steps are 2, 1; expected one"):
        SpreadOnGrid(two, {"x": Grid(-1, 1, 2), "y": Grid(-1, 1, 3)})
    head = SpreadOnGrid(two, {"x": Grid(-1, 1, 2)})
    with pytest.raises(ValueError, match="'y' has no grid among x"):
        head.view("x", "y")(torch.zeros(2, 3), torch.zeros(2, dtype=torch.float64))
    assert head.view("x")(torch.zeros(2, 2), torch.zeros(2, dtype=torch.float64), {"y": torch.ones(2, 1)}).shape == (
        2,
        2,
    )


@pytest.mark.parametrize("head", [OnGrid, SpreadOnGrid])
def test_with_shares_it_starts_exact_for_coordinates_that_are_independent(head):
    """Each with shares of its own: against the sum over levels, or the integral over their boxes, finely cut."""
    made = np.random.default_rng(0)
    grid, shares = Grid(-1, 1, 7), torch.from_numpy(made.dirichlet(np.ones(7), 2))
    noise = grid.step * torch.logspace(-1, 0.5, 20, dtype=torch.float64)
    logsnr, z = -2 * noise.log(), torch.from_numpy(made.uniform(-1, 1, (20, 2)))
    found = head(Fixed((2,), 0.0), {"x": grid}, {"x": shares}).view("x")(z, logsnr)
    a, s = logsnr.sigmoid().sqrt()[:, None], (-logsnr).sigmoid().sqrt()[:, None]
    parts = 1 if head is OnGrid else 2001
    places = (torch.arange(7 * parts, dtype=torch.float64) + 0.5) / parts - 0.5
    at = grid.low + grid.step * places
    log_p = shares.log().repeat_interleave(parts, 1)
    share = torch.softmax(log_p - (z[..., None] - a[..., None] * at).square() / (2 * s[..., None] ** 2), -1)
    torch.testing.assert_close((z - s * found) / a, share @ at, atol=1e-5, rtol=0)


def test_shares_are_counted_by_coordinate():
    x = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 1.0], [2.0, 1.0]])
    shares = OnGrid.shares_of(x, Grid(0, 2, 3), others=0.0)
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0, 0.25], [0, 0.75, 0.25]], dtype=torch.float64))
    smooth = OnGrid.shares_of(x, Grid(0, 2, 3))
    torch.testing.assert_close(smooth.sum(-1), torch.ones(2, dtype=torch.float64))
    assert float(smooth.min()) > 0
    with pytest.raises(ValueError, match=r"the shares of 'x' are \(2, 2\); expected \(2, 3\) above 0"):
        OnGrid(Fixed((2,), 0.0), {"x": Grid(0, 2, 3)}, {"x": smooth[:, :2]})
