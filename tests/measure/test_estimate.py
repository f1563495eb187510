"""Records: files, merging, tables, errors."""

import math

import pytest
import torch

from mmg_diffusers import MMG, Estimate, Value
from mmg_diffusers.measure.moments import integrate
from mmg_diffusers.measure.quadrature import Trapezoid


@pytest.fixture
def estimate(mixture):
    denoiser, x, cond = mixture
    return MMG("auto", Trapezoid(12), draws=2)(
        denoiser, x[:20], {"label": cond["label"][:20]}, logsnr_range=(-8, 8), keep="pixel", settings={"model": "m"}
    )


def test_round_trip(estimate, tmp_path):
    path = estimate.save(tmp_path / "deep" / "e.safetensors")
    again = Estimate.load(path)
    assert torch.equal(again.nats, estimate.nats)
    assert torch.equal(again.stderr, estimate.stderr)
    assert again.certificate == estimate.certificate
    assert again.boundary == estimate.boundary
    assert torch.equal(again.pixel_map()[0], estimate.pixel_map()[0])
    assert dict(again.settings) == dict(estimate.settings)
    assert again.versions["torch"] == torch.__version__.split("+")[0] or again.versions["torch"] == torch.__version__
    assert again.settings["model"] == "m"
    assert again.settings["draws"] == 2
    assert again.logsnr_range == (-8, 8)
    assert not list(path.parent.glob("*.partial"))


def test_units_and_tables(estimate):
    torch.testing.assert_close(estimate.bits() * math.log(2), estimate.nats)
    assert estimate.mean().bits().value == pytest.approx(estimate.mean().value / math.log(2))
    frame = estimate.to_pandas()
    assert list(frame["pair"]) == list(range(20))
    assert frame["nats"].tolist() == estimate.nats.tolist()
    gap, orthogonal = frame["gap"].mean(), frame["orthogonal"].mean()
    mixed = orthogonal + estimate.gap_share * (gap - orthogonal)
    assert mixed == pytest.approx(estimate.mean().value)
    assert estimate.evaluations == 20 * 12 * 2 * 2


def test_mean_of_one_pair_has_the_error_of_its_draws(mixture):
    denoiser, x, cond = mixture
    one = MMG("gap", Trapezoid(12))(denoiser, x[:1], {"label": cond["label"][:1]}, logsnr_range=(-8, 8))
    assert one.mean() == Value(float(one.nats[0]), float(one.stderr[0]))
    assert one.mean().stderr > 0


@pytest.mark.parametrize("draws", [1, 4])
def test_integrate_known_noise(draws):
    """White noise of unit variance on each level: the error of the sum is known."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4000, draws, 50, generator=generator, dtype=torch.float64)
    weight = torch.full((4000, draws, 50), 0.3, dtype=torch.float64)
    nats, stderr = integrate(values, weight, independent=False)
    truth = 0.15 * (50 / draws) ** 0.5
    assert float(nats.std()) == pytest.approx(truth, rel=0.05)
    assert float(stderr.square().mean().sqrt()) == pytest.approx(truth, rel=0.05)
    _, independent = integrate(values, weight, independent=True)
    assert float(independent.square().mean().sqrt()) == pytest.approx(truth, rel=0.05)
