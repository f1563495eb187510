"""Laws whose density is known, held against sums over all values, quadrature, and the exact denoisers in torch."""

import itertools
import math

import numpy as np
import pytest
import torch

from mmg_diffusers.denoisers import ExactDenoiser, GaussianDenoiser, MixtureDenoiser, add_noise
from mmg_diffusers.worlds.densities import GaussianMixture, Ising, LevelMixture, Moved
from mmg_diffusers.worlds.tasks import density_tasks, get_density_task, get_task

NOISE = [-10.0, -2.0, 0.0, 2.0, 6.0, 14.0]  # log-SNR


def everything(law):
    """All values of a law of levels, `(levels^d, *shape)`."""
    low, high, count = law.levels
    values = np.linspace(low, high, count)
    return np.array(list(itertools.product(values, repeat=math.prod(law.shape)))).reshape(-1, *law.shape)


def noisy(law, n, logsnr, seed):
    rng = np.random.default_rng(seed)
    x, sd = law.draw(n, rng), np.full(n, math.exp(-logsnr / 2))
    return x + sd.reshape(-1, *(1,) * len(law.shape)) * rng.standard_normal(x.shape), sd


def mean_by_brute_force(law, observed, sd):
    x = everything(law)
    flat = x.reshape(len(x), -1)
    square = np.square(observed.reshape(len(observed), 1, -1) - flat).sum(2)
    log_weight = law.log_prob(x) - square / (2 * sd[:, None] ** 2)
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    return (weight / weight.sum(1, keepdims=True) @ flat).reshape(observed.shape)


# Ising models.

SIZES = [(3, 3, 0.4), (2, 4, -0.7), (4, 2, 1.5), (1, 5, 0.3), (5, 1, 0.3), (3, 3, 0.0)]


@pytest.mark.parametrize(("rows", "columns", "coupling"), SIZES)
def test_ising_agrees_with_a_sum_over_all_pictures(rows, columns, coupling):
    law = Ising(rows, columns, coupling)
    log_prob = law.log_prob(everything(law))
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-12)
    assert law.entropy == pytest.approx(-(np.exp(log_prob) @ log_prob), abs=1e-12)
    for seed, logsnr in enumerate(NOISE):
        observed, sd = noisy(law, 20, logsnr, seed)
        expected = mean_by_brute_force(law, observed, sd)
        np.testing.assert_allclose(law.posterior_mean(observed, sd), expected, atol=1e-12)


def test_ising_draws_have_its_law():
    law = Ising(3, 3, 0.4)
    x = law.draw(100_000, np.random.default_rng(1))
    assert x.shape == (100_000, 1, 3, 3)
    code = ((x.reshape(-1, 9) > 0) @ (1 << np.arange(9)[::-1])).astype(int)
    expected = 100_000 * np.exp(law.log_prob(everything(law)))
    square = ((np.bincount(code, minlength=512) - expected) ** 2 / expected).sum()
    assert abs(square - 511) < 4 * math.sqrt(2 * 511)  # chi-square
    surprise = -law.log_prob(x)
    assert abs(surprise.mean() - law.entropy) < 4 * surprise.std() / math.sqrt(len(x))


def test_ising_entropies_that_are_known():
    assert Ising(4, 4, 0.4).entropy == pytest.approx(8.6634, abs=1e-4)
    assert Ising(8, 8, 0.4).entropy == pytest.approx(31.80, abs=5e-3)
    assert Ising(8, 8, 0.0).entropy == pytest.approx(64 * math.log(2), abs=1e-10)
    assert Ising(6, 8, 0.4).entropy == pytest.approx(Ising(8, 6, 0.4).entropy, abs=1e-10)


def test_ising_partition_sum_is_onsagers_in_the_limit():
    # Two more rows and columns add log Z per spin of the infinite plane, up to edges and corners that cancel.
    beta = 0.4
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    angle = (np.arange(20_000) + 0.5) / 20_000 * math.pi
    plane = math.log(2 * math.cosh(2 * beta)) + np.log((1 + np.sqrt(1 - (k * np.sin(angle)) ** 2)) / 2).mean() / 2
    size = {n: Ising(30, n, beta).log_partition - Ising(29, n, beta).log_partition for n in (11, 12)}
    assert size[12] - size[11] == pytest.approx(plane, abs=2e-3)


