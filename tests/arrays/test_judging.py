"""What a fit is worth: closed forms in its place, errors beyond those of pairs, and what is said of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mmg_diffusers import MMG, Estimate, estimate_mi
from mmg_diffusers.arrays import estimate as estimate_module
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.floors import BENDS, GAUSSIAN, NEIGHBOURS, Floors, Reading
from mmg_diffusers.arrays.judging import again, amiss, first, hardly_found
from mmg_diffusers.measure.value import Value
from mmg_diffusers.worlds.tasks import get_task

LOOK = FitSettings(steps=60, pilot=60, batch=128)


def test_a_gaussian_law_is_told_in_closed_form():
    """25 x 25 from 1,000 rows: the forms are off by the errors of the start, what is told is not."""
    task = get_task("multinormal-dense-25-25-0.5")
    x, y = task.sample(1000, 5)
    found = estimate_mi(x, y, settings=LOOK)
    value, stderr = found.mean()
    assert abs(value - task.mi_nats) < 0.1
    assert 0.1 < stderr < 0.2  # of 50 columns and 700 pairs a tenth may be unseen
    assert found.allowance.instead.stderr < 0.05
    assert found.allowance.instead is not None
    assert "closed form" in found.settings["told"]
    assert found.settings["readings"]["Gaussian part"][0] == pytest.approx(value, abs=1e-4)
    assert found.using("orthogonal").mean().value - task.mi_nats > 0.1
    # Who asks for a form gets it.
    assert estimate_mi(x, y, settings=LOOK, estimator=MMG("gap")).allowance.instead is None


def test_what_branches_err_by_is_said_of_their_own_number_alone():
    found = estimate_mi(*get_task("multinormal-dense-25-25-0.5").sample(500, 401), settings=LOOK, seed=401)
    assert found.allowance.instead is not None
    assert not any("branch" in text for text in found.warnings())
    assert any("branch" in text for text in replace(found, allowance=None).warnings())


def test_the_gaussian_part_of_many_columns_and_few_pairs_is_taken_with_caution():
    """A spiral of 5 x 5 in 500 rows shows its Gaussian part alone, less than half of what it holds."""
    bent = get_task("spiral-multinormal-sparse-5-5-2-2.0")
    found = estimate_mi(*bent.sample(500, 77), settings=LOOK, seed=77)
    assert found.mean().value < 0.6 < bent.mi_nats
    assert found.verdict.grade != "trust"
    assert any(text.about == "few pairs" for text in found.verdict.findings)
    assert any("still depends" in text for text in found.warnings())
    value, stderr = found.mean()
    assert abs(value - bent.mi_nats) < 2 * stderr
    assert found.allowance.errors["unseen among many columns"] > 0.15
    few = estimate_mi(*get_task("multinormal-dense-2-2-0.5").sample(500, 77), settings=LOOK, seed=77)
    assert not any(text.about == "few pairs" for text in few.verdict.findings)


@pytest.mark.parametrize("dims", [1, 20])
def test_independence_has_an_honest_error(dims):
    x, y = np.random.default_rng(dims).standard_normal((2, 2000, dims))
    found = estimate_mi(x, y, settings=LOOK)
    value, stderr = found.mean()
    assert abs(value) < 2 * stderr
    assert 1e-4 < stderr < 0.03
    assert found.settings["readings"]["Gaussian part"][2] > 1e-3


def test_many_weak_pairs_are_seen_together():
    task = get_task("weak_pairs-50-0.12")
    value, stderr = estimate_mi(*task.sample(4000, 3), settings=LOOK).mean()
    assert abs(value - task.mi_nats) < 3 * stderr
    assert stderr < 0.03


def test_a_fit_that_misses_is_warned_of_by_name():
    x, y = get_task("wave-20-0.3").sample(4000, 0)
    found = estimate_mi(x, y, settings=LOOK)
    (said,) = (text for text in found.warnings() if "the fit has missed" in text)
    assert "columns 0 and 0 read" in said or "nearest neighbours read" in said
    assert found.mean().stderr >= found.allowance.errors["readings"] - 1e-9 > 0.15
    # What was read stands in place of what was missed, unless a form is asked for.
    best = max(nats for nats, _, _ in found.settings["readings"].values())
    assert found.mean().value == pytest.approx(best, abs=0.1)
    assert found.mean().value > 0.2
    assert found.using("gap").mean().value < found.mean().value - 0.1
    assert "stands in its place" in found.settings["told"]


def test_a_fit_that_misses_is_made_anew_with_waves(monkeypatch):
    x, y = get_task("wave-20-0.3").sample(6000, 0)
    asked = []
    fit_model = estimate_module.fit_model
    monkeypatch.setattr(
        estimate_module,
        "fit_model",
        lambda data, settings, **options: asked.append(settings) or fit_model(data, settings=settings, **options),
    )
    monkeypatch.setattr(
        FitSettings, "for_size", staticmethod(lambda *size, **changes: FitSettings(steps=400, pilot=100, batch=256))
    )
    found = estimate_mi(x, y)
    assert [settings.waves > 0 for settings in asked] == [False, True]
    assert asked[1].least > 0.3
    assert found.settings["fit"]["waves"] == asked[1].waves
    assert found.mean().value > 0.6


def test_training_that_was_cut_short_is_said():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 1))
    y = np.abs(x) + 0.3 * rng.standard_normal((3000, 1))
    found = estimate_mi(x, y, settings=FitSettings(steps=60, pilot=30, batch=128))
    (said,) = (text for text in found.warnings() if "last round" in text)
    assert "steps=120" in said
    assert found.allowance.errors["training"] > 0.01
    assert found.mean().stderr > found.allowance.errors["training"]


def test_errors_beyond_those_of_pairs_keep_in_the_file(tmp_path):
    found = estimate_mi(*get_task("1v1-normal-0.75").sample(1000, 0), settings=LOOK)
    again = Estimate.load(found.save(tmp_path / "found.safetensors"))
    assert again.allowance == found.allowance
    assert again.mean() == found.mean()
    assert again.mean().stderr > again.using("gap").certificate.stderr / 10


def test_readings_are_believed_both_ways_only_if_they_say_so():
    near = Reading("nearest neighbours", Value(0.5, 0.01), both_ways=True)
    assert amiss(Floors((near,)), Value(0.6, 0.01)) == pytest.approx(0.1)
    assert amiss(Floors((near._replace(both_ways=False),)), Value(0.6, 0.01)) == 0
    assert amiss(Floors((near,)), Value(0.52, 0.01)) == 0
    assert amiss(Floors((near,)), Value(0.4, 0.01)) == pytest.approx(0.1)


def test_a_second_fit_has_waves_for_few_coordinates_only():
    floors = Floors((Reading("nearest neighbours", Value(0.5, 0.01)),))
    settings = FitSettings()
    assert again(settings, floors, 2).waves > 0
    assert again(settings, floors, 20).waves == 0
    assert again(settings, floors, 20).least == 0.5


def test_a_short_look_is_for_what_the_gaussian_part_explains():
    part = Reading("Gaussian part", Value(0.5, 0.01), 0.0)
    near = Reading("nearest neighbours", Value(0.51, 0.01))
    assert first(FitSettings(), Floors((part, near)), 2).pilot == 60
    assert first(FitSettings(), Floors((part, near)), 30).pilot == 500
    more = near._replace(value=Value(0.8, 0.01))
    assert first(FitSettings(), Floors((part, more)), 2).pilot == 500
    assert math.isclose(Floors((part, more)).missed(part.value)[1], 0.3)


def test_few_pairs_have_short_rounds_and_strong_decay():
    many, few = (FitSettings.for_size(6, pairs) for pairs in (100_000, 1_000))
    assert (many.pilot, many.weight_decay) == (500, 0.01) == (FitSettings().pilot, FitSettings.for_size(6).weight_decay)
    assert few.pilot == 60
    assert few.weight_decay == pytest.approx(0.3)
    # A pair of columns has little to over-fit.
    assert FitSettings.for_size(2, 1_000).weight_decay == 0.01


def test_what_bends_and_was_hardly_found_is_in_the_error():
    """A fit that sees no more than neighbours, where powers show more; half of what it lacks."""
    bends = Reading(BENDS, Value(0.4, 0.0), 1e-9)
    others = (Reading(GAUSSIAN, Value(0.02, 0.01), 0.5), Reading(NEIGHBOURS, Value(0.1, 0.02)))
    floors = Floors((*others, bends))
    lack, said = hardly_found(floors, Value(0.11, 0.005))
    assert lack == pytest.approx((0.4 - 0.09) / 2)
    assert "about 0.40 nats beyond the Gaussian part, of which 0.09 were found" in said
    assert hardly_found(floors, Value(0.15, 0.005)) is None  # more than neighbours see
    assert hardly_found(Floors((*others, bends._replace(chance=0.01))), Value(0.11, 0.005)) is None
    assert hardly_found(Floors((*others, bends._replace(value=Value(0.05, 0.0)))), Value(0.11, 0.005)) is None
