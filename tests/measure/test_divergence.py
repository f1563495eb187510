"""MINDE, entropies, divergences and interactions against closed forms, with networks that are exact Gaussian oracles."""

import math

import pytest
import torch

from mmg_diffusers import MMG
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.denoisers.base import TwoDenoisers
from mmg_diffusers.denoisers.exact import GaussianDenoiser, GaussianReference
from mmg_diffusers.measure.divergence import EntropyEstimator, interaction_information, kl_divergence
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MINDE_RANGE
from mmg_diffusers.measure.moments import OutsideNorm
from mmg_diffusers.measure.quadrature import StratifiedUniform, Trapezoid
from tests.conftest import joint

RANGE = (-14.0, 16.0)


def draw(cov, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(cov), generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T


def gaussian_entropy(cov):
    return 0.5 * float(torch.logdet(2 * math.pi * math.e * cov))


# ---- MINDE ----


def test_minde_is_the_orthogonal_form_on_its_range(gaussian):
    oracle, x, cond = gaussian
    minde = MINDE(quadrature=Trapezoid(64))(oracle, x, cond, seed=2)
    mmg = MMG("orthogonal", Trapezoid(64))(oracle, x, cond, seed=2, logsnr_range=MINDE_RANGE)
    assert torch.equal(minde.nats, mmg.nats)
    value, stderr = MINDE()(oracle, x, cond).mean()
    assert abs(value - oracle.mutual_information(*MINDE_RANGE)) < 4 * stderr < 0.2


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 5.0, 10.0])
def test_minde_outside_the_norm(gaussian, sigma):
    oracle, x, cond = gaussian
    found = MINDE(sigma, draws=2)(oracle, x, cond)
    value, stderr = found.mean()
    truth = oracle.mutual_information(*MINDE_RANGE)
    assert abs(value - truth) < 4 * stderr < 0.4
    # A form of its own; only against N(0, 1), the marginal itself, is it the orthogonal one.
    assert (abs(value - found.using("orthogonal").mean().value) > 1e-6) == (sigma != 1.0)


def test_outside_by_its_definition(gaussian):
    """|e_c - r|^2 - |e_u - r|^2 from the moments of one run, against the definition."""
    oracle, x, cond = gaussian
    one = MMG(OutsideNorm(2.0), Trapezoid(5))(oracle, x[:3], {"y": cond["y"][:3]}, logsnr_range=(-3.0, 3.0))
    from mmg_diffusers.denoisers.levels import add_noise
    from mmg_diffusers.measure.draws import PairDraws

    reference = GaussianReference(2.0)
    levels = one.curve.logsnr[0, 0]
    for pair in range(3):
        eps = PairDraws(0, pair).normals(5, (2,), torch.float64)
        z = add_noise(x[pair].expand(5, -1), levels, eps)
        r = reference(z, levels)
        e_c, e_u = oracle(z, levels, {"y": cond["y"][pair].expand(5, -1)}), oracle(z, levels)
        expected = (e_c - r).square().sum(1) - (e_u - r).square().sum(1)
        torch.testing.assert_close(one.values[pair, 0], expected)


def test_outside_survives_a_file(gaussian, tmp_path):
    oracle, x, cond = gaussian
    found = MINDE(1.5)(oracle, x[:4], {"y": cond["y"][:4]})
    back = Estimate.load(found.save(tmp_path / "e.safetensors"))
    assert back.integrand == OutsideNorm(1.5)
    assert torch.equal(back.nats, found.nats)


def test_minde_j_equals_c():
    cov = joint(0.8, 0.3)
    network = VectorNetwork({"x": 2, "y": 2}, cov)
    pairs = draw(cov, 1200).float()
    x, y = pairs[:, :2], pairs[:, 2:]
    truth = -0.5 * (math.log(1 - 0.64) + math.log(1 - 0.09))
    c = MINDE(draws=2)(network.view("x"), x, {"y": y}).mean()
    for sigma in (None, 1.0):
        j = MINDE(sigma, draws=2)(network.crossed("x", "y"), pairs, {"x": x, "y": y}).mean()
        assert abs(j.value - truth) < 4 * j.stderr + 0.01
        assert abs(j.value - c.value) < 4 * math.hypot(c.stderr, j.stderr)
        assert j.stderr < 0.05


