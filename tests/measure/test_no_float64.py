"""On a device without float64 all is measured, with the numbers of the CPU: differences there in float32, sums in float64 here."""

import pytest
import torch
from torch import nn

from mmg_diffusers import MMG, Tolerance
from mmg_diffusers.analysis import Audit, Filtered
from mmg_diffusers.denoisers import Adapted, GaussianReference, Karras, RectifiedFlow, Rescaled, check_denoiser
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.denoisers.precision import has_float64, sums_on, widened
from mmg_diffusers.measure import Density, Ensemble, Grid
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.ceiling import ceiling_of
from mmg_diffusers.measure.density import grid_of
from mmg_diffusers.measure.quadrature import StratifiedUniform, Trapezoid
from mmg_diffusers.pairs.mixture import Mixture
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


def test_densities_and_references():
    """The reference is fitted to data that are on the device, and so are the pilot's and those that are measured."""
    others = torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(1))

    def measure(denoiser):
        device = next(denoiser.parameters()).device
        other, x, label = others.to(device), X.to(device), {"label": LABEL.to(device)}
        low, high = denoiser.logsnr_range
        asked = (max(low, -6.0), min(high, 6.0))
        reference = GaussianReference.choose(other, ranks=(4,))
        run = Density(reference, StratifiedUniform(6), draws=2)
        run = run.piloted(denoiser, other[:8], {"label": LABEL.repeat(2)[:8].to(device)}, logsnr_range=asked)
        return reference, run(denoiser, x, label, logsnr_range=asked)

    (reference, here), (fitted, there) = everywhere(measure, "flow")
    assert reference.record() == fitted.record()
    torch.testing.assert_close(there.nats, here.nats, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(there.stderr, here.stderr, rtol=1e-2, atol=1e-2)
    assert there.nats.device.type == "cpu"
    assert there.nats.dtype == torch.float64


def test_references_of_what_is_on_the_device():
    mean, variances, x = X[0], torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2)) + 0.5, X[1:]
    for covariance in (variances, torch.diag(variances.flatten())):
        here = GaussianReference.of(mean, covariance)
        with without_float64() as device:
            there = GaussianReference.of(mean.to(device), covariance.to(device))
            assert there.record() == here.record()
            torch.testing.assert_close(there.surprise(x.to(device)), here.surprise(x))


def test_probabilities_on_a_grid():
    """Seen at the clean end as well, where the levels are told apart."""
    x = Grid(-1, 1, 2).low + 2.0 * (X > 0)

    def measure(denoiser):
        device = next(denoiser.parameters()).device
        run = Density(GaussianReference(), StratifiedUniform(6), values=Grid(-1, 1, 2))
        return run(denoiser, x.to(device), {"label": LABEL.to(device)}, logsnr_range=(-6.0, 1.0))

    here, there = everywhere(measure, "flow")
    assert there.evaluations == here.evaluations > 6 * len(X)  # the clean end was asked for
    torch.testing.assert_close(there.nats, here.nats, rtol=1e-3, atol=1e-2)


def test_a_density_looks_for_grids():
    with without_float64() as device:
        assert grid_of((X > 0).float().to(device)) == (2, 1.0)
        assert grid_of(X.to(device)) is None


class Shrinks(nn.Module):
    """Predicts a share of z as the noise; its weight is on the device."""

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, x, time):
        return self.share * x


@torch.inference_mode()
def test_ensembles():
    x = X.repeat(2, 1, 1, 1)

    def measure(device):
        members = [Adapted(Shrinks(share), CONVENTIONS["discrete"], null={}).to(device) for share in (0.1, 0.9)]
        found = Ensemble.choose(members, x.to(device), bands=3)
        return found.choice.members, Density(quadrature=StratifiedUniform(6))(found, x.flip(3).to(device)).nats

    chosen, here = measure(torch.device("cpu"))
    assert set(chosen) == {0, 1}
    with without_float64() as device:
        there = measure(device)
    assert there[0] == chosen
    torch.testing.assert_close(there[1], here, rtol=1e-3, atol=1e-2)


def test_a_ceiling_that_is_on_the_device():
    surprise = torch.tensor([0.5, 1.0])
    with without_float64() as device:
        assert torch.equal(ceiling_of(surprise.to(device), 2), surprise.double())


def test_audits():
    def measure(denoiser):
        path = NoisePath(Trapezoid(8), draws=2, null=True, logsnr_range=(-4.0, 2.0))
        curve = measure_candidates(denoiser, Pairs.of(X), {"label": torch.arange(3)}, path, truth=LABEL % 3)
        slots = torch.arange(3).expand(len(X), -1)
        held = Mixture(("a", "b", "c"), slots, torch.full((len(X), 3), 1 / 3).double(), LABEL % 3)
        return Audit(Filtered(curve, held))

    here, there = everywhere(measure, "flow")
    assert here.distance.value > 0.01
    torch.testing.assert_close(there.nats, here.nats, rtol=1e-3, atol=1e-3)
    assert there.excess.value == pytest.approx(here.excess.value, abs=1e-3)
