"""On a device without float64 all is measured, with the numbers of the CPU: differences there in float32, sums in float64 here."""

import pytest
import torch
from torch import nn

from mmg_diffusers import MMG, Tolerance
from mmg_diffusers.denoisers import Adapted, Karras, RectifiedFlow, Rescaled, check_denoiser
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.denoisers.precision import has_float64, sums_on, widened
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import StratifiedUniform, Trapezoid
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config
from tests.no_float64 import without_float64


class Network(nn.Module):
    """Weights on the device, a label as the condition; it predicts about what its convention wants of Gaussian pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shade = nn.Embedding(4, 2)
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x, time, label):
        moved = 0.1 * self.convolution(x) + self.shade(label)[:, :, None, None]
        return x + moved / (1 + time.reshape(-1, 1, 1, 1).to(x.dtype).abs())


CONVENTIONS = {
    "flow": RectifiedFlow.shifted(time_scale=1.0),
    "karras": Karras("sample"),
    "discrete": DiscreteVP.from_alphas(alphas_cumprod_from_config({"beta_schedule": "linear"}), "epsilon"),
}


def denoiser(convention):
    made = Adapted(Network(), CONVENTIONS[convention], {"label": torch.tensor([3])})
    return Rescaled(made, 0.5, 0.1)


X = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
LABEL = torch.tensor([0, 1, 2, 0, 3])


@torch.inference_mode()
def everywhere(measure, convention):
    """The same on the CPU and on the device."""
    here = measure(denoiser(convention))
    with without_float64() as device:
        assert not has_float64(device.type)
        there = measure(denoiser(convention).to(device))
    return here, there


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("wide", [False, True])
def test_estimates(convention, wide):
    def measure(denoiser):
        x = X.double() if wide else X
        low, high = denoiser.logsnr_range
        run = MMG("auto", StratifiedUniform(6), antithetic=True, tolerance=Tolerance(0.5, 2, 4))
        return run(denoiser, x, {"label": LABEL}, keep="level", logsnr_range=(max(low, -6.0), min(high, 6.0)))

    here, there = everywhere(measure, convention)
    if wide:  # noise of other digits is drawn in float64, so that only the precision of the device differs
        return
    assert there.curve.gap.device.type == "cpu"
    assert there.curve.gap.dtype == torch.float64
    for name in ("gap", "orthogonal", "error", "energy", "along"):
        torch.testing.assert_close(
            getattr(there.curve, name), getattr(here.curve, name), rtol=1e-4, atol=1e-3, equal_nan=True
        )
    torch.testing.assert_close(there.pixel_map()[0], here.pixel_map()[0], rtol=1e-4, atol=1e-4)
    # The same condition in both branches is exactly nothing there, too.
    assert float(there.nats[4]) == float(here.nats[4]) == 0.0


@pytest.mark.parametrize("truth", [None, LABEL % 3])
def test_candidates(truth):
    def measure(denoiser):
        path = NoisePath(Trapezoid(8), draws=2, prune=1e-3, logsnr_range=(-4.0, 2.0))
        candidates = {"label": torch.arange(3)}
        return measure_candidates(denoiser, Pairs.of(X), candidates, path, truth=truth, keep="pixel")

    here, there = everywhere(measure, "flow")
    torch.testing.assert_close(there.score, here.score, rtol=1e-4, atol=1e-3)
    assert there.evaluations == here.evaluations
    if truth is not None:
        torch.testing.assert_close(there.mixture.gap, here.mixture.gap, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(there.innovation, here.innovation, rtol=1e-4, atol=1e-3)


def test_the_device_refuses_and_sums_are_elsewhere():
    assert has_float64("cpu")
    assert sums_on(torch.device("cpu")).type == "cpu"
    values = torch.randn(3)
    assert torch.equal(widened(values), values.double())
    with without_float64() as device:
        there = values.to(device)
        with pytest.raises(TypeError, match="doesn't support float64"):
            there.double()
        assert sums_on(device).type == "cpu"
        assert torch.equal(widened(there), values.double())


def test_a_check_of_a_denoiser():
    x = X.repeat(4, 1, 1, 1)

    def measure(denoiser):
        denoiser = denoiser.denoiser
        device = next(denoiser.parameters()).device
        with pytest.raises(AssertionError) as refused:
            check_denoiser(denoiser, x.to(device), {"label": LABEL.repeat(4).to(device)})
        return str(refused.value)

    here, there = everywhere(measure, "karras")
    assert here[:60] == there[:60]
