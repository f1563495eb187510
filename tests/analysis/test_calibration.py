"""Trust in bands of evidence: fitted on other pairs, 0 where evidence misleads, 1 where it is calibrated, and a bound that stays one."""

import math

import pytest
import torch

from mmg_diffusers.analysis.calibration import cross_fitted, even_edges, fit_trust, in_bands, posterior_of
from mmg_diffusers.analysis.reliability import Reliability
from mmg_diffusers.commands.studies.honest.judged import by_its_law, posteriors, three_errors
from mmg_diffusers.commands.studies.honest.settings import filtered
from mmg_diffusers.commands.studies.honest.worlds import Labels
from mmg_diffusers.denoisers.base import Denoiser

TEN = math.log(10)


def evidence(pairs, scales, noise, seed):
    """Evidence of bands about ten candidates: what is true, times a scale, and noise that tells nothing."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(10, (pairs,), generator=generator)
    bands = []
    for scale, sigma in zip(scales, noise, strict=True):
        # Log-likelihoods of unit normals about 1 for the true candidate and 0 for others.
        seen = torch.randn(pairs, 10, generator=generator, dtype=torch.float64)
        seen[torch.arange(pairs), truth] += 1.5
        bands.append(scale * 1.5 * seen + sigma * torch.randn(pairs, 10, generator=generator, dtype=torch.float64))
    return torch.stack(bands, 1), torch.full((pairs, 10), -TEN, dtype=torch.float64), truth


class Misled(Denoiser):
    """Errs above a level, otherwise for every label."""

    def __init__(self, exact, above, size):
        super().__init__()
        self.exact, self.above, self.logsnr_range = exact, above, exact.logsnr_range
        self.weights = torch.randn(size, size, generator=torch.Generator().manual_seed(9)) / size**0.5

    def forward(self, z, logsnr, cond=None):
        right = self.exact(z, logsnr, cond)
        if cond is None:
            return right
        phase = 1.7 * cond["label"][:, None]
        return right + 0.5 * torch.sigmoid(4 * (logsnr[:, None] - self.above)) * (3 * z @ self.weights + phase).sin()


def bound(log_q, truth):
    chosen = log_q[torch.arange(len(truth)), truth] + TEN
    return float(chosen.mean()), float(chosen.std()) / len(chosen) ** 0.5


def test_trust_is_one_over_the_scale_and_zero_where_evidence_misleads():
    bands, log_prior, truth = evidence(20_000, (1.0, 2.0, -1.0), (0.0, 0.0, 0.0), 1)
    trust = fit_trust(bands, log_prior, truth)
    assert trust[:2].tolist() == pytest.approx([1.0, 0.5], abs=0.03)
    assert float(trust[2]) == 0.0


def test_calibrated_evidence_is_left_as_it_is():
    bands, log_prior, truth = evidence(64, (1.0, 1.0, 1.0, 1.0), (0.0,) * 4, 2)
    assert bool((cross_fitted(bands, log_prior, truth) == 1).all())
    # As are few pairs, of whatever evidence.
    bold, log_prior, truth = evidence(19, (9.0,), (0.0,), 3)
    assert bool((cross_fitted(bold, log_prior, truth) == 1).all())
    assert not bool((cross_fitted(*evidence(20, (9.0,), (0.0,), 3)) == 1).any())


def test_the_bound_is_better_and_stays_a_bound_when_it_is_fitted_on_other_pairs():
    """In the mean over data sets it is below the information; fitted and read on the same pairs it would not be."""
    exact_bands, log_prior, truth = evidence(200_000, (1.0, 1.0), (0.0, 0.0), 4)
    information, _ = bound(posterior_of(exact_bands, log_prior, torch.ones(2)), truth)
    read, same, raw = [], [], []
    for seed in range(120):
        bands, log_prior, truth = evidence(40, (2.0, 0.6, 0.0, 0.0), (0.0, 0.0, 6.0, 6.0), 10 + seed)
        read.append(bound(posterior_of(bands, log_prior, cross_fitted(bands, log_prior, truth)), truth)[0])
        same.append(bound(posterior_of(bands, log_prior, fit_trust(bands, log_prior, truth)), truth)[0])
        raw.append(bound(posterior_of(bands, log_prior, torch.ones(4)), truth)[0])
    mean, error = torch.tensor(read).mean(), torch.tensor(read).std() / len(read) ** 0.5
    assert float(mean) < information + 3 * float(error)
    assert float(torch.tensor(raw).mean()) < 0 < float(mean)
    more = torch.tensor(same) - torch.tensor(read)
    assert float(more.mean()) > 5 * float(more.std()) / len(read) ** 0.5


def test_slots_without_a_candidate_have_no_say():
    bands, log_prior, truth = evidence(64, (2.0,), (0.0,), 5)
    padded = torch.cat([bands, torch.full((64, 1, 2), 50.0, dtype=torch.float64)], 2)
    prior = torch.cat([log_prior, torch.full((64, 2), -torch.inf, dtype=torch.float64)], 1)
    assert torch.allclose(cross_fitted(padded, prior, truth), cross_fitted(bands, log_prior, truth))


def test_a_filter_reads_the_evidence_that_other_pairs_vouch_for():
    world = Labels(10, 32, 0.35, seed=6)
    sample = world.sample(200, 7)
    exact = filtered(world.exact(), sample, 10)
    assert bool((exact.trust == 1).all())
    assert exact.mean().value == pytest.approx(float(exact.nats.mean()), abs=1e-12)
    wrong = filtered(Misled(world.exact(), 4.5, 32), sample, 10)
    # By itself the path is misled at its clean end; the last band is left out, and nearly all is there.
    assert float(wrong.nats.mean()) < exact.mean().value - 1
    assert float(wrong.trust[:, -1].max()) < 0.1
    assert wrong.mean().value > exact.mean().value - 0.15
    assert wrong.mean().value < float(sample.truth.mean()) + 3 * wrong.mean().stderr
    assert "calibration" not in wrong.verdict.about


def test_bands_add_up_to_the_whole():
    score = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = torch.linspace(-3, 2, 6, dtype=torch.float64)
    bands = in_bands(score, levels, even_edges(-3.0, 3.0, 3))
    assert bands.shape == (3, 3, 4)
    assert torch.allclose(bands.sum(1), score.sum(1))
    assert torch.allclose(bands[:, 0], score[:, :2].sum(1))


def test_the_test_of_calibration_keeps_its_level_and_has_power_at_fifty_pairs():
    generator = torch.Generator().manual_seed(1)
    alarms = sum(by_its_law(*posteriors(50, 1.0, generator)) for _ in range(400))
    # 0.5 % of 400, and three standard errors.
    assert alarms <= 2 + 3 * 2**0.5
    bold = [posteriors(50, 2.0, generator) for _ in range(100)]
    found, before = sum(by_its_law(*one) for one in bold), sum(three_errors(*one) for one in bold)
    assert found > 60
    assert before < found / 3


def test_a_posterior_that_was_sure_and_wrong_once_is_found():
    log_q = torch.log_softmax(torch.tensor([[12.0, 0.0, 0.0]] * 50, dtype=torch.float64), 1)
    truth = torch.zeros(50, dtype=torch.int64)
    assert Reliability.of(log_q, truth).finding(1.1) is None
    truth[7] = 1
    once = Reliability.of(log_q, truth)
    assert once.chance < 0.005
    # 12 nats in one of 50 pairs: the spread over pairs says nothing.
    assert once.claimed.value == pytest.approx(12 / 50, rel=0.01)
    assert once.claimed.value < 3 * once.claimed.stderr
    said = once.finding(1.1)
    assert said is not None
    assert said.about == "calibration"
