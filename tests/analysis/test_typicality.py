"""Typicality against the closed form of a Gaussian, whose surprise is known for every x."""

import math

import pytest
import torch

from mmg_diffusers.analysis import over_reference, typicality
from mmg_diffusers.denoisers import GaussianDenoiser, GaussianReference
from mmg_diffusers.measure import Density, StratifiedUniform

SIZE, RULE = 4, StratifiedUniform(8)
DENOISER = GaussianDenoiser(torch.eye(SIZE + 1, dtype=torch.float64), SIZE)
# Against its own covariance a Gaussian's density has no noise.
DENSITY = Density(GaussianReference(1.0), RULE)


def normals(count, seed):
    return torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(x, density=DENSITY):
    return density(DENOISER, x, logsnr_range=(-8, 10))


def test_it_counts_standard_deviations_of_the_reference_points():
    usual = measured(normals(4000, 0))
    # |x|^2 / 2 has mean 2 and variance 2 in four dimensions.
    at = torch.stack([torch.zeros(SIZE), torch.full((SIZE,), 3.0)]).double()
    found = typicality(measured(at), usual)
    assert found.tolist() == pytest.approx([-2 / 2**0.5, (18 - 2) / 2**0.5], rel=0.06)
    fresh = typicality(measured(normals(2000, 1)), usual)
    assert float(fresh.mean()) == pytest.approx(0, abs=4 / 2000**0.5)
    assert float(fresh.std()) == pytest.approx(1, abs=0.1)


def test_what_a_network_knows_beyond_its_reference():
    x, wide = normals(6, 2), GaussianReference(2.0)
    run = measured(x, Density(wide, StratifiedUniform(400), draws=8))
    truth = -x.square().sum(1) / 2 - SIZE / 2 * math.log(2 * math.pi) + wide.surprise(x)
    assert float(run.stderr.max()) < 0.2
    assert bool(((over_reference(run) - truth).abs() < 4 * run.stderr).all())
    assert over_reference(measured(x)).abs().max() < 1e-9


def test_what_does_not_compare_is_refused():
    usual = measured(normals(10, 3))
    with pytest.raises(ValueError, match="2 of 4 images are among the reference images"):
        typicality(measured(torch.cat([normals(10, 3)[:2], normals(2, 4)])), usual)
    with pytest.raises(ValueError, match="measured differently: reference"):
        typicality(measured(normals(3, 5), Density(GaussianReference(2.0), RULE)), usual)
    with pytest.raises(ValueError, match="measured differently: the range of log-SNR"):
        typicality(DENSITY(DENOISER, normals(3, 5), logsnr_range=(-6, 10)), usual)
    with pytest.raises(ValueError, match="got 1 reference image"):
        typicality(measured(normals(3, 5)), measured(normals(1, 6)))
    with pytest.raises(TypeError, match="usual is a Tensor"):
        typicality(measured(normals(3, 5)), usual.nats)
