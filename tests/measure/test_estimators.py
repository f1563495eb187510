"""MMG on closed forms: the truth within its own standard errors, and the promises of the loop."""

import math

import pytest
import torch

from mmg_diffusers import MMG, Denoiser, Estimate
from mmg_diffusers.denoisers.check import foreign, present
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.moments import FORMS
from mmg_diffusers.measure.quadrature import (
    GaussLegendre,
    Logistic,
    StratifiedLogistic,
    StratifiedUniform,
    Trapezoid,
)
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config
from tests.conftest import joint

RANGE = (-10.0, 12.0)


def gaussian_pairs(covariance, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, len(covariance), generator=generator, dtype=torch.float64)
    return noise @ torch.linalg.cholesky(covariance).T


def exact_pointwise(covariance, dim_x, pairs):
    """log p(x, y) / (p(x) p(y)) of a centred Gaussian."""
    total = 0.0
    for rows, sign in ((slice(None), 1), (slice(0, dim_x), -1), (slice(dim_x, None), -1)):
        law = torch.distributions.MultivariateNormal(
            torch.zeros(len(covariance[rows]), dtype=torch.float64), covariance[rows, rows]
        )
        total = total + sign * law.log_prob(pairs[:, rows])
    return total


@pytest.mark.parametrize("rhos", [(0.0,), (0.6,), (0.99,), (0.9, 0.5), (0.8,) * 5, (0.0, 0.7, 0.0)])
@pytest.mark.parametrize("integrand", FORMS)
def test_gaussian_pairs(rhos, integrand):
    """Within 4 standard errors of the closed form; an estimator that returns 0 fails wherever there is information."""
    covariance, d = joint(*rhos), len(rhos)
    denoiser = GaussianDenoiser(covariance, d)
    truth = -0.5 * sum(math.log(1 - rho**2) for rho in rhos)
    assert denoiser.mutual_information() == pytest.approx(truth)
    pairs = gaussian_pairs(covariance, 1500)
    estimate = MMG(integrand, Trapezoid(32))(denoiser, pairs[:, :d], {"y": pairs[:, d:]}, logsnr_range=RANGE)
    value, stderr = estimate.mean()
    assert abs(value - denoiser.mutual_information(*RANGE)) < 4 * stderr + 1e-9
    assert stderr < 0.1
    if truth > 0:
        assert abs(value) > 4 * stderr
    assert abs(estimate.certificate.value) <= 4 * estimate.certificate.stderr


@pytest.mark.parametrize("rhos", [(0.6,), (0.99,), (0.9, 0.5)])
def test_expectation_in_closed_form(rhos):
    """The integral of the exact gap curve is the mutual information, less the stated truncation."""
    denoiser = GaussianDenoiser(joint(*rhos), len(rhos))
    levels, weight = Trapezoid(64).place(*RANGE, denoiser.snap, torch.zeros(1, 64, dtype=torch.float64))
    integral = float((denoiser.gap(levels) * weight).sum() / 2)
    assert integral == pytest.approx(denoiser.mutual_information(*RANGE), abs=1e-3)
    ends = denoiser.gap(torch.tensor(RANGE, dtype=torch.float64)) / 2
    assert integral + float(ends.sum()) == pytest.approx(denoiser.mutual_information(), abs=1e-3)


