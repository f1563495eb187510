"""The forms gap and orthogonal: weighed in each pair by its own numbers, in the mean by those of all pairs."""

import pytest
import torch

from mmg_diffusers import MMG, Denoiser, Estimate
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.measure.divergence import interaction_information
from mmg_diffusers.measure.quadrature import StratifiedUniform, Trapezoid
from mmg_diffusers.measure.weighing import Contributions, share_of

RANGE = (-10.0, 12.0)


class Shifted(Denoiser):
    """An exact base branch beside a conditional branch with a fault, which gap and orthogonal count with opposite signs."""

    logsnr_range = RANGE

    def __init__(self, oracle, fault):
        super().__init__()
        self.oracle, self.fault = oracle, fault

    def forward(self, z, logsnr, cond=None):
        out = self.oracle(z, logsnr, cond)
        return out if cond is None else out + self.fault


def measure(denoiser, x, cond, ids, form, rule=None):
    rows = {key: value[ids] for key, value in cond.items()}
    return MMG(form, rule or Trapezoid(24), draws=2)(denoiser, x[ids], rows, pair_ids=ids, logsnr_range=RANGE)


@pytest.mark.parametrize("form", ["auto", "balanced"])
@pytest.mark.parametrize("fault", [0.0, 0.2])
@pytest.mark.parametrize("rule", [Trapezoid(24), StratifiedUniform(24)])
def test_a_pair_reads_the_same_in_any_company(gaussian, form, fault, rule):
    oracle, x, cond = gaussian
    denoiser = Shifted(oracle, fault)
    alone = measure(denoiser, x, cond, torch.tensor([3]), form, rule)
    assert alone.mean() == (float(alone.nats[0]), float(alone.stderr[0]))
    for company in ([3, 4], [700, 3, 5], list(range(60))):
        ids = torch.tensor(company)
        beside = measure(denoiser, x, cond, ids, form, rule)
        place = company.index(3)
        # Its standard error is told by the others' draws as well, see `stderr_of_pairs`; what it says is not.
        torch.testing.assert_close(beside.nats[place], alone.nats[0], rtol=1e-9, atol=1e-12)
    halves = [measure(denoiser, x, cond, part, form, rule) for part in torch.arange(60).split(30)]
    merged = Estimate.merge(halves)
    torch.testing.assert_close(merged.nats, torch.cat([half.nats for half in halves]), rtol=0, atol=0)
    assert merged.mean().value == pytest.approx(beside.mean().value, rel=1e-12)


def test_the_mean_weighs_by_all_pairs(gaussian):
    oracle, x, cond = gaussian
    estimate = measure(Shifted(oracle, 0.3), x, cond, torch.arange(200), "auto")
    gap, orthogonal = (estimate.using(form).mean().value for form in ("gap", "orthogonal"))
    assert estimate.gap_share > 0.5
    assert estimate.mean().value == pytest.approx(orthogonal + estimate.gap_share * (gap - orthogonal))
    # Forms that are not weighed have the mean of their pairs, to the last bit.
    assert estimate.using("gap").mean().value == float(estimate.using("gap").nats.mean())


def test_influence_of_weighed_forms(gaussian):
    oracle, x, cond = gaussian
    estimate = measure(Shifted(oracle, 0.2), x, cond, torch.arange(40), "auto")
    over = influence(estimate)
    assert torch.equal(over.nats[:, 0], estimate.nats)
    mean, stderr = over.mean()
    assert (float(mean[0]), float(stderr[0])) == pytest.approx(estimate.mean())
    alone = influence(measure(Shifted(oracle, 0.2), x, cond, torch.tensor([7]), "auto"))
    torch.testing.assert_close(over[7:8].nats, alone.nats, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(over[7:8].mean()[0], alone.mean()[0], rtol=1e-9, atol=1e-12)
    share, _ = over.arrived()
    assert float(share[0]) == 0.0


def test_interactions_weigh_in_the_mean(gaussian):
    oracle, x, cond = gaussian

    class Either(Denoiser):
        logsnr_range = RANGE

        def forward(self, z, logsnr, cond=None):
            base = oracle(z, logsnr) + 0.2
            return base if not cond else oracle(z, logsnr, {"y": cond["y"]}) + (0.1 if "c" in cond else 0.0)

    y, c = {"y": cond["y"][:50]}, {"c": cond["y"][:50].flip(1), "y2": cond["y"][:50]}

    class Renamed(Either):
        def forward(self, z, logsnr, cond=None):
            if cond is not None and "y" not in cond:
                cond = {"y": cond["y2"], "c": cond["c"]}
            return super().forward(z, logsnr, cond)

    found = interaction_information(Renamed(), x[:50], y, c, estimator=MMG("auto", Trapezoid(16)))
    assert found.mean().value == pytest.approx(found.alone.mean().value - found.conditional.mean().value)


@pytest.mark.parametrize("fault", [0.0, 0.05, 0.1, 0.3])
def test_the_error_of_a_weighed_mean_is_honest(fault):
    """Samples of 50 pairs, 2,000 times: differences of 0 to 4 standard errors. What is stated is not far below the root mean square
    error, and for no difference or a plain one is not above it either. With the weight taken as known it would be 0.5 to 0.7
    of it between the two.
    """  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 50, 2, generator=generator, dtype=torch.float64)
    orthogonal = 1.0 + 0.2 * noise[..., 0]
    gap = orthogonal + 10 * fault / 50**0.5 * 1.5 + noise[..., 1]
    stated, error = [], []
    for one, other in zip(gap, orthogonal, strict=True):
        difference = one - other
        share = share_of(difference.mean(), difference.std() / 50**0.5)
        value, stderr = Contributions(
            other + share.share * difference, other + share.moving * difference, (one, other)
        ).mean(one)
        stated.append(stderr)
        error.append(value - float(1.0 + 10 * fault / 50**0.5 * 1.5))
    ratio = float((torch.tensor(stated).square().mean() / torch.tensor(error).square().mean()).sqrt())
    assert 0.72 < ratio < 1.15
    if fault in (0.0, 0.3):
        assert ratio > 0.85


def test_contributions_to_a_difference():
    generator = torch.Generator().manual_seed(0)
    gap, orthogonal, other = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    weighed = Contributions(
        orthogonal + 0.5 * (gap - orthogonal), orthogonal + 1.5 * (gap - orthogonal), (gap, orthogonal)
    )
    difference = weighed.less(Contributions.of(other))
    most = max(float((form - other).std()) for form in (gap, orthogonal)) / 40**0.5
    assert float(difference.stderr()) == pytest.approx(most)
    assert float(weighed.less(weighed).stderr()) == 0.0


def test_shares():
    share, moving = share_of(torch.tensor([0.0, 1.0, -2.0, 3.0, 5.0]), torch.tensor([0.0, 2.0, 1.0, 0.0, torch.nan]))
    assert share.tolist() == [0.0, 0.0, 0.75, 1.0, 0.0]
    assert moving.tolist() == [0.0, 0.0, 1.25, 1.0, 0.0]