# ---- entropy, KL, interaction ----


@pytest.mark.parametrize("form", ["gap", "orthogonal"])
def test_entropy_of_gaussians(gaussian, form):
    oracle, _, _ = gaussian
    cov = torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=torch.float64)
    both = torch.block_diag(cov, torch.ones(1, 1, dtype=torch.float64))
    both[0, 2] = both[2, 0] = 0.6
    oracle = GaussianDenoiser(both, 2)
    pairs = draw(both, 3000)
    estimator = EntropyEstimator(form, sigma=1.3, quadrature=Trapezoid(96))
    alone = estimator(oracle, pairs[:, :2], logsnr_range=RANGE)
    truth = gaussian_entropy(cov)
    assert abs(alone.mean().value - truth) < 4 * alone.mean().stderr + 2e-3
    given = estimator(oracle, pairs[:, :2], {"y": pairs[:, 2:]}, logsnr_range=RANGE)
    rest = cov - torch.outer(both[:2, 2], both[:2, 2])
    assert abs(given.mean().value - gaussian_entropy(rest)) < 4 * given.mean().stderr + 2e-3
    assert alone.mean().stderr < 0.06


def test_pointwise_entropy_is_minus_log_density(gaussian):
    oracle, x, _ = gaussian
    few = x[:20]
    found = EntropyEstimator("gap", quadrature=Trapezoid(128), draws=40)(oracle, few, logsnr_range=RANGE)
    exact = few.square().sum(1) / 2 + math.log(2 * math.pi)
    assert bool(((found.nats - exact).abs() < 4.5 * found.stderr + 0.02).all())
    assert float(found.stderr.max()) < 0.5


def test_kl_of_two_gaussians():
    """KL(N(0, S) || N(0, T)) in closed form; the other direction differs."""
    s = torch.tensor([[1.0, 0.4], [0.4, 0.8]], dtype=torch.float64)
    t = torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64)

    def exact(one, other):
        inverse = torch.linalg.inv(other)
        return 0.5 * float((inverse @ one).trace() - 2 + torch.logdet(other) - torch.logdet(one))

    def model(cov):
        return GaussianDenoiser(torch.block_diag(cov, torch.ones(1, 1, dtype=torch.float64)), 2)

    for one, other in ((s, t), (t, s)):
        for form in ("gap", "orthogonal"):
            estimator = MMG(form, StratifiedUniform(64), 2)
            found = kl_divergence(model(one), model(other), draw(one, 1500), estimator=estimator, logsnr_range=RANGE)
            assert abs(found.mean().value - exact(one, other)) < 4 * found.mean().stderr + 2e-3
            assert found.mean().stderr < 0.05
    assert abs(exact(s, t) - exact(t, s)) > 0.05
    assert kl_divergence(model(s), model(s), draw(s, 10), logsnr_range=RANGE).mean().value == 0.0


def test_interaction_of_a_and_two_noisy_copies():
    """A, A + N1, A + N2: positive, the copies share what they know of A."""
    cov = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.5, 1.0], [1.0, 1.0, 1.8]], dtype=torch.float64)
    network = VectorNetwork({"a": 1, "b": 1, "c": 1}, cov)
    values = draw(cov, 2000).float()
    found = interaction_information(
        network.view("a"),
        values[:, :1],
        {"b": values[:, 1:2]},
        {"c": values[:, 2:]},
        estimator=MMG("gap", Trapezoid(64)),
    )

    def h(*index):
        rows = torch.tensor(index)
        return gaussian_entropy(cov[rows][:, rows])

    truth = (h(0) + h(1) - h(0, 1)) - (h(0, 2) + h(1, 2) - h(2) - h(0, 1, 2))
    value, stderr = found.mean()
    assert abs(value - truth) < 4 * stderr + 2e-3
    assert truth > 0.2 > 4 * stderr


