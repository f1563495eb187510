"""Labels compared by a denoiser of one's own: against closed forms, with a null that is None, and over levels that it knows."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmg_diffusers import MMG, LabelSet, audit_labels, classify, filter_labels, known_range
from mmg_diffusers.commands.studies.honest.worlds import Labels
from mmg_diffusers.denoisers.base import Adapted, Denoiser
from mmg_diffusers.denoisers.check import check_denoiser, foreign, present
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.denoisers.exact import MixtureDenoiser
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath
from mmg_diffusers.measure.quadrature import Trapezoid

WORLD = Labels(5, 12, 0.5, seed=11)
FLOW = RectifiedFlow("flow_prediction", torch.linspace(0.02, 0.98, 200, dtype=torch.float64), 1.0)
PATH = NoisePath(Trapezoid(101))


@pytest.fixture(scope="module")
def sample():
    return WORLD.sample(150, 12)


@pytest.fixture(scope="module")
def wrapped():
    return foreign(WORLD.exact(), FLOW, {"label": torch.zeros(1, dtype=torch.int64)})


def every():
    return present({"label": torch.arange(5)})


def test_labels_of_a_foreign_network_are_told_as_they_can_be(wrapped, sample):
    label = sample.cond["label"]
    found = filter_labels(wrapped, sample.x, every(), label, path=PATH)
    off = found.in_mean().nats - sample.truth
    assert abs(float(off.mean())) < 4 * float(off.std()) / 150**0.5 + 0.01
    assert 0.5 < found.mean().value < math.log(5)
    assert found.verdict.grade == "trust"
    seen = classify(wrapped, sample.x, every(), path=PATH)
    assert torch.allclose(seen.log_posterior, found.log_posterior[:, 0, -1])
    assert seen.bound(label.tolist()).value == pytest.approx(seen.cross_fitted_bound(label.tolist()).value, abs=1e-9)
    audited = audit_labels(wrapped, sample.x, every(), label, path=PATH)
    assert audited.distance.value < 0.03
    assert torch.equal(audited.filtered.nats, found.nats)


def test_a_calibration_is_fitted_on_other_variables(sample):
    other = WORLD.sample(150, 13)
    exact = WORLD.exact()
    bold = MixtureDenoiser(exact.log_weights.exp(), exact.means, exact.variances / 5)
    labels = LabelSet({"label": torch.arange(5)}, tuple("abcde"))
    path = NoisePath(Trapezoid(65), logsnr_range=(-8.0, 8.0))
    raw = classify(bold, sample.x, labels, path=path)
    calibration = classify(bold, other.x, labels, path=path).calibrate(other.cond["label"].tolist())
    truth = sample.cond["label"].tolist()
    fitted = classify(bold, sample.x, labels, path=path, calibration=calibration)
    assert raw.bound(truth).value + 0.1 < fitted.bound(truth).value < float(sample.truth.mean()) + 0.05
    assert raw.bound(truth).value + 0.1 < raw.cross_fitted_bound(truth).value < float(sample.truth.mean()) + 0.05
    assert set(fitted.best) <= set("abcde")


def test_a_prior_is_heeded(sample):
    prior = (0.6, 0.1, 0.1, 0.1, 0.1)
    path = NoisePath(Trapezoid(17), logsnr_range=(-8.0, 8.0))
    made = filter_labels(
        WORLD.exact(), sample.x, LabelSet({"label": torch.arange(5)}, prior=prior), sample.cond["label"], path=path
    )
    assert made.mixture.surprise.unique().tolist() == pytest.approx([-math.log(0.6), -math.log(0.1)])
    assert classify(
        WORLD.exact(), sample.x, LabelSet({"label": torch.arange(5)}, prior=prior), path=path
    ).entropy < math.log(5)


class NoneForNone(nn.Module):
    """Called with label=None for no label, as some networks are; it remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.exact, self.called = WORLD.exact(), []

    def forward(self, noisy, time, label):
        self.called.append(label is None)
        t = time.double()[:, None]
        z = noisy / ((1 - t) ** 2 + t**2).sqrt()
        logsnr = 2 * torch.log((1 - t) / t)[:, 0]
        eps = self.exact(z, logsnr, None if label is None else {"label": label})
        a, s = torch.sigmoid(logsnr).sqrt()[:, None], torch.sigmoid(-logsnr).sqrt()[:, None]
        return eps - (z - s * eps) / a


