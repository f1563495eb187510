"""Log-likelihoods against closed forms: Gaussians, mixtures, template images; their errors, ends, ratios and records."""

import math
from dataclasses import replace

import pytest
import torch

from mmg_diffusers import MMG, Denoiser
from mmg_diffusers.denoisers import GaussianDenoiser, GaussianReference, MixtureDenoiser, Rescaled
from mmg_diffusers.measure import Control, Density, LogLikelihood, LogLikelihoodRatio, StratifiedUniform, Trapezoid
from mmg_diffusers.measure.density import grid_of

RANGE = (-10.0, 14.0)


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_of(covariance):
    """The exact denoiser of N(0, covariance), whose condition says nothing."""
    return GaussianDenoiser(torch.block_diag(covariance, torch.ones(1, 1, dtype=torch.float64)), len(covariance))


def log_density(mixture, x, label=None):
    """log p(x) or log p(x | label) of a mixture."""
    square = torch.cdist(x.flatten(1), mixture.means.flatten(1)).square()
    each = -square / (2 * mixture.variances) - x[0].numel() / 2 * (2 * math.pi * mixture.variances).log()
    if label is not None:
        return each.gather(1, label[:, None])[:, 0]
    return torch.logsumexp(mixture.log_weights + each, 1)


def draws_of(mixture, count, seed=0):
    label = torch.multinomial(
        mixture.log_weights.exp(), count, True, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip
    noise = normals(count, *mixture.means.shape[1:], seed=seed + 1000)
    return mixture.means[label] + mixture.variances[label].sqrt().view(-1, *(1,) * (noise.ndim - 1)) * noise, label


def random_mixture(size, parts=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    means = 1.5 * torch.randn(parts, size, generator=generator, dtype=torch.float64)
    variances = 0.1 + 0.9 * torch.rand(parts, generator=generator, dtype=torch.float64)
    return MixtureDenoiser(0.2 + torch.rand(parts, generator=generator, dtype=torch.float64), means, variances)


TWO_MODES = MixtureDenoiser(
    torch.ones(2), torch.tensor([[-2.0], [2.0]]).double(), torch.tensor([0.01, 0.01]).double()
)  # fmt: skip


def rms(values):
    return float(values.square().mean().sqrt())


def check_coverage(error, stderr):
    """Bar: root mean square of error over standard error within 0.8 and 1.25, at most 2 % beyond 3."""
    z = error / stderr
    assert 0.8 < rms(z) < 1.25
    assert float((z.abs() > 3).double().mean()) <= 0.02


# ---- values ----


@pytest.mark.parametrize("levels", [2, 7, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_gaussian_against_its_own_covariance_is_exact(levels, dtype):
    mix = normals(6, 6, seed=1)
    covariance = mix @ mix.T / 6 + 0.05 * torch.eye(6)
    mean = normals(6, seed=2)
    denoiser = GaussianDenoiser(
        torch.block_diag(covariance, torch.ones(1, 1).double()), 6, torch.cat([mean, torch.zeros(1)])
    )
    x = (mean + normals(40, 6, seed=3) @ torch.linalg.cholesky(covariance).T).to(dtype)
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x.double())
    found = Density(GaussianReference.of(mean, covariance), StratifiedUniform(levels))(denoiser, x, logsnr_range=RANGE)
    assert float((found.nats - exact).abs().max()) < (1e-6 if dtype == torch.float64 else 1e-4)
    torch.testing.assert_close(found.surprise, -found.nats)
    torch.testing.assert_close(found.bits_per_dim(), -found.nats / (6 * math.log(2)))
    # Against another the value is the same, but for noise.
    other = Density(GaussianReference(1.0), StratifiedUniform(levels), draws=2)(denoiser, x, logsnr_range=RANGE)
    if levels == 64:
        assert rms((other.nats - exact) / other.stderr) < 1.3
        assert 0.1 < rms(other.nats - exact) < 5


def test_a_fitted_covariance_of_many_dimensions():
    """64 dimensions, variances 0.01 to 10, 64 evaluations: below 0.006 nats a dimension, the plain reference ten times that."""
    rotation, _ = torch.linalg.qr(normals(64, 64, seed=1))
    root = rotation * torch.logspace(-1, 0.5, 64, dtype=torch.float64)
    covariance = root @ root.T
    x, others = normals(100, 64, seed=2) @ root.T, normals(5000, 64, seed=3) @ root.T
    exact = torch.distributions.MultivariateNormal(torch.zeros(64).double(), covariance).log_prob(x)
    errors = {}
    for name, reference in (("fitted", GaussianReference.fit(others)), ("plain", GaussianReference(float(x.std())))):
        found = Density(reference)(gaussian_of(covariance), x, logsnr_range=(-12.0, 14.0))
        errors[name] = rms(found.nats - exact) / 64
        check_coverage(found.nats - exact, found.stderr)
    assert errors["fitted"] < 0.006 < 0.04 < errors["plain"]


@pytest.mark.parametrize(("size", "bar"), [(2, 0.065), (16, 0.042), (64, 0.015)])
def test_mixtures(size, bar):
    """256 evaluations, levels and control by a pilot on others: the error in nats a dimension, and its mean."""
    mixture = random_mixture(size)
    x, _ = draws_of(mixture, 150, seed=1)
    others, _ = draws_of(mixture, 3000, seed=2)
    run = Density(GaussianReference.fit(others), StratifiedUniform(256))
    run = run.piloted(mixture, others[:64], logsnr_range=RANGE)
    found = run(mixture, x, logsnr_range=RANGE)
    error = found.nats - log_density(mixture, x)
    assert rms(error) / size < bar
    assert abs(float(error.mean())) < 3 * float(error.std()) / 150**0.5
    check_coverage(error, found.stderr)


def test_a_pilot_finds_less_noise_at_the_same_cost():
    mixture = random_mixture(16)
    x, _ = draws_of(mixture, 100, seed=1)
    others, _ = draws_of(mixture, 2000, seed=2)
    plain = Density(GaussianReference.fit(others))
    piloted = plain.piloted(mixture, others[:64], logsnr_range=RANGE)
    one, two = (run(mixture, x, logsnr_range=RANGE) for run in (plain, piloted))
    assert one.evaluations == two.evaluations == 6400
    assert float(two.stderr.square().mean() / one.stderr.square().mean()) < 0.5
    assert not two.notes
    assert "control" in two.settings
    assert any("those of the pilot" in text for text in piloted(mixture, others[:20], logsnr_range=RANGE).warnings())


def test_a_few_small_pictures_show_their_grid():
    """240 numbers of 256 values hold more of them than a quarter of their number; continuous ones of any number lie on none."""
    whole = torch.randint(0, 256, (20, 12), generator=torch.Generator().manual_seed(0))
    for pixels in (whole.float() / 127.5 - 1, whole.double() / 255):
        count, step = grid_of(pixels)
        assert count == len(pixels.unique())
        assert step == pytest.approx(float(pixels.unique().diff().min()), rel=1e-4)
    for seed in range(200):
        assert grid_of(normals(1 + seed % 5, 1 + seed % 13, seed=seed)) is None
        assert grid_of(normals(8, 2 + seed % 13, seed=seed).float().repeat(3, 1)) is None


class FewLevels(Denoiser):
    """Another denoiser at few levels alone, as a network that was trained with few steps of noise."""

    def __init__(self, exact, levels):
        super().__init__()
        self.exact, self.levels = exact, levels
        self.logsnr_range = (float(levels[0]), float(levels[-1]))

    def snap(self, logsnr):
        return self.levels[(logsnr.double()[..., None] - self.levels).abs().argmin(-1)]

    def forward(self, z, logsnr, cond=None):
        return self.exact(z, logsnr, cond)


def test_a_pilot_of_a_network_that_knows_fewer_levels_than_it_takes():
    """Levels of the pilot fall together; the value is that of all levels, as far as so few tell an integral."""
    mixture = random_mixture(10)
    x, _ = draws_of(mixture, 200, seed=1)
    others, _ = draws_of(mixture, 1000, seed=2)
    few = FewLevels(mixture, torch.linspace(-10, 14, 16, dtype=torch.float64))
    run = Density(GaussianReference.fit(others[64:])).piloted(few, others[:64])
    assert run.control is not None
    assert 10 < len(run.control.levels) < 40
    error = run(few, x).nats - log_density(mixture, x)
    assert abs(float(error.mean())) < 0.15 + 3 * float(error.std()) / 200**0.5


def test_a_reference_carries_what_a_pilot_found(tmp_path):
    mixture = random_mixture(4)
    x, _ = draws_of(mixture, 10, seed=1)
    others, _ = draws_of(mixture, 200, seed=2)
    for plain in (GaussianReference(2.0), GaussianReference.fit(others[16:])):
        piloted = Density(plain).piloted(mixture, others[:16], logsnr_range=RANGE)
        saved = GaussianReference.load(piloted.reference.save(tmp_path / "reference.safetensors"))
        assert "levels by a pilot of 16" in str(saved)
        found = Density.of(saved, 32)
        assert (found.quadrature, found.control) == (replace(piloted.quadrature, nodes=32), piloted.control)
        one, two = (run(mixture, x, logsnr_range=RANGE) for run in (piloted, Density.of(saved)))
        assert torch.equal(one.nats, two.nats)
        assert one.settings == two.settings
        # What it is as a Gaussian has not changed, and it without a pilot is another reference.
        assert torch.equal(saved.surprise(x), plain.surprise(x))
        assert saved.record() != plain.record()
        assert GaussianReference.load(plain.save(tmp_path / "plain.safetensors")).pilot is None
        assert Density.of(plain) == Density(plain)
        noted = Density.of(saved)(mixture, others[:3], logsnr_range=RANGE).warnings()
        assert any("3 of 3 x are among those of the pilot" in text for text in noted)


class Coarse(MixtureDenoiser):
    """It knows every tenth of the log-SNR."""

    def snap(self, logsnr):
        return (10 * logsnr).round() / 10


def test_a_ratio_of_networks_of_other_levels_is_refused_in_its_own_words():
    mixture = random_mixture(2)
    coarse = Coarse(mixture.log_weights.exp(), mixture.means, mixture.variances)
    x, _ = draws_of(mixture, 6)
    one, other = (Density()(denoiser, x, logsnr_range=(-8.0, 9.0)) for denoiser in (mixture, coarse))
    with pytest.raises(ValueError, match="networks that know the same levels"):
        one.versus(other)


def test_a_pilot_of_a_part_of_the_range_is_not_taken_for_all_of_it():
    mixture = random_mixture(2)
    x, _ = draws_of(mixture, 20)
    run = Density(GaussianReference(2.0)).piloted(mixture, x, logsnr_range=(-4.0, 6.0))
    for wider in ((-4.5, 6.0), (-4.0, 6.5)):
        with pytest.raises(ValueError, match=r"the pilot saw log-SNR -4.00 to 6.00 of .* logsnr_range=\(-4, 6\)"):
            run(mixture, x, logsnr_range=wider)
    assert run(mixture, x, logsnr_range=(-3.0, 5.0)).logsnr_range == (-3.0, 5.0)
    run = Density(GaussianReference(2.0)).piloted(mixture, x, logsnr_range=(-4.006, 6.006))
    with pytest.raises(ValueError, match=r"give logsnr_range=\(-4, 6\)"):
        run(mixture, x, logsnr_range=(-5.0, 7.0))


def test_any_control_has_the_same_mean():
    """A coefficient far from 1 changes the noise, not the value: what it leaves has a known mean."""
    x = normals(400, 2) * torch.tensor([1.0, 0.3])
    denoiser, reference = gaussian_of(torch.diag(torch.tensor([1.0, 0.09]).double())), GaussianReference(0.8)
    exact = -GaussianReference.of(torch.zeros(2), torch.tensor([1.0, 0.09])).surprise(x)
    for control in (Control((-2.0, 1.0, 4.0), (0.0, 1.4, 0.3)), Control((0.0,), (0.0,))):
        found = Density(reference, StratifiedUniform(48), draws=2, control=control)(denoiser, x, logsnr_range=RANGE)
        error = found.nats - exact
        assert abs(float(error.mean())) < 3.5 * float(error.std()) / 400**0.5 < 0.3


def templates(side=32, parts=24, noise=0.2, seed=0):
    """Smooth random pictures as a mixture: p(picture), p(picture | which) and the denoiser are exact."""
    coarse = torch.rand(parts, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pictures = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return MixtureDenoiser(torch.ones(parts), pictures, torch.full((parts,), noise**2))


def test_template_images():
    """3,072 dimensions, 64 evaluations: below 5 nats, 0.0024 bits a dimension."""
    world = templates()
    others, _ = draws_of(world, 1200, seed=2)
    x, label = draws_of(world, 16, seed=1)
    run = Density(GaussianReference.fit(others, rank=32)).piloted(world, others[:16], logsnr_range=RANGE)
    found = run(world, x, logsnr_range=RANGE)
    assert rms(found.nats - log_density(world, x)) < 5
    assert found.evaluations == 16 * 64
    assert found.dimensions == 3072
    given = run(world, x, {"label": label}, logsnr_range=RANGE)
    assert rms(given.nats - log_density(world, x, label)) < 5
    error = given.versus(found).nats - (log_density(world, x, label) - log_density(world, x))
    assert rms(error) < 2.5


# ---- errors of single x ----


@pytest.mark.parametrize("levels", [8, 16, 64])
def test_errors_cover_where_the_curve_is_narrow(levels):
    """Two modes at +-2 of standard deviation 0.1: own scatter alone gave a root mean square z of 41, 2.4 and 1.3."""
    x, _ = draws_of(TWO_MODES, 300)
    found = Density(GaussianReference(2.0), StratifiedUniform(levels))(TWO_MODES, x, logsnr_range=(-8.0, 14.0))
    check_coverage(found.nats - log_density(TWO_MODES, x), found.stderr)


@pytest.mark.parametrize("rule", [StratifiedUniform(64), Trapezoid(64)])
def test_errors_of_information_cover_where_the_curve_is_narrow(rule):
    """Pictures of 192 dimensions: which of 24 templates it is shows within two units of log-SNR."""
    world = templates(side=8)
    x, label = draws_of(world, 300, seed=3)
    found = MMG("gap", rule)(world, x, {"label": label}, logsnr_range=RANGE)
    error = found.nats - (log_density(world, x, label) - log_density(world, x))
    check_coverage(error, found.stderr)


@pytest.mark.slow
def test_two_standard_errors_cover_at_the_defaults():
    for mixture in (TWO_MODES, random_mixture(2), random_mixture(16)):
        x, _ = draws_of(mixture, 1000, seed=5)
        others, _ = draws_of(mixture, 1000, seed=6)
        found = Density(GaussianReference.fit(others))(mixture, x, logsnr_range=RANGE)
        z = (found.nats - log_density(mixture, x)) / found.stderr
        assert 0.93 < float((z.abs() < 2).double().mean()) < 0.97


def test_variances_that_differ_are_not_averaged():
    """Where a half of the x have a hundred times the variance, each keeps its own."""
    from mmg_diffusers.measure.noise import stderr_of_pairs

    scale = torch.where(torch.arange(400) % 2 == 0, 1.0, 10.0).double()
    values = normals(400, 1, 48) * scale.view(-1, 1, 1)
    stated = stderr_of_pairs(values, torch.full((400, 1, 48), 0.5).double(), False)
    truth = 0.25 * 48**0.5 * scale
    for part in (0, 1):
        assert rms(stated[part::2]) == pytest.approx(float(truth[part]), rel=0.2)
    even = stderr_of_pairs(normals(400, 1, 48), torch.full((400, 1, 48), 0.5).double(), False)
    assert float(even.std() / even.mean()) < 0.08
    alone = stderr_of_pairs(values[:1], torch.full((1, 1, 48), 0.5).double(), False)
    assert float(alone) > 0
    still = torch.cat([torch.zeros(1, 1, 48).double(), values[:9]])
    assert float(stderr_of_pairs(still, torch.ones(10, 1, 48).double(), False)[0]) == 0


# ---- bounds and invariances ----


class Faulty(Denoiser):
    """An exact denoiser, scaled and shifted."""

    logsnr_range = (-12.0, 14.0)

    def __init__(self, inner, scale, shift=0.0):
        super().__init__()
        self.inner, self.scale, self.shift = inner, scale, shift

    def forward(self, z, logsnr, cond=None):
        return self.scale * self.inner(z, logsnr, cond) + self.shift


@pytest.mark.parametrize("ends", [(-12.0, 14.0), (-5.0, 7.0), (-2.0, 3.0)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.9, 0.0), (1.1, 0.0), (1.0, 0.2), (0.0, 0.0)])
def test_the_mean_surprise_is_at_least_the_entropy(scale, shift, ends):
    """For any denoiser, over any part of the axis: the paired difference to -log p, less three of its errors."""
    mixture = random_mixture(2)
    x, _ = draws_of(mixture, 400, seed=4)
    run = Density(GaussianReference.fit(draws_of(mixture, 1000, seed=5)[0]), StratifiedUniform(32))
    excess = run(Faulty(mixture, scale, shift), x, logsnr_range=ends).surprise + log_density(mixture, x)
    mean, error = float(excess.mean()), float(excess.std()) / 20
    assert mean > -3 * error
    if scale == 0:
        assert mean > 1.5
    if ends[0] == -12 and (scale, shift) == (1.0, 0.2):
        assert mean == pytest.approx(2 * 0.04 * 26 / 2, abs=4 * error)


def test_it_moves_with_the_variable():
    """Rotated x, reference and noise: the same; x three times as large: d ln 3 less likely."""
    mixture = random_mixture(3)
    x, _ = draws_of(mixture, 20, seed=4)
    reference = GaussianReference.of(torch.tensor([0.5, 0.0, 1.0]), torch.tensor([2.0, 3.0, 4.0]))
    found = Density(reference)(mixture, x, logsnr_range=(-8.0, 10.0))
    step = 2 * math.log(3)
    grown = GaussianReference.of(3 * reference.mean, 9 * torch.tensor([2.0, 3.0, 4.0]))
    larger = Density(grown)(Rescaled(mixture, 3.0), 3 * x, logsnr_range=(-8.0 - step, 10.0 - step))
    torch.testing.assert_close(larger.nats, found.nats - 3 * math.log(3), rtol=0, atol=1e-9)
    # Coordinates in another order, and the noise with them.
    order = torch.tensor([2, 0, 1])

    class Permuted(Denoiser):
        logsnr_range = mixture.logsnr_range

        def forward(self, z, logsnr, cond=None):
            return mixture(z[:, order], logsnr, cond)[:, order.argsort()]

    turned = GaussianReference.of(reference.mean[order.argsort()], torch.tensor([2.0, 3.0, 4.0])[order.argsort()])
    again = Density(turned, draws=8)(Permuted(), x[:, order.argsort()], logsnr_range=(-8.0, 10.0))
    wide = Density(reference, draws=8)(mixture, x, logsnr_range=(-8.0, 10.0))
    assert rms((again.nats - wide.nats) / (again.stderr.square() + wide.stderr.square()).sqrt()) < 1.6


# ---- ratios ----


@pytest.mark.parametrize("piloted", [False, True])
def test_the_difference_of_conditions_is_the_information(piloted):
    """log p(x | y) - log p(x) is the gap of the same seed, to 1e-5 nats, whatever the reference."""
    mixture = random_mixture(4)
    x, label = draws_of(mixture, 25, seed=4)
    x, cond = x.float(), {"label": label}
    run = Density(GaussianReference.fit(draws_of(mixture, 200, seed=5)[0]))
    if piloted:
        run = run.piloted(mixture, draws_of(mixture, 32, seed=6)[0], logsnr_range=RANGE)
    given, alone = (run(mixture, x, c, seed=3, logsnr_range=RANGE) for c in (cond, None))
    gap = MMG("gap", run.quadrature)(mixture, x, cond, seed=3, logsnr_range=RANGE)
    torch.testing.assert_close(given.nats - alone.nats, gap.nats, rtol=0, atol=1e-5)
    ratio = given.versus(alone)
    torch.testing.assert_close(ratio.nats, gap.nats, rtol=0, atol=1e-5)
    torch.testing.assert_close(ratio.stderr, gap.stderr, rtol=1e-4, atol=1e-6)
    exact = log_density(mixture, x.double(), label) - log_density(mixture, x.double())
    assert abs(ratio.mean().value - float(exact.mean())) < 4 * float((ratio.nats - exact).std()) / 5
    assert "log p - log p'" in str(ratio)


def test_ratios_of_what_does_not_share_noise_are_refused():
    mixture = random_mixture(2)
    x, _ = draws_of(mixture, 6)
    run = Density(GaussianReference(2.0), StratifiedUniform(8))
    one = run(mixture, x, logsnr_range=RANGE)
    others = {
        "seed 0 and 1": run(mixture, x, seed=1, logsnr_range=RANGE),
        "reference": replace(run, reference=GaussianReference(1.0))(mixture, x, logsnr_range=RANGE),
        "quadrature": replace(run, quadrature=StratifiedUniform(9))(mixture, x, logsnr_range=RANGE),
        "draws": replace(run, draws=2)(mixture, x, logsnr_range=RANGE),
        "control": replace(run, control=Control((0.0,), (0.5,)))(mixture, x, logsnr_range=RANGE),
        "different levels": run(mixture, x, logsnr_range=(-8.0, 14.0)),
        "different x": run(mixture, x + 1, logsnr_range=RANGE),
        "different pair ids": run(mixture, x, pair_ids=torch.arange(6) + 1, logsnr_range=RANGE),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            one.versus(other)
    with pytest.raises(TypeError, match="expected a LogLikelihood"):
        one.versus(3)


# ---- ends, grids, words ----


def test_the_low_end_is_certified():
    """What the range leaves out below is between nothing and the certificate, for each of three cuts."""
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.2]).double())
    x = normals(500, 3) * covariance.diagonal().sqrt()
    exact = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x)
    reference = GaussianReference(1.5)
    for low in (-4.0, -2.0, 0.0):
        found = Density(reference, Trapezoid(64))(gaussian_of(covariance), x, logsnr_range=(low, 16.0))
        missing = float((exact - found.nats).mean())
        nothing, most = found.ends.low
        assert nothing == 0.0
        assert -4 * found.mean().stderr * 0.2 < missing < most
        torch.testing.assert_close(found.terms.low, reference.error_below(x, low))
        assert found.ends.resolution == pytest.approx(math.exp(-8))
    assert any("below log-SNR 0.00 the reference stands in" in text for text in found.warnings())