@pytest.mark.parametrize(
    "rule",
    [
        Trapezoid(48),
        GaussLegendre(32),
        StratifiedUniform(48),
        Logistic(96, loc=1.0, scale=2.0, clip=5.0),
        StratifiedLogistic(48, loc=1.0, scale=2.0, clip=5.0),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_pointwise_information_through_a_pretrained_convention(rule):
    """Every rule, on the levels of a DDPM network; errors are those of the noise alone, pair by pair."""
    covariance = joint(0.9, 0.5)
    oracle = GaussianDenoiser(covariance, 2)
    ddpm = DiscreteVP.from_alphas(alphas_cumprod_from_config({"beta_schedule": "linear"}), "v_prediction")
    denoiser = foreign(oracle, ddpm, {"y": torch.full((1, 2), 7.0)})
    pairs = gaussian_pairs(covariance, 200, seed=3)
    estimate = MMG("gap", rule, draws=4)(denoiser, pairs[:, :2], present({"y": pairs[:, 2:]}))
    z = (estimate.nats - exact_pointwise(covariance, 2, pairs)) / estimate.stderr
    # The spread of 200 standardised errors, with a little truncation; t-like tails where a pair has few draws.
    assert abs(float(z.mean())) < 4 / 200**0.5 + 0.05
    assert 0.7 < float(z.square().mean().sqrt()) < 1.4


def test_labelled_mixture(mixture):
    denoiser, x, cond = mixture
    estimate = MMG("gap", Trapezoid(48))(denoiser, x, cond, logsnr_range=(-12, 12))
    clean = torch.full((len(x),), 60.0, dtype=torch.float64)
    posterior = denoiser.log_posterior(x, clean)
    exact = posterior[torch.arange(len(x)), cond["label"]] - denoiser.log_weights[cond["label"]]
    difference = estimate.nats - exact
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / len(x) ** 0.5
    assert float(estimate.nats.mean()) > 0.3
    assert float(torch.corrcoef(torch.stack([estimate.nats, exact]))[0, 1]) > 0.5


def test_conditional_information():
    """i(x; y1, y2 | y2): the base branch sees y2 as well. Here y = x + noise, seen twice."""
    covariance = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 2.0]], dtype=torch.float64)
    both = GaussianDenoiser(covariance, 1)
    one = GaussianDenoiser(covariance[[0, 2]][:, [0, 2]], 1)

    class Roles(Denoiser):
        logsnr_range = RANGE

        def forward(self, z, logsnr, cond=None):
            assert cond is not None
            known = cond["known"].bool()
            given_both = both(z, logsnr, {"y": cond["y"]})
            given_one = one(z, logsnr, {"y": cond["y"][:, 1:]})
            return torch.where(known, given_both, given_one)

    pairs = gaussian_pairs(covariance, 4000)
    x, y = pairs[:, :1], pairs[:, 1:]
    yes, no = torch.ones(len(x), 1), torch.zeros(len(x), 1)
    estimate = MMG("gap", Trapezoid(32))(Roles(), x, {"y": y, "known": yes}, {"y": y, "known": no})
    truth = both.mutual_information(*RANGE) - one.mutual_information(*RANGE)
    value, stderr = estimate.mean()
    assert truth == pytest.approx(0.5 * math.log(3 / 2), abs=1e-3)
    assert abs(value - truth) < 4 * stderr
    assert value > 4 * stderr


# ---- promises of the loop ----


def test_one_condition_in_both_branches_gives_exactly_zero(gaussian):
    denoiser, x, cond = gaussian
    estimate = MMG("gap", Trapezoid(8))(denoiser, x.float(), cond, cond, logsnr_range=RANGE)
    assert torch.equal(estimate.nats, torch.zeros_like(estimate.nats))
    assert estimate.mean() == (0.0, 0.0)


def test_a_condition_may_have_the_rows_alone(mixture):
    """Labels `(N,)`, in the condition and in the context, of a network and of an oracle."""
    oracle, x, cond = mixture
    x, label = x[:8], cond["label"][:8]
    ddpm = DiscreteVP.from_alphas(alphas_cumprod_from_config({"beta_schedule": "linear"}), "epsilon")
    network = foreign(oracle, ddpm, {"label": torch.zeros(1, dtype=torch.int64)})
    other = (label + torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])) % 3
    for denoiser, one, context in (
        (oracle, {"label": label}, {"label": other}),
        (network, present({"label": label}), present({"label": other})),
    ):
        run = MMG("gap", Trapezoid(6), draws=2)
        nats = run(denoiser, x, one, context, logsnr_range=(-8.0, 8.0)).nats
        assert bool((nats[label == other] == 0).all())
        assert bool((nats[label != other] != 0).all())
        difference = run(denoiser, x, one, logsnr_range=(-8.0, 8.0)).nats
        difference = difference - run(denoiser, x, context, logsnr_range=(-8.0, 8.0)).nats
        torch.testing.assert_close(nats, difference, rtol=1e-6, atol=1e-6)


def test_batch_size_changes_no_noise(gaussian):
    denoiser, x, cond = gaussian
    x, cond = x[:20], {"y": cond["y"][:20]}
    for rule in (Trapezoid(9), StratifiedUniform(9)):
        runs = [MMG("gap", rule, 2)(denoiser, x, cond, logsnr_range=RANGE, batch_size=b) for b in (1, 7, 64, 4096)]
        for other in runs[1:]:
            assert torch.equal(runs[0].curve.logsnr, other.curve.logsnr)
            torch.testing.assert_close(runs[0].nats, other.nats, rtol=1e-6, atol=1e-9)


