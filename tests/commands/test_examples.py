"""Every example runs, with small arguments."""

import re

import pytest

from mmg_diffusers import shapes_model
from tests.commands.calling import ROOT, run

EXAMPLES = {
    "quickstart.py": ["--pairs", 2, "--levels", 4],
    "candidates.py": ["--pairs", 2, "--steps", 4],
    "own_denoiser.py": ["--pairs", 2000],
    "own_network.py": ["--pairs", 2000],
    "own_labels.py": ["--pairs", 200],
}


def test_every_example_is_run():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, capsys):
    run(ROOT / "examples" / name, *EXAMPLES[name])
    said = capsys.readouterr().out
    assert "nats" in said
    truths = {"own_denoiser.py": 0.8304, "own_network.py": 0.3681}
    if name in truths:
        exact = float(re.search(r"exactly (\S+) nats", said)[1])
        assert exact == pytest.approx(truths[name], abs=1e-4)
        found = re.findall(r"^(\S+) \+- (\S+) nats", said, re.MULTILINE)
        assert found
        for value, stderr in found:
            assert abs(float(value) - exact) < 4 * float(stderr) < 0.2


def test_own_labels_are_measured_three_ways_and_vouched_for(capsys):
    run(ROOT / "examples" / "own_labels.py", "--pairs", 200)
    said = capsys.readouterr().out
    exact = float(re.search(r"exactly (\S+) nats", said)[1])
    bounds = [float(value) for value in re.findall(r">= (\S+)", said)]
    bounds += [float(value) for value in re.findall(r"^(\S+) \+- \S+ nats or more", said, re.MULTILINE)]
    assert len(bounds) == 2
    # Of the same points: no noise of theirs is in the difference.
    assert bounds == pytest.approx([exact, exact], abs=0.06)
    assert said.count("verdict: trust") == 2
    assert "verdict on the null branch: trust" in said


def test_the_shipped_model_is_where_it_is_said_to_be():
    assert (shapes_model() / "model_index.json").is_file()