def test_a_null_may_be_none(sample, wrapped):
    network = NoneForNone()
    denoiser = Adapted(network, FLOW, null={"label": None}, dtype=torch.float64)
    assert denoiser.has_marginal
    check_denoiser(denoiser, sample.x, sample.cond)
    estimator = MMG("gap", Trapezoid(12))
    found = estimator(denoiser, sample.x, sample.cond, entropy=math.log(5))
    assert set(network.called) == {True, False}
    other = estimator(wrapped, sample.x, present(sample.cond))
    assert found.nats.tolist() == pytest.approx(other.nats.tolist(), abs=1e-4)


def test_networks_without_a_null_are_checked_and_compared_but_not_audited(sample):
    class Net(nn.Module):
        def forward(self, noisy, time, label):
            return NoneForNone()(noisy, time, label)

    denoiser = Adapted(Net(), FLOW, dtype=torch.float64)
    checked = check_denoiser(denoiser, sample.x, sample.cond)
    assert bool(checked.error.isnan().all())
    assert bool(checked.conditional.isfinite().all())
    path = NoisePath(Trapezoid(17))
    assert (
        filter_labels(denoiser, sample.x, {"label": torch.arange(5)}, sample.cond["label"], path=path).mean().value
        > 0.5
    )
    with pytest.raises(ValueError, match="no unconditional branch to audit"):
        audit_labels(denoiser, sample.x, {"label": torch.arange(5)}, sample.cond["label"], path=path)
    assert known_range(denoiser, sample.x, sample.cond).note is None
    with pytest.raises(ValueError, match="give cond="):
        known_range(denoiser, sample.x)


class Unseen(Denoiser):
    """Knows its levels but for the clean end, where it predicts x with an error that does not fall."""

    logsnr_range = (-9.0, 11.0)

    def __init__(self, above):
        super().__init__()
        self.exact, self.above = WORLD.exact(), above

    def forward(self, z, logsnr, cond=None):
        right = self.exact(z, logsnr, cond)
        over = torch.exp((logsnr - self.above) / 2).where(logsnr > self.above, 0.0)[:, None]
        phase = 0.0 if cond is None else cond["label"][:, None]
        return right + (over * (3 * z + phase).sin()).to(right)


def test_levels_that_a_network_does_not_know_are_cut_with_a_note(sample):
    denoiser = Unseen(4.0)
    known = known_range(denoiser, sample.x)
    low, high = known.logsnr_range
    assert low == -9.0
    # The levels that are tried are 0.63 apart.
    assert 3.0 < high < 4.7
    assert "above" in known.note
    assert "was cut" in known.note
    assert known.note.about == "range"
    whole = MMG("gap", Trapezoid(40), antithetic=True)(denoiser, sample.x, sample.cond)
    assert "range" in whole.verdict.about
    assert whole.verdict.grade == "don't"
    within = MMG("gap", Trapezoid(40), antithetic=True)(denoiser, sample.x, sample.cond, logsnr_range=(low, high))
    assert within.verdict.grade != "don't"
    off = within.nats - sample.truth
    assert abs(float(off.mean())) < 4 * float(off.std()) / 150**0.5
    # Nothing is cut of what is known, whatever the prediction's error at the noisy end.
    assert known_range(WORLD.exact(), sample.x).note is None
    with pytest.raises(ValueError, match="at all levels"):
        known_range(Unseen(-30.0), sample.x)


class Misled(Denoiser):
    """Errs at the noisy end, for every label in its own way: where nearly all of z is noise, that is evidence of nothing."""

    logsnr_range = (-9.0, 9.0)

    def __init__(self, branches=(True, True), by=0.5):
        super().__init__()
        self.exact, self.erring, self.by = WORLD.exact(), branches, by

    def forward(self, z, logsnr, cond=None):
        right = self.exact(z, logsnr, cond)
        if not self.erring[cond is not None]:
            return right
        there = (logsnr < -4.0)[:, None]
        phase = 0.0 if cond is None else 2.0 * cond["label"][:, None]
        return right + (self.by * there * (3 * z + phase).sin()).to(right)


