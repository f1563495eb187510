"""Candidate comparison on closed forms, where the exact posterior is known."""

import math

import pytest
import torch

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.denoisers.exact import MixtureDenoiser
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import Trapezoid

NAMES = ("one", "two", "three")


def classify(mixture, count=300, levels=200, low=-8.0, draws=1, prune=0.0, **options):
    denoiser, x, cond = mixture
    candidates = {"label": torch.arange(3)}
    curve = measure_candidates(
        denoiser,
        Pairs.of(x[:count]),
        candidates,
        NoisePath(Trapezoid(levels), draws, prune, (low, 8.0)),
        **options,
    )
    return Classification(curve, NAMES, denoiser.log_weights.exp()), cond["label"][:count]


def exact(denoiser, x):
    return denoiser.log_posterior(x, torch.full((len(x),), 60.0, dtype=torch.float64))


def test_the_path_reaches_the_exact_posterior(mixture):
    """At the clean end the path's posterior is p(label | x) itself, pair by pair, but for its steps."""
    denoiser, x, _ = mixture
    coarse, _ = classify(mixture, levels=100)
    fine, _ = classify(mixture, levels=400)
    truth = exact(denoiser, x[:300])
    errors = [float((c.posterior - truth.exp()).square().mean().sqrt()) for c in (coarse, fine)]
    assert errors[1] < 0.04
    assert errors[1] < 0.7 * errors[0]


def test_bound_and_pointwise_agree_with_the_truth(mixture):
    denoiser, x, _ = mixture
    result, label = classify(mixture, count=1000, levels=150)
    truth = exact(denoiser, x)[torch.arange(1000), label]
    value, stderr = result.bound(label.tolist())
    assert abs(value - float(truth.mean()) - result.entropy) < 0.02
    assert value > 0.3
    assert stderr < 0.05
    pointwise = result.pointwise([NAMES[k] for k in label.tolist()])
    correlation = torch.corrcoef(torch.stack([pointwise, truth - denoiser.log_weights[label]]))[0, 1]
    assert float(correlation) > 0.97
    torch.testing.assert_close(result.posterior.sum(1), torch.ones(1000, dtype=torch.float64))


def test_batches_and_candidates_may_be_cut_anywhere(mixture):
    runs = [classify(mixture, count=9, levels=12, batch_size=b)[0].log_posterior for b in (1, 2, 7, 500)]
    for other in runs[1:]:
        torch.testing.assert_close(runs[0], other, rtol=1e-9, atol=1e-9)


def test_pruning_changes_little_and_saves_much(mixture):
    near, x, cond = mixture
    # The same blobs, further apart: most candidates are soon out of the question.
    far = MixtureDenoiser(near.log_weights.exp(), 4 * near.means, near.variances)
    x = x + 3 * near.means[cond["label"]]
    whole, _ = classify((far, x, cond), count=200, levels=100)
    pruned, _ = classify((far, x, cond), count=200, levels=100, prune=1e-4)
    torch.testing.assert_close(pruned.posterior, whole.posterior, rtol=0, atol=2e-3)
    assert pruned.curve.evaluations < 0.8 * whole.curve.evaluations
    assert whole.curve.evaluations == 200 * 99 * 3
    with pytest.raises(ValueError, match="below 1 / 3"):
        classify(mixture, count=2, levels=4, prune=0.5)


def test_later_draws_follow_what_is_left_in_play(mixture):
    near, x, cond = mixture
    far = MixtureDenoiser(near.log_weights.exp(), 3 * near.means, near.variances)
    apart = (far, x + 2 * near.means[cond["label"]], cond)
    whole, _ = classify(apart, count=200, levels=60, draws=4)
    pruned, _ = classify(apart, count=200, levels=60, draws=4, prune=1e-6)
    assert whole.curve.evaluations == 4 * 200 * 59 * 3
    one, _ = classify(apart, count=200, levels=60, prune=1e-6)
    torch.testing.assert_close(pruned.curve.score[:, :1], one.curve.score)
    # The first draw follows more than one candidate at the noisy end, later ones mostly the one that is left.
    assert pruned.curve.evaluations < 0.75 * 4 * one.curve.evaluations
    torch.testing.assert_close(pruned.posterior, whole.posterior, rtol=0, atol=2e-3)
    known = exact(far, apart[1][:200]).exp()
    error, single = (float((c.posterior - known).square().mean().sqrt()) for c in (pruned, one))
    assert error < 0.8 * single
    batches = [classify(apart, count=9, levels=12, draws=3, prune=1e-3, batch_size=b)[0].curve for b in (1, 7, 500)]
    for other in batches[1:]:
        torch.testing.assert_close(batches[0].score, other.score, rtol=1e-9, atol=1e-9)


