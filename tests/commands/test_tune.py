"""The script that tunes a model to pictures, with small arguments."""

import pandas as pd
import pytest
from PIL import Image

from mmg_diffusers.tuning import Tuned
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import ROOT, run

SCRIPT = ROOT / "scripts" / "tune_density.py"
SMALL = ["--steps", 2, "--batch", 2, "--check-every", 1, "--levels", 2, "--draws", 1, "--rank", 1, "--lr", 1e-4]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two tables of pictures with their captions."""
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for name, count, seed in (("tuned", 9, 1), ("other", 3, 2)):
        sample = Shapes("soft").sample(count, seed)
        paths = [folder / f"{name}-{k}.png" for k in range(count)]
        for path, picture in zip(paths, sample.images, strict=True):
            Image.fromarray((picture * 255).astype("uint8")).save(path)
        pd.DataFrame({"image": paths, "prompt": sample.prompts}).to_csv(folder / f"{name}.csv", index=False)
        made.append(folder / f"{name}.csv")
    return made


def test_it_tunes_measures_and_goes_on(tables, tmp_path, capsys):
    tuned, other = tables
    arguments = ["shapes-plain", tuned, "--prompts", "--output", tmp_path / "out", "--test", other, "--control", *SMALL]
    run(SCRIPT, *arguments)
    said = capsys.readouterr().out
    assert said.count("\n| log p(x | prompt) | ") == said.count("\n| log p(x) | ") == 4
    assert "| tuned, less control |" in said
    kept = Tuned.load(tmp_path / "out")
    assert kept.record["plan"]["branches"] == "both"
    assert kept.record["plan"]["settings"]["objective"] == "likelihood"
    assert "objective" not in Tuned.load(tmp_path / "out" / "control").record["plan"]["settings"]
    run(SCRIPT, *arguments)
    assert capsys.readouterr().out.split("| |")[1] == said.split("| |")[1]


def test_pictures_that_tuned_are_not_measured(tables, tmp_path):
    with pytest.raises(ValueError, match="9 of 9 images are among the 9 that the model was tuned to"):
        run(SCRIPT, "shapes-plain", tables[0], "--output", tmp_path, "--test", tables[0], *SMALL)
