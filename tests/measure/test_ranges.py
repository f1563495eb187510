"""The range that a record states is the one that was asked for and the one that is integrated."""

import pytest
import torch

from mmg_diffusers import MMG, Estimate
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.denoisers.base import Rescaled
from mmg_diffusers.denoisers.check import foreign, present
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import AtLevels, GaussLegendre, Simpson, StratifiedUniform, Trapezoid
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config

SD = DiscreteVP.from_alphas(
    alphas_cumprod_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}), "epsilon"
)


@pytest.fixture
def discrete(gaussian):
    """An exact denoiser on the levels of Stable Diffusion, with six pairs."""
    oracle, x, cond = gaussian
    return foreign(oracle, SD, {"y": torch.zeros(1, 2)}), x[:6], present({"y": cond["y"][:6]})


def integrated(estimate):
    """The length of log-SNR that each draw of each pair integrates."""
    return estimate.curve.weight.sum(2)


@pytest.mark.parametrize("rule", [Trapezoid(9), Simpson(9), GaussLegendre(9), StratifiedUniform(9)])
@pytest.mark.parametrize("span", [(2.0, 6.85), (2.0, 6.6), (-5.3611, 0.0)])
@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_a_record_states_what_is_integrated(discrete, rule, span, scale, tmp_path):
    denoiser, x, cond = discrete
    if scale != 1.0:
        denoiser, x = Rescaled(denoiser, scale), x * scale
        span = (span[0] - denoiser._step, span[1] - denoiser._step)
    estimate = MMG("gap", rule)(denoiser, x, cond, logsnr_range=span)
    assert estimate.logsnr_range == pytest.approx(span)
    torch.testing.assert_close(integrated(estimate), torch.full((6, 1), span[1] - span[0], dtype=torch.float64))
    again = Estimate.load(estimate.save(tmp_path / "record.safetensors"))
    assert again.logsnr_range == estimate.logsnr_range


def test_maps_and_influence_of_a_range_between_levels(discrete):
    denoiser, x, cond = discrete
    for rule in (Trapezoid(12), AtLevels((2.0, 2.5, 3.1, 4.0, 5.0, 6.6))):
        estimate = MMG("orthogonal", rule)(denoiser, x, cond, logsnr_range=(2.0, 6.6), keep="level")
        whole = estimate.pixel_map()[0]
        torch.testing.assert_close(whole.sum(1), estimate.nats)
        bands = [(2.0, 3.3), (3.3, 6.5), (6.5, 6.6)]
        torch.testing.assert_close(sum(estimate.pixel_map(band=band)[0] for band in bands), whole)
        with pytest.raises(ValueError, match=r"log-SNR 2\.000 to 6\.600"):
            estimate.pixel_map(band=(1.9, 3.0))
    for rule in (Trapezoid(12), Simpson(12)):
        estimate = MMG("gap", rule)(denoiser, x, cond, logsnr_range=(2.0, 6.6))
        over = influence(estimate)
        assert float(over.logsnr[0]) == 2.0
        assert float(over.logsnr[-1]) == 6.6
        assert torch.equal(over.nats[:, 0], estimate.nats)
        assert bool((over.nats[:, -1] == 0).all())


def test_paths_over_adjoining_ranges_adjoin(discrete):
    denoiser, x, _ = discrete
    candidates = present({"y": torch.tensor([[0.0, 0.0], [1.0, 1.0]])})

    def ends(low, high, rule):
        path = NoisePath(rule, logsnr_range=(low, high))
        levels = measure_candidates(denoiser, Pairs.of(x), candidates, path).logsnr
        assert bool(torch.isin(levels, SD.levels).all())
        return float(levels[0]), float(levels[-1])

    for rule in (Trapezoid(9), GaussLegendre(9)):
        first, second, both = (ends(*span, rule) for span in ((-5.0, 2.0), (2.0, 6.6), (-5.0, 6.6)))
        assert (first[0], first[1], second[1]) == (both[0], second[0], both[1])


def test_a_record_of_version_0_1_states_the_range_that_it_integrated(discrete):
    """It had the weights from level to level, beside the range that was asked for."""
    denoiser, x, cond = discrete
    estimate = MMG("gap", Trapezoid(9))(denoiser, x, cond, logsnr_range=(2.0, 6.6))
    tensors, record = estimate.curve.packed()
    step = tensors["logsnr"].diff() / 2
    zero = torch.zeros_like(step[..., :1])
    tensors["weight"] = torch.cat([zero, step], -1) + torch.cat([step, zero], -1)
    low, high = type(estimate.curve).unpacked(tensors, record).logsnr_range
    assert (low, high) == (float(tensors["logsnr"].min()), float(tensors["logsnr"].max()))
