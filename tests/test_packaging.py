"""A wheel that is installed elsewhere has the model."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_wheel_holds_the_model(tmp_path):
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(elsewhere)
    assert (elsewhere / "mmg_diffusers" / "py.typed").exists()
    code = (
        f"import sys; sys.path.insert(0, {str(elsewhere)!r})\n"
        "import mmg_diffusers\n"
        f"assert mmg_diffusers.__file__.startswith({str(elsewhere)!r})\n"
        "from mmg_diffusers import MMGPipeline, shapes_model\n"
        "MMGPipeline.from_pretrained(shapes_model())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