def test_a_reference_that_is_too_narrow_is_told():
    """8,800 nats were missing beyond the clean end, and the record said 855 or nothing."""
    x = normals(500, 2)
    found = Density(GaussianReference(0.01))(gaussian_of(torch.eye(2).double()), x, logsnr_range=(-5.364, 7.069))
    missing = float((-GaussianReference().surprise(x) - found.nats).mean())
    assert missing == pytest.approx(8831 - 2.84, rel=0.05)
    assert float(found.terms.flat.mean()) == pytest.approx(missing, rel=0.001)
    (text,) = [text for text in found.warnings() if "above log-SNR 7.07" in text]
    assert "nats likelier" in text
    assert "nearer to the data" in text
    # Beyond it, and for a density that is flat there, nothing is to be said.
    good = Density(GaussianReference(1.0))(gaussian_of(torch.eye(2).double()), x, logsnr_range=(-9.0, 10.0))
    assert good.warnings() == ()


def test_data_that_are_finer_than_the_resolution_are_told():
    x = 1e-3 * normals(30, 2)
    found = Density()(gaussian_of(1e-6 * torch.eye(2).double()), x, logsnr_range=(-5.364, 7.069))
    assert any("finer than the resolution 0.0292" in text for text in found.warnings())


def test_a_network_that_is_worse_than_the_reference_is_told():
    x = normals(60, 2)
    found = Density()(Faulty(gaussian_of(torch.eye(2).double()), 0.5), x, logsnr_range=(-10.0, 12.0))
    assert any("worse than the Gaussian reference" in text for text in found.warnings())
    assert not any("conditional" in text or "lie beyond" in text for text in found.warnings())


