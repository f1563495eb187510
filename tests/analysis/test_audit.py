"""The null branch against the mixture of candidates: distances that are Kullback-Leibler divergences."""

import math

import pytest
import torch

from mmg_diffusers import Candidates, load
from mmg_diffusers.analysis import Audit, Filtered
from mmg_diffusers.denoisers.base import TwoDenoisers
from mmg_diffusers.denoisers.exact import GaussianReference, MixtureDenoiser
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.worlds.shapes import Shapes

MEANS = torch.tensor([[-1.5, 0.0], [1.5, 0.5], [0.0, -2.0]], dtype=torch.float64)
VARIANCE, SIGMA = 0.3, 1.6


@pytest.fixture(scope="module")
def pairs():
    label = torch.arange(300) % 3
    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return MEANS[label] + VARIANCE**0.5 * noise, label


def audited(denoiser, pairs, steps=200):
    x, label = pairs
    names = ("a", "b", "c")
    curve = measure_candidates(
        denoiser,
        Pairs.of(x, None),
        {"label": torch.arange(3)},
        NoisePath(Trapezoid(steps + 1), logsnr_range=(-9, 8), null=True),
        truth=label,
    )
    slots = torch.arange(3).expand(len(x), -1)
    prior = torch.full((len(x), 3), 1 / 3, dtype=torch.float64)
    return Audit(Filtered(curve, Mixture(names, slots, prior, label)))


@pytest.fixture(scope="module")
def exact():
    return MixtureDenoiser(torch.full((3,), 1 / 3), MEANS, torch.full((3,), VARIANCE))


def test_a_null_that_is_the_marginal_is_no_distance_away(exact, pairs):
    found = audited(exact, pairs)
    assert found.distance.value < 0.02
    assert abs(found.excess.value) < 4 * found.excess.stderr + 0.01
    assert bool(found.trusted.all())
    assert found.bands() == ((pytest.approx(-9), pytest.approx(float(found.logsnr[-1]))),)
    assert not any("not their marginal" in said for said in found.warnings())


def test_the_distance_of_another_null_is_a_divergence(exact, pairs):
    """Half of the integral of E|e_p - e_q|^2 is KL(p || q): here of the mixture from N(0, sigma^2)."""
    reference = GaussianReference(SIGMA)
    found = audited(TwoDenoisers(reference, exact), pairs)
    x, _ = pairs
    # log p(x) of the mixture, at the same x, so that the pairs' own spread cancels.
    squares = (x[:, None] - MEANS).square().sum(2)
    log_p = torch.logsumexp(-squares / (2 * VARIANCE) - math.log(3) - math.log(2 * math.pi * VARIANCE), 1)
    log_q = -x.square().sum(1) / (2 * SIGMA**2) - math.log(2 * math.pi * SIGMA**2)
    divergence = log_p - log_q
    assert found.distance.value == pytest.approx(
        float(divergence.mean()), abs=0.03 + 4 * float(divergence.std()) / 300**0.5
    )
    # The gap is log p - log q of every x, but for noise.
    assert found.excess.value == pytest.approx(float(divergence.mean()), abs=4 * found.excess.stderr)
    assert found.with_null.value - found.with_mixture.value == pytest.approx(found.excess.value)
    assert "it is not their marginal" in found.warnings()[0]
    assert not bool(found.trusted.all())
    table = found.to_pandas()
    assert (table["trusted"] == (table["distance"] <= 0.05 * table["with_mixture"].max())).mean() > 0.8


def test_files_merging_and_evaluations(exact, pairs, tmp_path):
    x, label = pairs
    whole = audited(exact, (x[:6], label[:6]), steps=5)
    # Three candidates and the null branch, at five steps of six pairs.
    assert whole.filtered.evaluations == 6 * 5 * 4
    again = load(whole.save(tmp_path / "a.safetensors"))
    assert torch.equal(again.nats, whole.nats)
    assert str(again) == str(whole)
    with pytest.raises(ValueError, match="audit=True"):
        Audit(Filtered(without_null(whole.filtered.evidence), whole.filtered.mixture))


def without_null(curve):
    return curve.__class__(
        curve.score, curve.logsnr, curve.pair_ids, curve.evaluations, curve.mixture, curve.innovation
    )


def test_a_pipeline_is_audited(pipe):
    captions = ["a small red circle on the left", "a large blue square on the right"]
    images = list(Shapes("hard").sample(4, 5).images)
    options = {"levels": (-4.0, -1.0, 1.0, 2.0), "prune": 0.0}
    plain = pipe.filter(images, captions * 2, Candidates(captions), **options)
    found = pipe.audit(images, captions * 2, Candidates(captions), **options)
    assert torch.equal(found.filtered.nats, plain.nats)
    assert found.filtered.evaluations == plain.evaluations + 4 * 3
    # 48 captions made the null, and two the mixture.
    assert found.distance.value > 2 * found.distance.stderr > 0
    with pytest.raises(ValueError, match="audit= holds the null branch against a mixture"):
        pipe(images, captions * 2, audit=True)
