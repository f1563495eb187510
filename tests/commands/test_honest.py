"""The study of how far numbers can be believed: stages, their tables, and what it refuses."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.commands.studies import honest
from mmg_diffusers.commands.studies.honest import coverage, fitted, judged, unlike
from mmg_diffusers.commands.studies.honest.networks import Recipe
from mmg_diffusers.commands.studies.honest.settings import development, is_right, reported
from mmg_diffusers.denoisers.base import Denoiser
from mmg_diffusers.measure.value import Value
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.tuning.fitting import FitPlan
from mmg_diffusers.tuning.soft import SoftPlan


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
    with pytest.raises(
        ValueError, match="there is no stage 'powr'; expected verdict, power, times, sandwich, fitted, digits"
    ):
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
    few, *_ = unlike.worlds()
    soft = FitPlan(SoftPlan(4, steps=2, batch=2, check_every=1))
    ways = {"few": (400, unlike.PLAIN), "soft": (24, soft)}
    monkeypatch.setattr(fitted, "STEPS", 4)
    monkeypatch.setattr(fitted, "NULLS", 3)
    monkeypatch.setattr(fitted, "worlds", lambda: (dataclasses.replace(few, pairs=6, ways=ways),))
    honest.study(("fitted",), tmp_path)
    said = capsys.readouterr().out
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| null as it stands", "| the world's own law", "| few", "| soft"]
    assert [row[1] for row in rows[1:]] == ["3", "6", "6", "6"]
    # Against itself the law is off by nothing; what is made of counts is near to it, at the same noise.
    assert rows[2][9] == "0.000 ± 0.000"
    assert abs(float(rows[3][9].split(" ± ")[0])) < 0.3
    assert "exact 2." in said
    # Nothing is measured or fitted twice, and other pairs are added to those that are there.
    monkeypatch.setattr(fitted, "follow", None)
    monkeypatch.setattr(fitted.MMGPipeline, "fit", None)
    honest.study(("fitted",), tmp_path)
    assert capsys.readouterr().out == said


def test_odds_are_what_the_gap_is_of(tmp_path, monkeypatch):
    """With the true prompt in the mixture they are log q: known from the scores alone, and never above the prompt's surprise."""
    monkeypatch.setattr(fitted, "NULLS", 2)
    world = dataclasses.replace(unlike.worlds()[0], pairs=4, ways={})
    read = fitted.measure_world(world, Stages(tmp_path, {}))[fitted.LAW]
    assert read.odds.shape == (4,)
    assert bool((read.odds <= math.log(15) + 1e-6).all())
    assert read.odds.tolist() == pytest.approx(read.bound.tolist(), abs=1e-6)


def test_coverage_counts_groups_that_hold_the_truth():
    class Made:
        def __init__(self, gap, orthogonal):
            self.nats = {"gap": gap, "orthogonal": orthogonal}

        def using(self, form):
            return SimpleNamespace(nats=torch.tensor(self.nats[form], dtype=torch.float64))

    def held(bound, gap, orthogonal):
        read = fitted.Read(Made(gap * 64, orthogonal * 64), torch.ones(128), None, torch.tensor(bound * 64).double())
        return fitted.coverage(read, 2.05)

    sure = held([1.9, 2.0], [1.0, 1.0], [2.1, 2.2])
    assert sure["world"] == pytest.approx(1.0)
    assert sure["width"] == pytest.approx(0.2)
    low = held([0.9, 1.0], [1.1, 1.2], [1.0, 1.0])
    assert (low["world"], low["below"], low["above"]) == pytest.approx((0.0, 1.0, 0.0))
    assert held([2.9, 3.0], [3.1, 3.2], [3.0, 3.0])["above"] == pytest.approx(1.0)


class Counting(Denoiser):
    """Counts the rows that it is asked."""

    logsnr_range = (-5.0, 5.0)

    def __init__(self):
        super().__init__()
        self.rows = 0

    def forward(self, z, logsnr, cond=None):
        self.rows += len(z)
        return z * logsnr[:, None].to(z) + (0 if cond is None else cond["y"])