def test_data_on_a_grid_are_named():
    levels = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pictures = levels.double() / 127.5 - 1
    assert grid_of(pictures) == (256, pytest.approx(2 / 255))
    assert grid_of(pictures.float()) == (256, pytest.approx(2 / 255, rel=1e-4))
    assert grid_of((levels % 2).float() * 2 - 1) == (2, 2.0)
    # Few values of many, continuous data, a constant, and few numbers are none.
    assert grid_of(levels.clamp(100, 110).double()) == (11, 1.0)
    assert grid_of(normals(40, 8)) is None
    assert grid_of(normals(40, 8).half().float()) is None
    assert grid_of(torch.ones(40, 8)) is None
    assert grid_of(torch.arange(6.0)[:, None]) is None
    assert grid_of(torch.tensor([0.0, 1.0, 2.5]).repeat(20)[:, None]) is None
    x = pictures.view(-1, 2)[:600]
    found = Density()(gaussian_of(torch.eye(2).double()), x, logsnr_range=(-6.0, 7.0))
    assert any("values, 0.007843 apart" in text and "discrete log P" in text for text in found.warnings())


def test_x_that_the_reference_was_fitted_on_are_told():
    x = normals(30, 2)
    run = Density(GaussianReference.fit(x))
    denoiser = gaussian_of(torch.eye(2).double())
    assert any("5 of 5 x are among the points" in text for text in run(denoiser, x[:5], logsnr_range=RANGE).warnings())
    assert run(denoiser, normals(20, 2, seed=1), logsnr_range=RANGE).warnings() == ()


