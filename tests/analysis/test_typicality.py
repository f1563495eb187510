"""Typicality against the closed form of a Gaussian, whose surprise is known for every x."""

import math

import pytest
import torch

from mmg_diffusers.analysis import membership, over_reference, typicality
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


def test_images_of_one_law_cannot_be_told_apart_and_others_can():
    held_out = measured(normals(300, 7))
    same = [membership(measured(normals(200, 100 + seed)), held_out) for seed in range(8)]
    z = torch.tensor([(one.value - 0.5) / one.stderr for one in same])
    assert float(z.square().mean()) < 2.5
    assert 0.015 < same[0].stderr < 0.04
    # Of two chi-squares of four degrees of freedom, one of them scaled by s: P(s A > B) = s^2 (s + 3) / (1 + s)^3.
    smaller = membership(measured(0.5**0.5 * normals(2000, 8)), measured(normals(2000, 9)))
    exact = 1 - 0.5**2 * 3.5 / 1.5**3
    assert abs(smaller.value - exact) < 3.5 * smaller.stderr < 0.05
    assert "ROC" in str(smaller)


def test_a_difference_of_two_models_tells_more():
    """One that was trained on the first images would find them likelier than the other does, whatever else they are."""
    x, other, wide = normals(100, 10), normals(100, 11), GaussianReference(1.3)
    near = Density(wide, StratifiedUniform(64), draws=2)
    member, rest = (near(DENOISER, at, logsnr_range=(-8, 10)) for at in (x, other))
    broad = [near(GaussianReference(1.3), at, logsnr_range=(-8, 10)) for at in (x, other)]
    found = membership(member.versus(broad[0]), rest.versus(broad[1]))
    assert abs(found.value - 0.5) < 4 * found.stderr
    with pytest.raises(TypeError, match="expected two of one kind"):
        membership(member, rest.versus(broad[1]))
    with pytest.raises(TypeError, match="held_out is a Tensor"):
        membership(member, rest.nats)
    with pytest.raises(ValueError, match="100 of 100 images are among"):
        membership(member, member)
    with pytest.raises(ValueError, match="got 1 and 100 images"):
        membership(near(DENOISER, normals(1, 12), logsnr_range=(-8, 10)), rest)
    with pytest.raises(ValueError, match="measured differently: reference"):
        membership(measured(normals(9, 13)), rest)
