"""What can be known without a model is refused without one."""

from typing import Any, cast

import pytest

from mmg_diffusers.commands import inspecting
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from tests.bad_inputs import early
from tests.bad_inputs.room import Room


def no_model(*arguments, **options):
    raise AssertionError("a model is loaded")


@pytest.mark.parametrize("row", early.ROWS, ids=lambda row: row.wrong)
def test_refused_before_a_model_is_loaded(row, tmp_path, monkeypatch):
    monkeypatch.setattr(MMGPipeline, "from_pretrained", no_model)
    monkeypatch.setattr(inspecting, "inspect_model", no_model)
    with pytest.raises(row.error, match=row.says):
        row.call(Room(cast("Any", None), tmp_path))
