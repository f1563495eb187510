"""The verdict on numbers: what it is made of, that it is kept in files, and that it tells known false numbers from known good ones."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from mmg_diffusers import MMG, Estimate, LabelSet, audit_labels
from mmg_diffusers.commands.studies.honest.settings import error_of, is_right, reported
from mmg_diffusers.commands.studies.honest.worlds import Correlated, Erring, Labels, Sample
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.check import foreign, present
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.measure import OutsideNorm
from mmg_diffusers.measure.judging import imbalance
from mmg_diffusers.measure.measured import told_once
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.verdict import Finding, Verdict, of_network

RANGE = (-8.0, 8.0)


def measured(denoiser, sample, **options):
    return MMG("auto", Trapezoid(32), antithetic=True)(denoiser, sample.x, sample.cond, logsnr_range=RANGE, **options)


@pytest.fixture(scope="module")
def settings():
    return [(setting, setting.measure()) for setting in reported()]


def test_the_settings_are_what_they_are_called(settings):
    for setting, found in settings:
        assert is_right(found) == setting.good, (setting.name, error_of(found))
    assert [setting.good for setting, _ in settings].count(True) == 12 == len(settings) - 12


def test_the_verdict_says_do_not_trust_to_false_numbers_and_not_to_good_ones(settings):
    said = {setting.name: record.verdict.grade for setting, (record, _) in settings}
    false = [said[setting.name] for setting, _ in settings if not setting.good]
    good = [said[setting.name] for setting, _ in settings if setting.good]
    assert false.count("don't") >= 11, said
    assert good.count("don't") <= 1, said
    # Whatever is missed is not vouched for, and most of what is good is, unless it is a network's null that nobody audited.
    assert "trust" not in false, said
    assert good.count("trust") >= 7, said


def test_a_ceiling_vouches_for_no_number_below_it():
    """The exact null of evenly drawn labels on pairs of a skewed law: all identities hold, and what is read is false and below H(Y)."""
    world = Labels(5, 3, 0.7, seed=34)
    prior = torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    label = torch.repeat_interleave(torch.arange(5), (200 * prior).round().long())
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    x = world.means[label] + world.variance**0.5 * noise
    given = -torch.cdist(x, world.means).square() / (2 * world.variance)
    own = given.gather(1, label[:, None])[:, 0]
    truth, even = own - (given + prior.log()).logsumexp(1), own - (given - math.log(5)).logsumexp(1)
    denoiser = foreign(world.exact(), RectifiedFlow.shifted(steps=400), {"label": torch.zeros(1, dtype=torch.int64)})
    sample = Sample(x.float(), present({"label": label}), truth)
    entropy = float(-(prior * prior.log()).sum())
    found = measured(denoiser, sample, entropy=entropy)
    assert found.mean().value == pytest.approx(float(even.mean()), abs=0.1)
    assert 1.3 * float(truth.mean()) + 3 * found.mean().stderr < found.mean().value < entropy
    assert str(found.verdict) == "take with caution (null alone)"
    audit = audit_labels(denoiser, sample.x, LabelSet(present({"label": torch.arange(5)}), prior=prior.tolist()), label)
    assert found.noting(audit.finding).verdict.grade == "don't"
    assert found.noting(audit.finding).verdict.about == ("audit",)


def test_the_worst_finding_decides_and_notes_weigh_nothing():
    plain, worse = Finding("a remark on b", "b"), Finding("c is wrong", "c", "don't")
    assert Verdict().grade == "trust"
    assert str(Verdict()) == "trust"
    assert str(Verdict.of((plain,))) == "take with caution (b)"
    assert str(Verdict.of((plain, worse, worse))) == "don't trust (c)"
    # A text without a grade is a reason for caution, unless it is a note.
    assert Verdict.of(("something",)).grade == "with caution"
    assert Verdict.of(("something",), notes=("something",)).grade == "trust"
    assert Verdict.of((worse,), notes=(worse,)).grade == "don't"
    assert Verdict.of(("a note", plain, worse), notes=("a note",)).told == (worse, plain, "a note")
    with pytest.raises(ValueError, match="the grade of a finding is 'bad'; expected one of 'trust'"):
        Finding("x", "y", "bad")
    for again in (copy.copy(worse), pickle.loads(pickle.dumps(worse))):
        assert (again, again.about, again.grade) == (worse, "c", "don't")


def test_findings_of_notes_are_kept_in_files_and_merged(tmp_path):
    world = Labels(4, 8, 0.5, seed=1)
    made = measured(world.exact(), world.sample(24, 1)).noting(Finding("the null is another", "audit", "don't"), None)
    assert str(made.verdict) == "don't trust (audit)"
    assert str(made).startswith("verdict: don't trust (audit)\n")
    again = Estimate.load(made.save(tmp_path / "e.safetensors"))
    assert str(again) == str(made)
    other = measured(world.exact(), world.sample(24, 2), pair_ids=torch.arange(100, 124)).noting(*made.notes)
    assert str(Estimate.merge([made, other]).verdict) == "don't trust (audit)"


def test_what_chunks_say_of_levels_is_said_once():
    def of(levels, grade="don't", about="range"):
        return Finding(f"at {levels} of 33 levels, log-SNR -5.36 to -{levels}.25, it does not know them", about, grade)

    other = Finding("at the noisy end it errs", "range")
    assert told_once([of(2, "with caution"), of(3), other, of(4)]) == (of(3), other)
    assert told_once([of(2, about="audit"), of(3, about="audit")]) == (of(2), of(3))
    assert told_once(["pair 1 is black", "pair 2 is black"]) == ("pair 1 is black", "pair 2 is black")


def test_half_of_gap_less_outside_is_what_errors_add_to_gap():
    """The identity behind the finding: a field that is independent of the noise adds its own square to gap."""
    world = Correlated(64, 0.5)
    sample = world.sample(200, 3)
    made = measured(Erring(world.exact(), null=0.02, above=2.0), sample)
    off = imbalance(made, (made.curve.gap - made.curve.values(OutsideNorm())) / 2)
    assert off is not None
    right = measured(world.exact(), sample)
    added = made.using("gap").mean().value - right.using("gap").mean().value
    # 2 % of 64 dimensions, halved, over six units of log-SNR.
    assert added == pytest.approx(0.02 * 64 / 2 * 6, rel=0.05)
    assert off.nats == pytest.approx(added, rel=0.15)
    assert off.low >= 2
    assert off.worst.value > 0


def test_training_mode_and_half_precision_of_a_network_are_seen():
    layers = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 2))
    (found,) = of_network(layers)
    assert (found.about, found.grade) == ("training mode", "don't")
    assert "BatchNorm1d and Dropout" in found
    assert of_network(layers.eval()) == ()
    # Dropout of nothing, and training mode without such layers, change no number.
    assert of_network(nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2)).train()) == ()
    (found,) = of_network(layers.half())
    assert (found.about, found.grade) == ("precision", "with caution")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

        def forward(self, noisy, time, label):
            return self.layers(noisy) + label[:, None]

    convention = RectifiedFlow.shifted(steps=50)
    denoiser = Adapted(Net(), convention, null={"label": torch.zeros(1)})
    sample = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
    estimator = MMG("gap", Trapezoid(4))
    assert "training mode" in estimator(denoiser, sample, {"label": torch.ones(24)}).verdict.about
    denoiser.eval()
    assert "training mode" not in estimator(denoiser, sample, {"label": torch.ones(24)}).verdict.about


def test_few_pairs_are_never_vouched_for_and_negative_means_are_not_information():
    world = Correlated(3, 0.7)
    made = measured(world.exact(), world.sample(10, 1))
    assert made.verdict.grade == "with caution"
    assert "pairs" in made.verdict.about
    sample = world.sample(64, 1)
    mixed = MMG("gap", Trapezoid(32), antithetic=True)(
        world.exact(), sample.x, {"y": sample.cond["y"].roll(1, 0)}, logsnr_range=RANGE
    )
    assert mixed.mean().value < 0
    assert "below 0" in mixed.verdict.about
    assert mixed.verdict.grade == "don't"


def test_an_end_that_has_not_decayed_does_not_invite_to_add():
    world = Labels(6, 64, 0.5, seed=2)
    made = measured(Erring(world.exact(), null=0.02, above=1.0), world.sample(64, 4))
    (said,) = [text for text in made.warnings() if "has not decayed at log-SNR 8.00" in text]
    assert "part of the number is no information" in said
    assert "lie beyond" not in said
    assert said.about == "decay"
    assert said.grade == "don't"