def test_what_was_asked_before_is_answered_from_memory():
    inner = Counting()
    remembered = fitted.Remembered(inner)
    z, logsnr, y = torch.randn(6, 2), torch.linspace(-4, 4, 6).double(), torch.randn(6, 2)
    y[1], z[1], logsnr[1] = y[0], z[0], logsnr[0]
    told = remembered(z, logsnr, {"y": y})
    assert inner.rows == 5
    assert torch.equal(told, Counting()(z, logsnr, {"y": y}))
    assert torch.equal(remembered(z[2:4], logsnr[2:4], {"y": y[2:4]}), told[2:4])
    assert inner.rows == 5
    # Another level, condition or none is another question.
    for other in (lambda: remembered(z, logsnr + 0.5, {"y": y}), lambda: remembered(z, logsnr, {"y": y + 1})):
        other()
    assert torch.equal(remembered(z, logsnr, None), Counting()(z, logsnr))
    assert inner.rows == 20


def test_counted_prompts_are_what_fit_keeps_of_few():
    world = unlike.worlds()[2]
    pipe = MMGPipeline.from_pretrained(shapes_model("shapes-plain"))
    sample = world.draw(20, 7)
    kept = pipe.fit(list(sample.images), sample.prompts, progress=False).parts[0].soft
    counted = world.counted(20, 7)
    assert kept.texts
    assert dict(zip(kept.texts, kept.probability.tolist(), strict=True)) == pytest.approx(
        dict(zip(counted.texts, counted.probability.tolist(), strict=True))
    )
    middle = unlike.worlds()[3]
    assert sum(middle.counted(50, 3).probability * 50) == pytest.approx(50)
    assert set(middle.counted(50, 3).texts) == set(middle.draw(50, 3).prompts)


def test_worlds_differ_from_the_one_that_models_were_trained_on_and_have_the_information_of_their_law():
    few, hard, skewed, middle, *_ = unlike.worlds()
    assert set(few.draw(300, 1).prompts) == set(hard.draw(300, 2).prompts) == set(few.prompts().texts)
    assert few.information() == pytest.approx(few.shapes.mutual_information(), abs=0.02)
    assert skewed.information() == pytest.approx(skewed.shapes.mutual_information(), abs=0.02)
    sizes = middle.draw(50, 3).factors.size
    assert 0.3 <= sizes.min() < sizes.max() <= 0.7
    # Sizes in the middle are called either: less is told of the word.
    assert middle.information() < 3.1
    assert hard.information() == pytest.approx(math.log(15), abs=1e-3)


def test_sandwiches_of_fresh_pairs_are_counted(monkeypatch, tmp_path, capsys):
    world, *_, nearer = coverage.label_worlds()
    brief = dataclasses.replace(world, recipe=Recipe(steps=400, dropout=0.1, seed=9))
    monkeypatch.setattr(coverage, "label_worlds", lambda: (brief,))
    monkeypatch.setattr(coverage, "GROUPS", 10)
    honest.study(("sandwich",), tmp_path)
    said = capsys.readouterr().out
    assert "| six labels | 1." in said
    # Points nearer to their labels' means tell more of them, in closed form; a skewed prior leaves less to tell.
    x, label, truth = nearer.draw(5000, 1)
    assert float(truth.mean()) > float(world.draw(5000, 1)[2].mean()) + 0.1
    assert x.shape == (5000, coverage.LABELS.size)
    spread = float((x.double() - coverage.LABELS.means[label]).var())
    assert spread == pytest.approx(0.6 * coverage.LABELS.variance, rel=0.02)


def test_a_sandwich_of_exact_branches_holds_the_truth():
    world = coverage.label_worlds()[0]
    held = 0
    for made, own in coverage.sandwich(coverage.LABELS.exact(), world, 1, groups=4):
        low, high = made.interval
        held += low <= own <= high
        assert abs(made.width.value) < 3 * made.width.stderr + 0.1
    assert held >= 3