# ---- records, counts, company ----


class Counting(Denoiser):
    """Counts the rows that it is asked for."""

    logsnr_range = (-10.0, 14.0)

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, z, logsnr, cond=None):
        self.rows += len(z)
        return self.inner(z, logsnr, cond)


@pytest.mark.parametrize(("draws", "antithetic"), [(1, False), (2, True)])
def test_evaluations_are_rows_of_the_network(draws, antithetic):
    mixture = random_mixture(2)
    x, _ = draws_of(mixture, 32)
    for run in (Density(GaussianReference(2.0), StratifiedUniform(16), draws, antithetic),):
        counting = Counting(mixture)
        found = run(counting, x)
        assert found.evaluations == counting.rows == 32 * 16 * draws * (2 if antithetic else 1)
    # Of two networks both count.
    from mmg_diffusers.measure import kl_divergence

    one, two = Counting(mixture), Counting(mixture)
    both = kl_divergence(one, two, x, estimator=MMG("gap", StratifiedUniform(16)))
    assert both.evaluations == one.rows + two.rows == 2 * 32 * 16


def test_batches_runs_and_parts_agree(tmp_path):
    mixture = random_mixture(3)
    x, label = draws_of(mixture, 11, seed=4)
    run = Density(GaussianReference.fit(draws_of(mixture, 200, seed=5)[0]), StratifiedUniform(16))
    run = run.piloted(mixture, draws_of(mixture, 32, seed=6)[0], logsnr_range=RANGE)

    def measure(ids, **options):
        return run(mixture, x[ids], {"label": label[ids]}, pair_ids=ids, logsnr_range=RANGE, **options)

    whole = measure(torch.arange(11))
    for size in (1, 7, 64):
        torch.testing.assert_close(measure(torch.arange(11), batch_size=size).nats, whole.nats, rtol=1e-12, atol=1e-10)
    assert torch.equal(measure(torch.arange(11)).nats, whole.nats)
    merged = LogLikelihood.merge([measure(torch.arange(5)), measure(torch.arange(5, 11))])
    torch.testing.assert_close(merged.nats, whole.nats, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(merged.stderr, whole.stderr, rtol=1e-9, atol=1e-12)
    assert merged.evaluations == whole.evaluations
    assert merged.warnings() == whole.warnings()
    again = LogLikelihood.load(whole.save(tmp_path / "l.safetensors"))
    assert torch.equal(again.nats, whole.nats)
    assert torch.equal(again.stderr, whole.stderr)
    assert again.warnings() == whole.warnings()
    assert str(again) == str(whole)
    assert again.ends == whole.ends
    assert (again.variable, again.event, again.control) == (whole.variable, whole.event, whole.control)
    assert again.settings["reference"]["kind"] == "full"
    assert again.settings["reference"]["points"] == 200
    ratio = whole.versus(run(mixture, x, logsnr_range=RANGE))
    back = LogLikelihoodRatio.load(ratio.save(tmp_path / "r.safetensors"))
    assert torch.equal(back.nats, ratio.nats)
    assert torch.equal(back.stderr, ratio.stderr)
    table = whole.to_pandas()
    assert table["nats"].tolist() == whole.nats.tolist()
    assert len(table) == 11
    assert len(repr(whole)) < 200
    assert len(repr(ratio)) < 200
    with pytest.raises(ValueError, match="different settings"):
        LogLikelihood.merge(
            [whole, replace(run, draws=2)(mixture, x, pair_ids=torch.arange(11) + 20, logsnr_range=RANGE)]
        )


class Untouched(Denoiser):
    """Must not be called."""

    logsnr_range = (-5.0, 5.0)

    def forward(self, z, logsnr, cond=None):
        raise AssertionError("called")


X = torch.zeros(6, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        *(
            (lambda cond=cond: Density()(Untouched(), X, cond), error, message)
            for cond, error, message in [
                ([], TypeError, "cond is a list; expected a condition"),
                (0, TypeError, "cond is a int"),
                ("", TypeError, "cond is a str"),
                (False, TypeError, "cond is a bool"),
                (torch.zeros(1), TypeError, "cond is a Tensor"),
                (torch.zeros(6), TypeError, "cond is a Tensor"),
                ({}, ValueError, "cond is {}, which holds nothing"),
                ({"y": torch.zeros(3)}, ValueError, "3 rows for 6 values"),
            ]
        ),
        (lambda: Density()(Untouched(), X.clone().requires_grad_()), ValueError, "x requires a gradient"),
        (lambda: Density()(Untouched(), X * math.nan), ValueError, "NaN or infinite"),
        (lambda: Density()(Untouched(), X.numpy()), TypeError, "x is a ndarray"),
        (lambda: Density()(lambda z, t: z, X), TypeError, "expected a Denoiser"),
        (lambda: Density(2.0), TypeError, "reference is a float"),
        (lambda: Density(quadrature=64), TypeError, "quadrature is a int"),
        (lambda: Density(draws=0), ValueError, "draws is 0"),
        (lambda: Density(control=1.0), TypeError, "control is a float"),
        (
            lambda: Density(GaussianReference.of(torch.zeros(3), 1.0))(Untouched(), X),
            ValueError,
            r"\(3,\), x is \(2,\)",
        ),
        (lambda: Density()(Untouched(), X, variable=3), TypeError, "variable is a int"),
        (lambda: Density()(Untouched(), X, logsnr_range=(-9.0, 0.0)), ValueError, "not a rising range within"),
        (lambda: Density().piloted(Untouched(), X), ValueError, "got 6 x for a pilot"),
        (lambda: Control((1.0, 0.0), (1.0, 1.0)), ValueError, "rising levels"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_network(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full", "low rank"])
def test_maps_sum_to_log_p_and_a_gaussians_is_its_own(kind):
    """Of a Gaussian against another, so that there is something to integrate; against itself nothing is left but its own map."""
    made = torch.Generator().manual_seed(3)
    x = torch.randn(200, 2, 3, 2, generator=made, dtype=torch.float64) * torch.linspace(0.5, 2, 12).view(2, 3, 2) + 1
    reference = GaussianReference.fit(x[100:], kind, 2 if kind == "low rank" else None)
    law = torch.block_diag(torch.diag(torch.linspace(0.5, 2, 12, dtype=torch.float64) ** 2), torch.ones(1, 1))
    other = GaussianDenoiser(law, 12)

    class Shaped(Denoiser):
        logsnr_range = (-8.0, 8.0)

        def forward(self, z, logsnr, cond=None):
            return other(z.flatten(1), logsnr).view(z.shape)

    found = Density(reference)(Shaped(), x[:5], keep="pixel")
    maps, error = found.pixel_map()
    assert maps.shape == error.shape == (5, 3, 2)
    torch.testing.assert_close(maps.flatten(1).sum(1), found.nats)
    assert torch.equal(LogLikelihood.unpacked(*found.packed()).pixel_map()[0], maps)
    plain = Density(reference)(Shaped(), x[:5])
    assert torch.equal(plain.nats, found.nats)
    difference, _ = found.versus(found).pixel_map()
    assert not difference.any()
    if kind == "diagonal":
        each = torch.distributions.Normal(reference.mean, reference.spectrum.rest.sqrt().view(2, 3, 2)).log_prob(x[:5])
        torch.testing.assert_close(reference.surprise_by_place(x[:5]), -each)
    with pytest.raises(ValueError, match="no map was kept"):
        plain.pixel_map()
    with pytest.raises(ValueError, match="without the control of a pilot"):
        Density(reference).piloted(Shaped(), x[5:20])(Shaped(), x[:5], keep="pixel")


@pytest.mark.parametrize(("draws", "beyond"), [(1, 0.04), (4, 0.02)])
def test_errors_of_a_single_x_where_the_curve_is_narrow(draws, beyond):
    """Each of 150 x measured by itself: by its own draws alone, which are too few to judge errors by as if they were many."""
    modes = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    law = MixtureDenoiser(torch.ones(2), modes, torch.full((2,), 0.01))
    x, _ = draws_of(law, 150)
    run = Density(GaussianReference(2.0), draws=draws)
    alone = [run(law, x[k : k + 1], pair_ids=torch.tensor([k]), logsnr_range=(-8.0, 14.0)) for k in range(len(x))]
    z = (torch.cat([one.nats for one in alone]) - log_density(law, x)) / torch.cat([one.stderr for one in alone])
    assert 0.8 < float(z.square().mean().sqrt()) < 1.2
    assert float((z.abs() > 3).double().mean()) <= beyond
    assert any("one x and one draw" in said for said in alone[0].warnings()) == (draws == 1)
    together = run(law, x, logsnr_range=(-8.0, 14.0))
    assert torch.equal(torch.cat([one.nats for one in alone]), together.nats)