def test_no_single_path_rules_out_the_true_candidate(mixture):
    """Where its posterior dips along the first path, the second path follows it from the start, and finds it again."""
    floor = 0.1
    whole, label = classify(mixture, count=1000, levels=60, draws=4)
    pruned, _ = classify(mixture, count=1000, levels=60, draws=4, prune=floor)
    pair = torch.arange(1000)
    first = torch.log_softmax(pruned.prior.log() + pruned.curve.score[:, 0].sum(1), 1)[pair, label].exp()
    dipped = (first < floor) & (whole.posterior[pair, label] > 3 * floor)
    assert int(dipped.sum()) >= 10
    torch.testing.assert_close(pruned.curve.score[:, :2, 0], whole.curve.score[:, :2, 0])  # both start with all
    lost = (whole.log_posterior - pruned.log_posterior)[pair, label][dipped]
    # 1.4 where the first path alone may rule a candidate out.
    assert float(lost.mean()) < 1.0
    assert pruned.curve.evaluations < 0.5 * whole.curve.evaluations


def test_calibration_on_pairs_without_error_stays_finite(mixture):
    result, _ = classify(mixture, count=40, levels=50)
    told_right = result.log_posterior.argmax(1).tolist()
    found = result.calibrate(told_right, edges=(-2.0, 0.0, 2.0))
    assert all(0.2 < trust < 6 for trust in found.trust)


def test_calibration_finds_a_bias(mixture):
    result, label = classify(mixture, count=1000, levels=100)
    curve = result.curve
    tilt = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
    tilted = type(curve)(curve.score + tilt / curve.score.shape[2], curve.logsnr, curve.pair_ids, curve.evaluations)
    biased = Classification(tilted, NAMES, result.prior)
    known, fresh = label[:500].tolist(), label[500:].tolist()
    part = Classification(type(curve)(tilted.score[:500], curve.logsnr, curve.pair_ids[:500], 0), NAMES, result.prior)
    rest = Classification(type(curve)(tilted.score[500:], curve.logsnr, curve.pair_ids[500:], 0), NAMES, result.prior)
    found = part.calibrate(known, parts={"label": NAMES})
    lean = torch.tensor(found.bias) + tilt * found.trust[0]
    assert float((lean - lean.mean()).abs().max()) < 0.5
    assert (
        rest.calibrated(found).bound(fresh).value > rest.calibrated(part.calibrate(known, ())).bound(fresh).value + 0.05
    )
    with pytest.raises(ValueError, match="part 'label' has 2 labels for 3 candidates"):
        biased.calibrate(label.tolist(), parts={"label": NAMES[:2]})


def test_calibration_finds_the_scale_of_overconfident_scores(mixture):
    result, label = classify(mixture, count=1000, levels=100)
    curve = result.curve
    loud = type(curve)(3.0 * curve.score, curve.logsnr, curve.pair_ids, curve.evaluations)
    overconfident = Classification(loud, NAMES, result.prior)
    fitted = overconfident.calibrate(label.tolist(), edges=())
    honest = result.calibrate(label.tolist(), edges=()).temperature
    assert honest == pytest.approx(1.0, abs=0.25)
    assert fitted.temperature == pytest.approx(3.0 * honest, rel=0.05)
    mended = overconfident.calibrated(fitted)
    assert mended.bound(label.tolist()).value > overconfident.bound(label.tolist()).value
    bands = overconfident.calibrate(label.tolist(), edges=(-2.0, 0.0, 2.0))
    assert len(bands.trust) == 4
    assert overconfident.calibrated(bands).bound(label.tolist()).value >= mended.bound(label.tolist()).value - 2e-3


def test_the_error_of_a_bound_from_one_pair_is_unknown_and_not_zero(mixture):
    result, label = classify(mixture, count=1, levels=20)
    bound = result.bound(label.tolist())
    assert math.isfinite(bound.value)
    assert math.isnan(bound.stderr)
    assert str(bound).endswith("nats, its error unknown")


def test_a_candidate_bound_never_exceeds_the_entropy(mixture):
    result, label = classify(mixture, count=200, levels=50)
    assert result.bound(label.tolist()).value <= result.entropy
    certain = Classification(
        type(result.curve)(1000 * result.curve.score, result.curve.logsnr, result.curve.pair_ids, 0),
        NAMES,
        result.prior,
    )
    assert certain.bound(certain.log_posterior.argmax(1).tolist()).value == pytest.approx(result.entropy)
