import json

import pytest

from mmg_diffusers.files.whole import claim


def test_a_folder_belongs_to_one_set_of_settings_in_any_order(tmp_path):
    claim(tmp_path / "run", {"pairs": 5, "range": (0.5, None)})
    stamp = tmp_path / "run" / "settings.json"
    assert json.loads(stamp.read_text()) == {"pairs": 5, "range": [0.5, None]}
    stamp.write_text('{"range": [0.5, null], "pairs": 5}')
    claim(tmp_path / "run", {"pairs": 5, "range": (0.5, None)})
    for other, said in (
        ({"pairs": 6, "range": (0.5, None)}, "pairs: 5 there, 6 now"),
        ({"pairs": 5}, r"range: \[0.5, None\] there, None now"),
        ({"pairs": 5, "range": (0.5, None), "seed": 1}, "seed: None there, 1 now"),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({said}\)"):
            claim(tmp_path / "run", other)


@pytest.mark.parametrize("body", ["{", "", "[1]", '"pairs"'])
def test_a_damaged_stamp_is_no_settings(tmp_path, body):
    (tmp_path / "settings.json").write_text(body)
    with pytest.raises(ValueError, match=r"settings.json is damaged"):
        claim(tmp_path, {"pairs": 5})
