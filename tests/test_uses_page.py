"""The code of docs/uses.md runs as it stands, in the order of the page."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes

PAGE = (Path(__file__).parent.parent / "docs" / "uses.md").read_text("utf-8")


def test_every_block_of_the_page_is_run(pipe, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    sample = Shapes("soft").sample(3, seed=12)
    # Short paths: what is tried here is that the page's names do what it says.
    short = classmethod(lambda cls, plan, **options: _of(plan, **{"levels": 4, **options}))
    _of = Plan.of
    monkeypatch.setattr(Plan, "of", short)
    captions = list(dict.fromkeys([*sample.prompts, *CAPTIONS[:4]]))
    names = {
        "__name__": "uses.md",
        "pipe": pipe,
        "images": list(sample.images),
        "prompts": list(sample.prompts),
        "captions": captions,
        "exact": torch.from_numpy(np.minimum(Shapes("soft").pointwise(sample.factors, sample.caption), 5.0)),
    }
    for code in blocks:
        exec(compile(code, "uses.md", "exec"), names)
    assert names["words"].maps.shape == (6, 32, 32)
    assert set(names["masked"].grades) <= {"with caution", "don't"}
    assert "interaction" in next(iter(names["masked"].shared_means().values()))
    assert names["preference"].maps.shape == (3, 2, 32, 32)
    assert names["ranked"].evaluations < names["ranked"].of * 2
    assert names["path"].moved
    assert names["path"].square.shape == (3, 4)
    assert names["guider"].guidance_scale == 5.0
    assert names["best"].images.shape == (2, 2, 32, 32, 3)
    assert len(names["over"]) == 3


@pytest.mark.parametrize("command", ["words", "compare", "report"])
def test_its_commands_are_there(command):
    from tests.commands.calling import call

    line = re.search(rf"^    mmg-diffusers ({command} .*)$", PAGE, re.MULTILINE)[1]
    said = call(command, "--help").output
    for option in re.findall(r"--[a-z-]+", line):
        assert option in said


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^    python (scripts/.*)$", PAGE, re.MULTILINE))))
def test_its_scripts_are_there(line, capsys):
    from tests.commands.calling import ROOT, run

    script, *given = line.split()
    run(ROOT / script, "--help")
    said = capsys.readouterr().out
    for option in (word for word in given if word.startswith("--")):
        assert option in said