def test_labels_over_levels_that_a_network_does_not_know_are_warned_of_with_what_mends_it(sample):
    """By default all levels are compared: the posterior is misled, and says so; either remedy reads what there is to be read."""
    denoiser, labels, label = Misled(), {"label": torch.arange(5)}, sample.cond["label"]
    truth, exact = label.tolist(), float(sample.truth.mean())
    raw = classify(denoiser, sample.x, labels)
    assert raw.bound(truth).value < exact - 0.5
    (said,) = raw.warnings()
    assert said.about == "range"
    # At its first level no more can be wrong than chance allows.
    assert re.search(r"log-SNR -[89]\.\d+ to -4\.", said)
    assert "known_range(denoiser, x, cond).logsnr_range" in said
    known = known_range(denoiser, sample.x, sample.cond)
    assert known.logsnr_range[0] > -4.1
    within = classify(denoiser, sample.x, labels, path=NoisePath(logsnr_range=known.logsnr_range))
    assert within.warnings() == ()
    other = WORLD.sample(150, 13)
    calibration = classify(denoiser, other.x, labels).calibrate(other.cond["label"].tolist())
    assert len(calibration.trust) == 4
    assert calibration.trust[0] < 0.1
    ideal = classify(WORLD.exact(), sample.x, labels, path=NoisePath(logsnr_range=(-9.0, 9.0))).bound(truth).value
    for mended in (within, raw.calibrated(calibration)):
        assert mended.bound(truth).value > ideal - 0.15
    filtered = filter_labels(denoiser, sample.x, labels, label)
    assert filtered.mean().value > ideal - 0.15
    for record in (filtered, audit_labels(denoiser, sample.x, labels, label).filtered):
        assert said in record.warnings()
        assert "range" in record.verdict.about
    # Of fewer variables nobody can tell how far they spread, and of levels that are known nothing is said.
    assert classify(denoiser, sample.x[:15], labels).warnings() == ()
    assert classify(WORLD.exact(), sample.x, labels, path=NoisePath(logsnr_range=(-9.0, 9.0))).warnings() == ()


def test_the_branch_that_does_not_know_its_levels_is_named(sample):
    for branches, remedy in (
        ((False, True), "known_range(denoiser, x, cond)"),
        ((True, False), "known_range(denoiser, x)"),
    ):
        out = MMG("gap", Trapezoid(40), antithetic=True)(Misled(branches), sample.x, sample.cond)
        (said,) = [note for note in out.warnings() if "does not know" in note]
        assert remedy in said
        assert said.grade == "don't"
    mended = known_range(Misled((False, True)), sample.x, sample.cond).logsnr_range
    out = MMG("gap", Trapezoid(40), antithetic=True)(Misled((False, True)), sample.x, sample.cond, logsnr_range=mended)
    assert "range" not in out.verdict.about
    off = out.nats - sample.truth
    assert abs(float(off.mean())) < 4 * float(off.std()) / 150**0.5 + 0.02


def test_errors_of_the_mixture_are_kept_with_the_evidence(sample, tmp_path):
    path = NoisePath(Trapezoid(17), draws=2, logsnr_range=(-9.0, 9.0))
    made = classify(WORLD.exact(), sample.x[:20], {"label": torch.arange(5)}, path=path)
    error = made.curve.error
    assert error.shape == (20, 2, 16)
    # Noise is told by nobody where there is nothing but noise, and not at all where there is none.
    assert float(error[..., 0].mean()) < 0.01 * 12
    assert float(error[..., -1].mean()) == pytest.approx(12, rel=0.2)
    read = type(made).load(made.save(tmp_path / "found"))
    assert torch.equal(read.curve.error, error)
    one, other = (replace(made.curve, pair_ids=torch.arange(20) + start) for start in (0, 20))
    assert len(CandidateCurve.merge([one, other]).error) == 40
    assert CandidateCurve.merge([one, replace(other, error=None)]).error is None


class Patchy(Misled):
    """Errs at the noisy end but for the very last levels."""

    def forward(self, z, logsnr, cond=None):
        return self.exact(z, logsnr, cond) if float(logsnr[0]) < -8.0 else super().forward(z, logsnr, cond)


def test_unknown_levels_next_to_an_end_that_is_known_are_cut(sample):
    known = known_range(Patchy(), sample.x)
    assert -4.1 < known.logsnr_range[0] < -3.0
    assert known.logsnr_range[1] == 9.0
    assert "below -3." in known.note
    assert (
        classify(
            Patchy(),
            sample.x,
            {"label": torch.arange(5)},
            path=NoisePath(Trapezoid(17), logsnr_range=known.logsnr_range),
        ).warnings()
        == ()
    )
