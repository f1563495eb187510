"""What a folder held beside its pictures is said by the commands that read it, and nothing outside of it is shown."""

import re

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from mmg_diffusers import Estimate
from mmg_diffusers.commands.app import app


def call(*arguments):
    env = {"COLUMNS": "250", "TERMINAL_WIDTH": "250", "NO_COLOR": "1"}
    return CliRunner().invoke(app, [str(a) for a in arguments], env=env)


def test_folders_as_people_have_them(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    picture = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    for name in ("a.png", "more/b.png"):
        picture.save(folder / name)
    for name in ("._a.png", ".DS_Store"):
        (folder / name).write_bytes(b"no picture")
    options = ["--prompt", "a red circle", "--levels", "2", "--quiet"]
    said = call("estimate", "shapes", folder, "--output", tmp_path / "out", *options)
    assert said.exit_code == 0, said.output
    notes = Estimate.load(tmp_path / "out" / "estimate.safetensors").notes
    assert notes[0] == f"1 of the 2 pictures in {folder} lie in its sub-folders"
    assert "2 are left out, hidden (such as .DS_Store)" in notes[1]
    assert "lie in its sub-folders" in re.sub(r"\s+", " ", said.output)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    picture.save(tmp_path / "secret.png")
    said = call("report", "shapes", folder, "--output", tmp_path / "page.html", *options)
    assert said.exit_code == 2
    assert "not a file inside that folder" in re.sub(r"\s+", " ", said.output)
    assert not (tmp_path / "page.html").exists()