def test_noise_belongs_to_the_pair(gaussian):
    denoiser, x, cond = gaussian
    run = MMG("gap", StratifiedUniform(8))
    whole = run(denoiser, x[:10], {"y": cond["y"][:10]}, logsnr_range=RANGE)
    again = run(denoiser, x[:10], {"y": cond["y"][:10]}, logsnr_range=RANGE)
    assert torch.equal(whole.nats, again.nats)
    shards = [
        run(denoiser, x[part], {"y": cond["y"][part]}, pair_ids=torch.arange(10)[part], logsnr_range=RANGE)
        for part in (slice(0, 3), slice(3, 10))
    ]
    merged = Estimate.merge(shards)
    torch.testing.assert_close(merged.nats, whole.nats, rtol=1e-12, atol=1e-12)
    other = run(denoiser, x[:10], {"y": cond["y"][:10]}, seed=1, logsnr_range=RANGE)
    assert not torch.allclose(whole.nats, other.nats, atol=1e-3)


def test_the_network_is_told_the_level_of_the_noise(gaussian):
    """The level in z, read off a known x, is the one in `logsnr`."""
    seen = []

    class Spy(Denoiser):
        logsnr_range = (-5.0, 5.0)

        def snap(self, logsnr):
            return (logsnr.double() * 2).round().div(2).clamp(-5, 5)

        def forward(self, z, logsnr, cond=None):
            seen.extend(zip(z.std(1).tolist(), logsnr, strict=True))
            return torch.zeros_like(z)

    # A constant signal of 100: |z| / 100 is a = sqrt(sigmoid(logsnr)) but for the noise.
    x = torch.full((1, 4096), 100.0, dtype=torch.float64)
    run = MMG("gap", StratifiedUniform(6))(Spy(), x, {"y": torch.zeros(1, 1)}, batch_size=2)
    levels = run.curve.logsnr[0, 0]
    assert torch.equal(levels, (levels * 2).round() / 2)
    for spread, level in seen:
        assert spread == pytest.approx(float(torch.sigmoid(-level).sqrt()), rel=0.05)


def test_pixel_maps_sum_to_the_value(mixture):
    denoiser, x, cond = mixture
    x, cond = x[:6], {"label": cond["label"][:6]}
    estimate = MMG("orthogonal", Trapezoid(16), draws=2)(denoiser, x, cond, logsnr_range=(-8, 8), keep="pixel")
    for integrand in ("gap", "orthogonal", "auto", "balanced"):
        pixels, stderr = estimate.pixel_map(integrand)
        assert pixels.shape == stderr.shape == x.shape
        most = torch.stack([estimate.pixel_map(form)[1] for form in ("gap", "orthogonal")]).amax(0)
        assert bool((stderr <= most + 1e-12).all())
        torch.testing.assert_close(pixels.sum(1), estimate.using(integrand).nats, rtol=1e-9, atol=1e-9)
    assert bool((estimate.pixel_map()[0] >= 0).all())
    with pytest.raises(ValueError, match="keep='pixel'"):
        MMG("gap", Trapezoid(4))(denoiser, x, cond, logsnr_range=(-8, 8)).pixel_map()


def test_stated_error_covers_the_spread_of_repeats(gaussian):
    """The error from one run's draws against the spread of 60 seeds, for one draw a level and for several."""
    denoiser, x, cond = gaussian
    x, cond = x[:8], {"y": cond["y"][:8]}
    for draws in (1, 3):
        runs = [MMG("gap", Trapezoid(24), draws)(denoiser, x, cond, seed=s, logsnr_range=RANGE) for s in range(60)]
        spread = torch.stack([run.nats for run in runs]).std(0)
        stated = torch.stack([run.stderr for run in runs]).square().mean(0).sqrt()
        ratio = stated / spread
        assert float(stated.square().mean() / spread.square().mean()) == pytest.approx(1, abs=0.15)
        # Pairs differ, of which eight show something: their own variances are drawn some way to the mean.
        assert float(ratio.min()) > 0.75
        assert float(ratio.max()) < 1.75


# ---- auto ----


class Shifted(Denoiser):
    """An exact conditional branch beside a base branch with a fault of its own."""

    logsnr_range = RANGE

    def __init__(self, oracle, fault):
        super().__init__()
        self.oracle, self.fault = oracle, fault

    def forward(self, z, logsnr, cond=None):
        out = self.oracle(z, logsnr, cond)
        return out if cond is not None else out + self.fault


def test_auto_weighs_by_the_certificate(gaussian):
    oracle, x, cond = gaussian
    honest = MMG("auto", Trapezoid(24))(oracle, x, cond, logsnr_range=RANGE)
    difference, stderr = honest.certificate
    assert honest.gap_share == pytest.approx(max(0.0, 1 - (stderr / difference) ** 2))
    assert honest.gap_share < 0.9
    assert not any("marginal" in text for text in honest.warnings())

    # A conditional fault makes orthogonal too large and gap too small.
    class Conditional(Shifted):
        def forward(self, z, logsnr, cond=None):
            out = self.oracle(z, logsnr, cond)
            return out if cond is None else out + self.fault

    faulty = MMG("auto", Trapezoid(24))(Conditional(oracle, 0.3), x, cond)
    assert faulty.gap_share > 0.9
    assert abs(faulty.mean().value - faulty.using("gap").mean().value) < 0.1
    assert faulty.using("gap").mean().value < honest.mean().value < faulty.using("orthogonal").mean().value
    assert any("not the marginal and the conditional" in text for text in faulty.warnings())


