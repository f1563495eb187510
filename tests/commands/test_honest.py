"""The study of how far numbers can be believed: stages, their tables, and what it refuses."""

import dataclasses
import math

import pytest
import torch

from mmg_diffusers.commands.studies import honest
from mmg_diffusers.commands.studies.honest import fitted, judged
from mmg_diffusers.commands.studies.honest.settings import development, is_right, reported
from mmg_diffusers.measure.value import Value


def test_stages_are_kept_and_tabled(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judged, "COUNTS", (10,))
    monkeypatch.setattr(judged, "BOLD", (3.0,))
    monkeypatch.setattr(judged, "REPEATS", 4)
    honest.study(("power",), tmp_path)
    first = capsys.readouterr().out
    assert "| 3 | " in first
    assert "| its own law | " in first
    honest.study(("power",), tmp_path)
    # Read back: what was said of its time is not said again.
    assert capsys.readouterr().out == first[first.index("\n### power") :]


def test_unknown_stages_and_digits_without_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no stage 'powr'; expected verdict, power, times, fitted, digits"):
        honest.study(("powr",), tmp_path)
    with pytest.raises(ValueError, match="--digits FOLDER"):
        honest.study(("digits",), tmp_path)


def test_lists_differ_in_every_setting_but_their_names():
    fixed, told = development(), reported()
    assert [setting.good for setting in fixed].count(True) == 12 == len(fixed) - 12
    quick = {setting.name: setting for setting in fixed}
    both = [setting for setting in told if setting.name in quick and "batch norm" not in setting.name]
    for setting in both:
        one, other = setting.measure()[1], quick[setting.name].measure()[1]
        assert one.shape != other.shape or not torch.equal(one, other)


def test_right_is_within_three_errors_or_a_tenth():
    class Record:
        def __init__(self, nats):
            self.nats = nats

        def in_mean(self):
            return self

    truth = torch.full((100,), 2.0, dtype=torch.float64)
    noise = torch.linspace(-0.1, 0.1, 100, dtype=torch.float64)
    assert is_right((Record(truth + 0.19 + noise), truth))
    assert not is_right((Record(truth + 0.21 + noise), truth))
    assert is_right((Record(truth + 0.21 + 20 * noise), truth))
    assert not is_right((Record(0 * truth + 0.06 + noise / 10), 0 * truth))


def test_tables_of_verdicts():
    row = {"name": "n", "good": False, "mean": Value(4.5, 0.1), "truth": 2.3, "verdict": "don't trust (ceiling)"}
    counts = {"reported": {"false": {"trust": 0, "with caution": 1, "don't": 11}}}
    lines = list(judged.verdict_lines({"settings": [row], "counts": counts}))
    assert "| n | 4.500 ± 0.100 | 2.300 | false | don't trust (ceiling) |" in lines
    assert "| reported | false | 0 | 1 | 11 |" in lines


def test_a_fitted_marginal_is_held_against_the_truth_of_its_world(monkeypatch, tmp_path, capsys):
    few, *_ = fitted.worlds()
    small = dataclasses.replace(few, pairs=6)
    monkeypatch.setattr(fitted, "STEPS", 4)
    monkeypatch.setattr(fitted, "NULLS", 3)
    monkeypatch.setattr(fitted, "worlds", lambda: (small,))
    soft = fitted.FitPlan(fitted.SoftPlan(4, steps=2, batch=2, check_every=1))
    monkeypatch.setattr(fitted, "WAYS", {small.name: {"few": (400, fitted.PLAIN), "soft": (40, soft)}})
    monkeypatch.setattr(fitted.MMGPipeline, "fit", without_most_images(fitted.MMGPipeline.fit))
    honest.study(("fitted",), tmp_path)
    said = capsys.readouterr().out
    assert "| null as it stands |" in said
    assert "| few |" in said
    assert "Sandwich of few, 50 groups of 3" in said
    assert "Sandwich of soft" not in said


def without_most_images(fit):
    """All prompts, of which the first eight have images of their own: what is looked at here are prompts."""

    def fitting(pipe, images, prompts, **options):
        return fit(pipe, [images[k % 12] for k in range(len(images))], prompts, **options)

    return fitting


def test_worlds_differ_from_the_one_that_models_were_trained_on_and_have_the_information_of_their_law():
    few, hard, skewed, middle, _ = fitted.worlds()
    assert {few.draw(300, 1).prompts[k] for k in range(300)} == set(hard.draw(300, 2).prompts)
    assert few.information() == pytest.approx(few.shapes.mutual_information(), abs=0.02)
    assert skewed.information() == pytest.approx(skewed.shapes.mutual_information(), abs=0.02)
    sizes = middle.draw(50, 3).factors.size
    assert 0.3 <= sizes.min() < sizes.max() <= 0.7
    # Sizes in the middle are called either: less is told of the word.
    assert middle.information() < 3.1
    assert hard.information() == pytest.approx(math.log(15), abs=1e-3)


def test_coverage_counts_groups_that_hold_the_truth():
    sure = {"bound": [1.9, 2.0] * 20, "orthogonal": [2.1, 2.2] * 20, "gap": [1.0] * 40}
    held = fitted.coverage(sure, [2.0] * 40, 2.05)
    assert held["world"] == 1.0
    assert held["pairs"] == 1.0
    assert held["group"] == 20
    assert held["width"] == pytest.approx(0.2)
    low = fitted.coverage(
        {"bound": [0.9, 1.0] * 20, "orthogonal": [1.0] * 40, "gap": [1.1, 1.2] * 20}, [2.0] * 40, 2.05
    )
    assert low["world"] == 0.0
    assert low["below"] == 1.0
