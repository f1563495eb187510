"""The posterior filter on a mixture whose posterior is known at every level, and on the shipped model."""

import pytest
import torch

from mmg_diffusers.analysis import Classification
from mmg_diffusers.batches import Pairs
from mmg_diffusers.candidates import NoisePath, measure_candidates
from mmg_diffusers.filtering import Filtered
from mmg_diffusers.quadrature import Trapezoid
from mmg_diffusers.result import Estimate
from mmg_diffusers.shapes import CAPTIONS, Shapes


def filtered(mixture, count=600, levels=150, draws=1, prune=0.0):
    denoiser, x, cond = mixture
    truth = cond["label"][:count]
    curve = measure_candidates(
        denoiser,
        Pairs.of(x[:count]),
        {"label": torch.arange(3)},
        NoisePath(Trapezoid(levels), draws, prune, (-8.0, 8.0)),
        truth=truth,
        prior=denoiser.log_weights.exp(),
    )
    posterior = Classification(curve, ("one", "two", "three"), denoiser.log_weights.exp())
    return Filtered(posterior, truth, Estimate(curve.mixture, "auto"))


def test_three_readings_agree_level_by_level(mixture):
    found = filtered(mixture)
    log_q, entropy, gap = found.by_level[:, :-1], found.entropy_by_level[:, :-1], found.integrated_by_level("gap")
    orthogonal = found.integrated_by_level("orthogonal")
    for level in range(10, 149, 15):
        for other in (entropy, gap, orthogonal):
            difference = log_q[:, level] - other[:, level]
            stderr = float(difference.std()) / len(difference) ** 0.5
            assert abs(float(difference.mean())) < 3 * stderr + 0.01
            assert stderr < 0.08
    assert float(log_q[:, -1].mean()) > 0.3


def test_the_mixture_is_the_marginal(mixture):
    """Along the path the posterior is p(label | z), so the mixture of predictions is the exact marginal prediction."""
    denoiser, x, _ = mixture
    found = filtered(mixture, count=100, levels=300)
    from mmg_diffusers.draws import PairDraws, brownian_path
    from mmg_diffusers.noise import add_noise

    path = brownian_path([PairDraws(0, i) for i in range(100)], found.logsnr, (2,), torch.float64)
    for level, (eps, _) in enumerate(path):
        if level % 60 == 30:
            logsnr = found.logsnr[level].expand(100)
            z = add_noise(x[:100], logsnr, eps)
            exact = denoiser.log_posterior(z, logsnr).exp()
            assert float((found.log_posterior[:, 0, level].exp() - exact).square().mean().sqrt()) < 0.05
            label = {"label": found.truth}
            gap = (eps - denoiser(z, logsnr)).square().sum(1) - (eps - denoiser(z, logsnr, label)).square().sum(1)
            mine = found.against_mixture.curve.gap[:, 0, level]
            assert float((mine - gap).square().mean().sqrt()) < 0.1 * float(gap.std()) + 0.01


def test_the_clean_end_decays(mixture):
    denoiser, x, cond = mixture
    far = type(denoiser)(denoiser.log_weights.exp(), 4 * denoiser.means, denoiser.variances)
    found = filtered((far, x + 3 * denoiser.means[cond["label"]], cond), count=200)
    curve = found.against_mixture.curve.orthogonal.mean((0, 1))
    assert float(curve[-1]) < 0.01 * float(curve.max())
    assert found.settled < 6
    assert found.mean().value < found.posterior.entropy


def test_influence_is_what_is_left(mixture):
    found = filtered(mixture, count=50, levels=40, draws=2)
    over = found.influence()
    torch.testing.assert_close(over.nats[:, 0], found.nats)
    assert torch.equal(over.nats[:, -1], torch.zeros(50, dtype=torch.float64))
    torch.testing.assert_close(over.stderr[:, 0], found.stderr)
    assert float(found.stderr.max()) > 0


def test_pruning_is_bookkept(mixture):
    denoiser, x, cond = mixture
    far = type(denoiser)(denoiser.log_weights.exp(), 4 * denoiser.means, denoiser.variances)
    apart = (far, x + 3 * denoiser.means[cond["label"]], cond)
    whole, pruned = filtered(apart, count=200), filtered(apart, count=200, prune=1e-5)
    assert pruned.posterior.curve.evaluations < 0.8 * whole.posterior.curve.evaluations
    assert abs(pruned.mean().value - whole.mean().value) < 1e-3
    for form in ("gap", "orthogonal"):
        difference = pruned.against_mixture.using(form).mean().value - whole.against_mixture.using(form).mean().value
        assert abs(difference) < 1e-3


def test_bad_truths(mixture):
    denoiser, x, _ = mixture
    for truth in (torch.tensor([0]), torch.tensor([0, 3]), torch.tensor([0, -1])):
        with pytest.raises(ValueError, match="one index below 3"):
            measure_candidates(
                denoiser,
                Pairs.of(x[:2]),
                {"label": torch.arange(3)},
                NoisePath(Trapezoid(4), logsnr_range=(-8.0, 8.0)),
                truth=truth,
            )


def test_the_shipped_model_against_its_candidates(pipe):
    sample = Shapes("soft").sample(6, seed=31)
    candidates = [*dict.fromkeys(sample.prompts), *[c for c in CAPTIONS if c not in sample.prompts][:4]]
    found = pipe.filter(
        list(sample.images), sample.prompts, candidates, levels=10, keep="pixel", logsnr_range=(-5.36, 3.0)
    )
    compared = found.against_mixture
    torch.testing.assert_close(compared.pixel_map()[0].flatten(1).sum(1), compared.using("orthogonal").nats)
    assert found.mean().value < found.posterior.entropy
    same = pipe.classify(list(sample.images), candidates, levels=10, logsnr_range=(-5.36, 3.0))
    torch.testing.assert_close(found.nats, same.pointwise(sample.prompts), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="'a blue moon' is not among"):
        pipe.filter(sample.images[0], "a blue moon", candidates)
