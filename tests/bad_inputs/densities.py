"""Laws whose density is known, data on a grid, heads and ensembles."""

import math

import numpy as np
import torch

from mmg_diffusers.arrays import OnGrid, TrainSettings, VectorNetwork
from mmg_diffusers.denoisers import ExactDenoiser, Rescaled
from mmg_diffusers.measure import Density, Ensemble, Grid, StratifiedUniform
from mmg_diffusers.worlds.densities import GaussianMixture, Ising, LevelMixture, Moved
from mmg_diffusers.worlds.tasks import get_density_task
from tests.bad_inputs.room import RANGE, Room, rows

SPINS = Ising(2, 2, 0.4)
PICTURES = torch.from_numpy(SPINS.draw(10, np.random.default_rng(0)))


def probability(r: Room, x=None, *, grid=None, ends=RANGE):
    estimator = Density(quadrature=StratifiedUniform(4), values=Grid(-1, 1, 2) if grid is None else grid)
    return estimator(r.untouched, PICTURES if x is None else x, logsnr_range=ends)


def off(place, value):
    moved = PICTURES.clone()
    moved[place] = value
    return moved


class Known(ExactDenoiser):
    """An exact denoiser of a finite range."""

    logsnr_range = RANGE


def chosen(denoisers=None, x=PICTURES, **options):
    return Ensemble.choose([Known(SPINS), Known(SPINS)] if denoisers is None else denoisers, x, **options)


def network():
    return VectorNetwork({"x": 2}, torch.eye(2))


ROWS = (
    *rows(
        "Density(values=Grid(low, high, levels))(denoiser, x)",
        (
            "a value off the grid",
            lambda r: probability(r, off((3, 0, 1, 0), 0.25)),
            ValueError,
            r"x holds 0.25 at \(3, 0, 1, 0\)",
        ),
        (
            "NaN",
            lambda r: probability(r, off((3, 0, 1, 0), math.nan)),
            ValueError,
            r"NaN or infinite values in rows \[3\]",
        ),
        ("pixels of another scale", lambda r: probability(r, grid=Grid(0, 1, 2)), ValueError, "x holds -1 at"),
        ("one level", lambda r: Grid(-1, 1, 1), ValueError, "levels is 1; expected at least 2"),
        ("levels of a float", lambda r: Grid(-1, 1, 2.0), TypeError, "levels is 2.0"),
        ("ends that fall", lambda r: Grid(1, -1), ValueError, "from 1 to -1; expected a rising range"),
        ("an infinite end", lambda r: Grid(-1, math.inf), ValueError, "high end is inf"),
        (
            "a range that ends too early",
            lambda r: probability(r, ends=(-8.0, -1.0)),
            ValueError,
            "the range ends at log-SNR -1",
        ),
        ("values=3", lambda r: Density(values=3), TypeError, "values is a int"),
        ("values=Grid", lambda r: Density(values=Grid), TypeError, "values is the class Grid itself"),
    ),
    *rows(
        "Ensemble.choose(denoisers, x)",
        ("one denoiser", lambda r: chosen([Known(SPINS)]), ValueError, "got 1 denoiser"),
        ("no list", lambda r: chosen(Known(SPINS)), TypeError, "denoisers is a Known"),
        ("a network", lambda r: chosen([torch.nn.Identity()] * 2), TypeError, "the denoiser is a Identity"),
        ("few x", lambda r: chosen(x=PICTURES[:7]), ValueError, "got 7 x to choose by"),
        (
            "x of another shape",
            lambda r: chosen(x=PICTURES.flatten(1)),
            ValueError,
            "denoiser 0 does not take x of shape",
        ),
        (
            "denoisers of two variables",
            lambda r: chosen([Known(SPINS), Known(Ising(3, 3, 0.4))]),
            ValueError,
            "denoiser 1 does not take x of shape",
        ),
        (
            "denoisers of two scales",
            lambda r: chosen([Known(SPINS), Rescaled(Known(SPINS), 5.0)]),
            ValueError,
            "denoiser 1 errs by",
        ),
        ("unbounded ranges", lambda r: chosen([ExactDenoiser(SPINS)] * 2), ValueError, "expected finite ranges"),
        ("bands=0", lambda r: chosen(bands=0), ValueError, "bands is 0"),
        (
            "the data that chose",
            lambda r: Density(quadrature=StratifiedUniform(4))(chosen(), PICTURES),
            ValueError,
            "10 of 10 x are among the 10 that chose this ensemble",
        ),
    ),
    *rows(
        "OnGrid(network, grids), TrainSettings(objective)",
        ("no grid", lambda r: OnGrid(network(), {}), ValueError, "there is no grid"),
        ("another variable", lambda r: OnGrid(network(), {"z": Grid()}), ValueError, "no variable 'z'"),
        ("a number", lambda r: OnGrid(network(), {"x": 2}), TypeError, "the grid of 'x' is a int"),
        ("a denoiser", lambda r: OnGrid(r.untouched, {"x": Grid()}), TypeError, "the network is a Untouched"),
        ("an unknown objective", lambda r: TrainSettings(objective="elbo"), ValueError, "objective is 'elbo'"),
        (
            "a weighted likelihood",
            lambda r: TrainSettings(objective="likelihood", weighting="v"),
            ValueError,
            "objective 'likelihood', which weighs nothing",
        ),
    ),
    *rows(
        "get_density_task(key), laws of known density, ExactDenoiser(law)",
        ("an unknown key", lambda r: get_density_task("ising-8-8"), ValueError, "did you mean 'ising-8-8-0.4'"),
        ("a number", lambda r: get_density_task(3), TypeError, "the key is a int"),
        ("n=0", lambda r: get_density_task("mixture-2").sample(0, 0), ValueError, "n is 0"),
        ("labels of spins", lambda r: get_density_task("ising-3-3-0.4").sample_labelled(2, 0), ValueError, "no labels"),
        ("too many columns", lambda r: Ising(2, 13, 0.4), ValueError, "columns is 13"),
        ("no spins", lambda r: SPINS.log_prob(np.zeros((1, 1, 2, 2))), ValueError, "x holds"),
        (
            "a weight below 0",
            lambda r: GaussianMixture(np.array([1.0, -1.0]), np.zeros((2, 2)), np.ones(2)),
            ValueError,
            "weights are",
        ),
        ("impossible levels", lambda r: LevelMixture(np.ones(1), np.zeros((1, 2, 3))), ValueError, "above 0"),
        ("spins moved", lambda r: Moved(SPINS, 2.0), ValueError, "of levels"),
        ("a class", lambda r: ExactDenoiser(Ising), TypeError, "posterior_mean"),
    ),
)