class Fitted(Denoiser):
    """A conditional branch that falls short of the exact difference by a share, and has noise of its own."""

    logsnr_range = RANGE

    def __init__(self, oracle, short, noise):
        super().__init__()
        self.oracle, self.short, self.noise = oracle, short, noise

    def forward(self, z, logsnr, cond=None):
        base = self.oracle(z, logsnr)
        if cond is None:
            return base
        told = (1 - self.short) * (self.oracle(z, logsnr, cond) - base)
        return base + told + self.noise * torch.sin(40 * cond["y"] + logsnr[:, None])


def test_balanced_halves_what_over_fitting_does_to_the_two_forms(gaussian):
    oracle, x, cond = gaussian
    truth = oracle.mutual_information(*RANGE)
    fitted = MMG("balanced", Trapezoid(24))(Fitted(oracle, 0.0, 0.25), x, cond, logsnr_range=RANGE)
    value, stderr = fitted.mean()
    assert fitted.gap_share == pytest.approx(fitted.using("auto").gap_share / 2)
    for form in ("gap", "orthogonal", "auto"):
        assert abs(fitted.using(form).mean().value - truth) > 4 * fitted.using(form).mean().stderr
    assert abs(value - truth) < 3 * stderr
    assert stderr < 0.1
    # Of independent variables, too, where it would be told as information.
    alone = GaussianDenoiser(joint(0.0), 1)
    pairs = gaussian_pairs(joint(0.0), 1500)
    nothing = MMG("balanced", Trapezoid(24))(Fitted(alone, 0.0, 0.2), pairs[:, :1], {"y": pairs[:, 1:]})
    assert abs(nothing.mean().value) < 3 * nothing.mean().stderr
    assert nothing.using("orthogonal").mean().value > 6 * nothing.using("orthogonal").mean().stderr
    # What is short of the truth, and not noisy, is nearest to it in gap.
    short = MMG("balanced", Trapezoid(24))(Fitted(oracle, 0.25, 0.0), x, cond, logsnr_range=RANGE)
    assert short.gap_share == short.using("auto").gap_share > 0.9
    assert short.using("orthogonal").mean().value < 0.7 * truth < 0.9 * truth < short.mean().value


def test_identity_of_the_two_forms(gaussian):
    """gap = orthogonal + 2 <eps - e_c, e_c - e_u> holds for any network, hence gap + error is the base's error."""
    oracle, x, cond = gaussian
    estimate = MMG("gap", Trapezoid(8))(Shifted(oracle, 0.5), x[:50], {"y": cond["y"][:50]})
    base = MMG("gap", Trapezoid(8))(Shifted(oracle, 0.5), x[:50], {"y": cond["y"][:50]})
    assert torch.equal(estimate.curve.error, base.curve.error)
    assert bool((estimate.curve.gap + estimate.curve.error >= 0).all())


def test_boundary_mass_and_flags(gaussian):
    oracle, x, cond = gaussian
    wide = MMG("orthogonal", Trapezoid(32))(oracle, x, cond, logsnr_range=RANGE)
    assert wide.boundary.low_decayed
    assert wide.boundary.high_decayed
    cut = MMG("orthogonal", Trapezoid(32))(oracle, x, cond, logsnr_range=(-2.0, 12.0))
    assert not cut.boundary.low_decayed
    assert any("not decayed at log-SNR -2" in text for text in cut.warnings())
    # Below -4 the curve is exponential, so that half of its end value is what is missing.
    end = MMG("gap", Trapezoid(32), draws=4)(oracle, x, cond, logsnr_range=(-4.0, 12.0)).boundary.low
    assert abs(end.value - oracle.mutual_information(-math.inf, -4.0)) < 4 * end.stderr + 2e-3


def test_no_marginal_branch_is_said(gaussian):
    oracle, x, cond = gaussian
    ddpm = DiscreteVP.from_alphas(alphas_cumprod_from_config({"beta_schedule": "linear"}), "epsilon")
    denoiser = foreign(oracle, ddpm, {"y": torch.zeros(1, 2)})
    denoiser.null = None
    with pytest.raises(ValueError, match="no unconditional branch"):
        MMG()(denoiser, x, present(cond))
