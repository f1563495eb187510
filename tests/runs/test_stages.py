"""Long measurements go on where they stopped, and do not mix settings."""

import json
from pathlib import Path

import pytest
import torch

from mmg_diffusers.files.records import versions
from mmg_diffusers.runs.stages import Stages


class Sum:
    """Something that can be kept."""

    def __init__(self, total):
        self.total = total

    def save(self, path: Path) -> Path:
        path.write_text(str(self.total))
        return path

    @classmethod
    def load(cls, path: Path):
        return cls(int(path.read_text()))


def test_stages_and_parts_are_kept(tmp_path):
    stages = Stages(tmp_path / "run", {"pairs": 5})
    asked = []

    def measure(ids):
        asked.append(list(ids))
        if ids.stop == 5 and len(asked) < 4:
            raise KeyboardInterrupt
        return Sum(sum(ids))

    with pytest.raises(KeyboardInterrupt):
        stages.parts("sum", 5, measure, Sum.load, size=2)
    again = Stages(tmp_path / "run", {"pairs": 5})
    assert [part.total for part in again.parts("sum", 5, measure, Sum.load, size=2)] == [1, 5, 4]
    assert asked == [[0, 1], [2, 3], [4], [4]]
    assert not again.has("total")
    made = again("total", lambda: {"value": (1, 2)})
    assert again("total", lambda: {}) == made == again.read("total")
    assert made == {"value": [1, 2]}
    record = json.loads((tmp_path / "run" / "total.json").read_text())
    assert record["seconds"] >= 0
    assert record["versions"] == versions()
    with pytest.raises(ValueError, match=r"other settings.*pairs: 5 there, 6 now"):
        Stages(tmp_path / "run", {"pairs": 6})


def test_what_is_measured_is_a_part_of_the_identity(tmp_path):
    x = torch.arange(3.0)
    Stages(tmp_path / "run", {"pairs": 5}, {"x": x})("total", lambda: {"value": 1})
    assert Stages(tmp_path / "run", {"pairs": 5}, {"x": x.clone()}).has("total")
    for data in ({"x": x + 1e-6}, {"x": x.double()}, None):
        with pytest.raises(ValueError, match=r"other settings .*data: '"):
            Stages(tmp_path / "run", {"pairs": 5}, data)
    with pytest.raises(TypeError, match="has no identity"):
        Stages(tmp_path / "run", {"pairs": 5}, object())
