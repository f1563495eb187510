"""Grids: which values lie on one, and what noise leaves of them, held against integrals of the error and against draws."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mmg_diffusers.measure.grid import Grid


def spin_error(snr):
    """The mean squared error of a fair spin seen at an SNR."""
    noise = np.linspace(-12, 12, 4801)
    weight = np.exp(-(noise**2) / 2)
    return (weight * (1 - np.tanh(snr + math.sqrt(snr) * noise))).sum() / weight.sum()


@pytest.mark.parametrize("logsnr", [-2.0, 0.0, 1.0, 2.0, 3.0])
def test_what_is_decoded_is_what_the_error_above_would_add_up_to(logsnr):
    # Half the integral of a fair spin's error over all SNR above is what the noise leaves of ln 2.
    above = quad(spin_error, math.exp(logsnr), 60, limit=300)[0] / 2
    found = Grid(-1, 1, 2).decoding(torch.tensor([[1.0], [-1.0]]), logsnr)
    assert found.flatten().tolist() == pytest.approx([above, above], abs=1e-9)


@pytest.mark.parametrize("grid", [Grid(-1, 1, 256), Grid(0, 1, 4), Grid(-3, 5, 16)])
@pytest.mark.parametrize("steps", [0.2, 0.8, 3.0, 300.0])
def test_decoding_agrees_with_draws(grid, steps):
    sd = steps * grid.step
    values = torch.linspace(grid.low, grid.high, grid.levels, dtype=torch.float64)
    index = torch.tensor([0, 1, grid.levels // 2, grid.levels - 1])
    noise = torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = -(values[index][:, None] + sd * noise - values).square() / (2 * sd**2)
    drawn = -torch.log_softmax(logits, -1)[:, torch.arange(4), index]
    found = grid.decoding(values[index], -2 * math.log(sd))
    error = drawn.std(0) / math.sqrt(4000)
    assert bool(((found - drawn.mean(0)).abs() < 4 * error + 1e-9).all())


def test_decoding_is_of_each_coordinate_by_itself():
    grid, x = Grid(0, 3, 4), torch.tensor([[[0.0, 1.0], [3.0, 2.0]]])
    found = grid.decoding(x, 0.5)
    assert found.shape == x.shape
    assert found.flatten().tolist() == pytest.approx([grid.decoding(value, 0.5).item() for value in x.flatten()])


def test_noise_that_drowns_the_grid_leaves_everything_and_none_leaves_nothing():
    grid = Grid(-1, 1, 8)
    x = torch.linspace(-1, 1, 8)
    torch.testing.assert_close(
        grid.decoding(x, -20.0), torch.full((8,), math.log(8), dtype=torch.float64), atol=1e-3, rtol=0
    )
    assert float(grid.decoding(x, grid.resolved).max()) < 1e-7
    assert float(grid.decoding(x, grid.resolved - 2).max()) > 1e-5


def test_pixels_are_on_their_grid_in_every_common_scaling():
    pixel = torch.arange(256).repeat(3, 1)
    for grid, x in [
        (Grid(-1, 1, 256), pixel / 127.5 - 1),
        (Grid(-1, 1, 256), 2 * (pixel / 255) - 1),
        (Grid(0, 1, 256), pixel / 255),
        (Grid(0, 255, 256), pixel.float()),
        (Grid(-1, 1, 256), pixel.double() / 127.5 - 1),
    ]:
        assert torch.equal(grid.index(x), pixel)


def test_values_off_the_grid_are_named():
    grid = Grid(-1, 1, 256)
    x = torch.linspace(-1, 1, 256).repeat(2, 1)
    for wrong in (0.3, 1.1, -1.01, math.nan, math.inf):
        moved = x.clone()
        moved[1, 7] = wrong
        with pytest.raises(
            ValueError, match=rf"x holds {wrong:.6g} at \(1, 7\), which is none of 256 levels from -1 to 1"
        ):
            grid.index(moved)
    with pytest.raises(ValueError, match="none of 256 levels"):
        grid.decoding(x + 0.5 / 255, 3.0)
    with pytest.raises(TypeError, match="x is a list"):
        grid.index([[1.0]])


def test_grids_that_are_none():
    for arguments, kind, text in [
        ((-1, 1, 1), ValueError, "levels is 1; expected at least 2, since what has one value tells nothing"),
        ((-1, 1, 2.5), TypeError, "levels is 2.5"),
        ((1, 1, 2), ValueError, "from 1 to 1; expected a rising range"),
        ((1, -1, 2), ValueError, "rising"),
        ((-1, math.inf, 2), ValueError, "high end is inf"),
        (("a", 1, 2), TypeError, "low end is 'a'"),
    ]:
        with pytest.raises(kind, match=text):
            Grid(*arguments)