# Levels.


def small_levels(dim=3, levels=5, seed=3):
    rng = np.random.default_rng(seed)
    return LevelMixture(np.array([0.5, 0.2, 0.3]), rng.random((3, dim, levels)) ** 3 + 1e-6, -1.0, 2.0)


def test_levels_agree_with_a_sum_over_all_values():
    law = small_levels()
    x = everything(law)
    assert np.exp(law.log_prob(x)).sum() == pytest.approx(1, abs=1e-12)
    for label in range(3):
        assert np.exp(law.log_prob(x, np.full(len(x), label))).sum() == pytest.approx(1, abs=1e-12)
    for seed, logsnr in enumerate(NOISE):
        observed, sd = noisy(law, 20, logsnr, seed)
        np.testing.assert_allclose(law.posterior_mean(observed, sd), mean_by_brute_force(law, observed, sd), atol=1e-12)
        alone = LevelMixture(np.ones(1), law.probabilities[1:2], -1.0, 2.0)
        given = law.posterior_mean(observed, sd, np.ones(20, dtype=int))
        np.testing.assert_allclose(given, mean_by_brute_force(alone, observed, sd), atol=1e-12)


def test_draws_of_levels_have_their_law():
    law = small_levels(dim=2)
    x, label = law.draw_labelled(60_000, np.random.default_rng(2))
    assert abs((label == 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(60_000)
    values, count = np.unique(x, axis=0, return_counts=True)
    expected = 60_000 * np.exp(law.log_prob(values))
    assert len(values) == 25
    assert abs(((count - expected) ** 2 / expected).sum() - 24) < 4 * math.sqrt(2 * 24)
    np.testing.assert_array_equal(x, law.draw(60_000, np.random.default_rng(2)))


def test_levels_of_normals_can_be_told_at_any_noise():
    law = get_density_task("levels-16-256").law
    x = law.draw(50, np.random.default_rng(0))
    assert law.levels == (-1, 1, 256)
    for logsnr in NOISE:
        mean = law.posterior_mean(x, np.full(50, math.exp(-logsnr / 2)))
        assert np.isfinite(mean).all()
        assert np.abs(mean).max() <= 1
    np.testing.assert_allclose(law.posterior_mean(x, np.full(50, 1e-4)), x, atol=1e-12)


# Mixtures.


def test_a_mixture_integrates_to_one():
    law = GaussianMixture(np.array([1.0, 3.0]), np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([0.3, 0.8]))
    axis = np.arange(-8, 8, 0.02)
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    for moved in (law, Moved(law, 0.5, np.array([1.0, -2.0]), np.array([[0.6, 0.8], [-0.8, 0.6]]))):
        for label in (None, np.zeros(len(x), dtype=int)):
            assert np.exp(moved.log_prob(x, label)).sum() * 0.02**2 == pytest.approx(1, abs=1e-9)


def of_torch(law):
    as_tensor = torch.from_numpy
    return MixtureDenoiser(as_tensor(law.weights), as_tensor(law.means), as_tensor(law.sds**2))


@pytest.mark.parametrize("shape", [(2,), (64,), (3, 4, 5)])
def test_a_mixture_agrees_with_the_denoiser_that_was_there(shape):
    rng = np.random.default_rng(4)
    law = GaussianMixture(rng.random(4) + 0.1, rng.standard_normal((4, *shape)), rng.random(4) + 0.1)
    exact, other = ExactDenoiser(law), of_torch(law)
    x, label = law.draw_labelled(30, rng)
    logsnr = torch.linspace(-12, 14, 30, dtype=torch.float64)
    z = add_noise(torch.from_numpy(x), logsnr, torch.from_numpy(rng.standard_normal(x.shape)))
    cond = {"label": torch.from_numpy(label)}
    for given in (None, cond):
        torch.testing.assert_close(exact(z, logsnr, given), other(z, logsnr, given), atol=1e-9, rtol=0)
    # log p(label | x) is Bayes' rule of the two densities.
    posterior = other.log_posterior(torch.from_numpy(x), torch.full((30,), 60.0, dtype=torch.float64)).numpy()
    bayes = np.log(law.weights[label]) + law.log_prob(x, label) - law.log_prob(x)
    np.testing.assert_allclose(posterior[np.arange(30), label], bayes, atol=1e-6)


def test_one_component_is_a_normal_law():
    law = GaussianMixture(np.ones(1), np.array([[1.0, 2.0, 3.0]]), np.array([0.5]))
    assert law.entropy == pytest.approx(1.5 * math.log(2 * math.pi * math.e * 0.25))
    assert Moved(law, scale=2.0).entropy == pytest.approx(law.entropy + 3 * math.log(2))
    surprise = -law.log_prob(law.draw(20_000, np.random.default_rng(0)))
    assert abs(surprise.mean() - law.entropy) < 4 * surprise.std() / math.sqrt(20_000)
    covariance = torch.block_diag(0.25 * torch.eye(3), torch.eye(1))
    other = GaussianDenoiser(covariance, 3, mean=torch.tensor([1.0, 2.0, 3.0, 0.0]))
    z, logsnr = torch.randn(10, 3, dtype=torch.float64), torch.linspace(-5, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(ExactDenoiser(law)(z, logsnr), other(z, logsnr))


@pytest.mark.parametrize("dim", [2, 16, 64])
def test_a_law_in_other_coordinates_is_the_same_law(dim):
    """A mixture that is turned, scaled and shifted is the mixture of turned, scaled and shifted components."""
    moved = get_density_task(f"moved-mixture-{dim}").law
    inner = moved.law
    means = 3 * inner.means @ moved.rotation.T + 5
    plain = GaussianMixture(inner.weights, means, 3 * inner.sds)
    x, label = moved.draw_labelled(40, np.random.default_rng(5))
    np.testing.assert_allclose(moved.log_prob(x), plain.log_prob(x), atol=1e-9)
    np.testing.assert_allclose(moved.log_prob(x, label), plain.log_prob(x, label), atol=1e-9)
    for logsnr in NOISE:
        observed, sd = noisy(moved, 10, logsnr, 6)
        np.testing.assert_allclose(moved.posterior_mean(observed, sd), plain.posterior_mean(observed, sd), atol=1e-8)


def test_pictures_in_noise():
    task = get_density_task("template-images-24-0.2")
    x, label = task.sample_labelled(200, seed=1)
    assert x.shape == (200, 3, 32, 32)
    # The pictures differ by far more than the noise, so that each tells which one it is.
    information = task.law.log_prob(x, label) - task.law.log_prob(x)
    np.testing.assert_allclose(information, math.log(24), atol=1e-6)
    entropy = math.log(24) + 3072 / 2 * math.log(2 * math.pi * math.e * 0.04)
    surprise = -task.law.log_prob(x)
    assert abs(surprise.mean() - entropy) < 4 * surprise.std() / math.sqrt(200)


# The tasks and the denoiser.


@pytest.mark.parametrize("key", density_tasks())
def test_tasks_have_what_they_say(key):
    task = get_density_task(key)
    law, x = task.law, task.sample(20, seed=0)
    assert task.key == key
    assert x.shape == (20, *law.shape)
    np.testing.assert_array_equal(x, task.sample(20, seed=0))
    assert np.isfinite(law.log_prob(x)).all()
    if law.labels:
        labelled = task.sample_labelled(20, seed=0)
        np.testing.assert_array_equal(labelled.x, x)
        assert np.isfinite(law.log_prob(x, labelled.label)).all()
    z = torch.from_numpy(x).float()
    eps = ExactDenoiser(law)(z, torch.zeros(20, dtype=torch.float64))
    assert (eps.dtype, eps.shape) == (torch.float32, z.shape)


@pytest.mark.parametrize("key", ["mixture-8", "moved-mixture-2", "ising-4-4-0.4", "levels-4-16"])
def test_an_exact_denoiser_is_orthogonal_to_what_it_is_told(key):
    """The error of a posterior mean has no correlation with anything that is read off the observation."""
    law = get_density_task(key).law
    n = 4000
    x = torch.from_numpy(law.draw(n, np.random.default_rng(7)))
    eps = torch.from_numpy(np.random.default_rng(8).standard_normal(x.shape))
    for logsnr in (-2.0, 1.0, 3.0):
        level = torch.full((n,), logsnr, dtype=torch.float64)
        z = add_noise(x, level, eps)
        found = ExactDenoiser(law)(z, level)
        for feature in (torch.ones_like(z), z, z**3, found):
            product = ((eps - found) * feature).flatten(1).sum(1)
            assert abs(float(product.mean())) < 4 * float(product.std()) / math.sqrt(n)


# What is refused.


def test_what_is_refused():
    x = np.zeros((2, 1, 3, 3))
    law, mixture = Ising(3, 3, 0.4), GaussianMixture(np.ones(2), np.zeros((2, 3)), np.ones(2))
    for call, kind, text in [
        (lambda: Ising(3, 20, 0.4), ValueError, "columns is 20"),
        (lambda: Ising(0, 3, 0.4), ValueError, "rows is 0"),
        (lambda: Ising(3, 3, math.nan), ValueError, "coupling is nan"),
        (lambda: law.log_prob(x), ValueError, "x holds .*0.0"),
        (lambda: law.log_prob(np.ones((2, 9))), ValueError, r"x has shape \(2, 9\)"),
        (lambda: law.log_prob(np.ones((2, 1, 3, 3)), np.zeros(2, int)), ValueError, "no labels"),
        (lambda: law.draw_labelled(3, np.random.default_rng(0)), ValueError, "no labels"),
        (lambda: GaussianMixture(np.ones(2), np.zeros((3, 2)), np.ones(2)), ValueError, "means"),
        (lambda: GaussianMixture(np.array([1.0, -1]), np.zeros((2, 2)), np.ones(2)), ValueError, "weights"),
        (lambda: GaussianMixture(np.ones(2), np.zeros((2, 2)), np.array([1.0, 0])), ValueError, "deviations"),
        (lambda: GaussianMixture(np.ones(2), [[1.0], [2.0]], np.ones(2)), TypeError, "means is a list"),
        (lambda: mixture.log_prob(np.zeros((2, 3)), np.array([0, 2])), ValueError, "labels run from 0 to 2"),
        (lambda: mixture.log_prob(np.zeros((2, 3)), np.array([0.0, 1.0])), ValueError, "expected 2 integers"),
        (lambda: LevelMixture(np.ones(1), np.ones((1, 2, 1))), ValueError, "two levels or more"),
        (lambda: LevelMixture(np.ones(1), np.zeros((1, 2, 3))), ValueError, "above 0"),
        (lambda: small_levels().log_prob(np.full((1, 3), 0.1)), ValueError, "x holds .*0.1.* 5 levels"),
        (lambda: Moved(mixture, scale=0.0), ValueError, "scale is 0.0"),
        (lambda: Moved(mixture, rotation=np.ones((3, 3))), ValueError, "orthogonal"),
        (lambda: Moved(law), ValueError, "of levels"),
        (lambda: Moved(Ising), TypeError, "the class Ising itself"),
        (lambda: ExactDenoiser(Ising), TypeError, "posterior_mean"),
        (lambda: get_density_task("ising-8-8"), ValueError, "did you mean 'ising-8-8-0.4'"),
        (lambda: get_density_task(3), TypeError, "the key is a int"),
        (lambda: get_task("ising-8-8-0.4"), ValueError, "expected a key of bmi_tasks"),
        (lambda: get_density_task("mixture-2").sample(0, 0), ValueError, "n is 0"),
        (lambda: get_density_task("ising-3-3-0.4").sample_labelled(2, 0), ValueError, "no labels"),
    ]:
        with pytest.raises(kind, match=text):
            call()
    denoiser = ExactDenoiser(mixture)
    with pytest.raises(ValueError, match="'label' alone"):
        denoiser(torch.zeros(2, 3), torch.zeros(2), {"y": torch.zeros(2)})


def test_a_law_of_ones_own_has_an_exact_denoiser():
    class Coin:
        shape = (1,)

        def posterior_mean(self, observed, sd, label=None):
            return np.tanh(observed / np.square(sd)[:, None])

    z, logsnr = torch.randn(50, 1, dtype=torch.float64), torch.linspace(-8, 8, 50, dtype=torch.float64)
    expected = ExactDenoiser(Ising(1, 1, 0.0))(z[..., None, None], logsnr)[..., 0, 0]
    torch.testing.assert_close(ExactDenoiser(Coin())(z, logsnr), expected)
