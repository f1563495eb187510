"""The study of how far numbers can be believed: stages, their tables, and what it refuses."""

import pytest
import torch

from mmg_diffusers.commands.studies import honest
from mmg_diffusers.commands.studies.honest import judged
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
    with pytest.raises(ValueError, match="there is no stage 'powr'; expected verdict, power, times, digits"):
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