def test_versus_keeps_to_what_both_know(gaussian):
    oracle, _, _ = gaussian
    network = VectorNetwork({"x": 2}, torch.eye(2), logsnr_range=(-5.0, 5.0))
    assert TwoDenoisers(oracle, network.view("x")).logsnr_range == (-5.0, 5.0)


# ---- what version 0.1 measured entropies by, and words, ids and ranges of divergences ----


def test_the_entropy_estimator_warns_and_counts_rows_of_the_network(gaussian):
    oracle, x, _ = gaussian
    with pytest.warns(DeprecationWarning, match="use Density"):
        run = EntropyEstimator("gap", quadrature=StratifiedUniform(16))
    assert run(oracle, x[:50], logsnr_range=RANGE).ratio.evaluations == 800
    for cond in ([], 0, "", False, torch.zeros(1), torch.zeros(50)):
        with pytest.raises(TypeError, match="cond is a"):
            run(oracle, x[:50], cond, logsnr_range=RANGE)
    with pytest.raises(ValueError, match="which holds nothing; expected None for the marginal"):
        run(oracle, x[:50], {}, logsnr_range=RANGE)
    assert len(repr(run(oracle, x[:50], logsnr_range=RANGE))) < 100
    grad = run(oracle, x[:5].clone().requires_grad_(), logsnr_range=RANGE)
    assert not grad.nats.requires_grad
    assert torch.equal(grad.nats, run(oracle, x[:5], logsnr_range=RANGE).nats)
    shifted = run(GaussianDenoiser(2 * torch.eye(3).double(), 2), x[:200], logsnr_range=RANGE)
    assert any("does not denoise x as draws of its own law" in text for text in shifted.warnings())
    assert not any("conditional" in text for text in shifted.warnings())


@pytest.mark.filterwarnings("ignore:EntropyEstimator")
@pytest.mark.parametrize(("sigma", "end"), [(0.01, "7.07"), (100.0, "-5.36")])
def test_an_entropy_cut_short_speaks_of_its_reference(gaussian, sigma, end):
    """Of N(0, 1) against a reference far too narrow, or too wide: there is no y."""
    _, x, _ = gaussian
    unit = GaussianDenoiser(torch.eye(3).double(), 2)
    said = EntropyEstimator(sigma=sigma)(unit, x[:50], logsnr_range=(-5.36, 7.07)).warnings()
    assert any(f"not decayed at log-SNR {end}" in text and "reference" in text for text in said)
    assert not any(" y " in text for text in said)


def test_divergences_in_parts_and_of_ranges_that_do_not_meet(gaussian):
    oracle, x, _ = gaussian
    other = GaussianDenoiser(2 * torch.eye(3).double(), 2)

    def measure(ids):
        return kl_divergence(oracle, other, x[ids], pair_ids=ids, logsnr_range=RANGE)

    whole, halves = measure(torch.arange(8)), [measure(ids) for ids in torch.arange(8).split(4)]
    torch.testing.assert_close(Estimate.merge(halves).nats, whole.nats, rtol=1e-9, atol=1e-12)
    low, high = (VectorNetwork({"x": 2}, torch.eye(2), logsnr_range=ends).view("x") for ends in ((-5, 0), (1, 5)))
    with pytest.raises(ValueError, match=r"1\.000 to 5\.000 and the other -5\.000 to 0\.000.*overlap"):
        kl_divergence(low, high, x)
    wrong = kl_divergence(other, oracle, x[:200], logsnr_range=RANGE)
    assert any("model that x should come from" in text for text in wrong.warnings())
    assert wrong.compares == "models"
