"""The page that `report` writes."""

import re
import shutil
import subprocess

import numpy as np
import pandas
import pytest
from PIL import Image

from tests.commands.calling import CIRCLE, call


@pytest.fixture(scope="module")
def pages(world, tmp_path_factory):
    """Reports of three pairs, against the null prompt and against candidates; a prompt is long, and one is a script."""
    folder, sample = world
    out = tmp_path_factory.mktemp("pages")
    prompts = ["<script>alert(1)</script>", sample.prompts[1], f"{sample.prompts[2]} {'in a world of words ' * 3}"]
    table = pandas.DataFrame({"image": ["0.png", "1.png", "2.png"], "prompt": prompts})
    table.to_csv(folder / "report.csv", index=False)
    table["prompt"] = sample.prompts
    table.to_csv(folder / "captions.csv", index=False)
    (out / "candidates.txt").write_text("\n".join(dict.fromkeys([*sample.prompts, CIRCLE])))
    for name, source, marginal in (("null", "report", "null"), ("candidates", "captions", out / "candidates.txt")):
        said = call(
            "report",
            "shapes",
            folder / f"{source}.csv",
            *("--marginal", marginal, "--levels", 4, "--output", out / f"{name}.html", "--quiet"),
        )
        assert said.exit_code == 0, said.output
    return {name: out / f"{name}.html" for name in ("null", "candidates")}


def test_report_is_one_safe_page(world, pages):
    _, sample = world
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert re.findall(r"(?:src|href)=\"(?!data:image/png;base64,)", text) == []
        assert text.count('class="thumb"') == 3
        # Thumbnails, maps beside their images, and the curves.
        assert text.count("data:image/png") == 3 + 6 + 3
        for word in ("nats", "viewport", "diffusers version", "Half of it has arrived", sample.prompts[1]):
            assert word in text
    null, candidates = (path.read_text(encoding="utf-8") for path in pages.values())
    assert "&lt;script&gt;alert(1)" in null
    for word in ("Certificate", "orthogonal", "Denoising errors"):
        assert word in null
    for word in ("nats or more", "log q, a bound", "Never above", "Information of each word", "Settled"):
        assert word in candidates


def test_the_verdict_stands_above_the_number_and_an_audit_has_a_panel(world, pages, tmp_path):
    folder, _ = world
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        assert text.index('<p class="verdict') < text.index('<p class="number"')
        assert re.search(r'<p class="verdict (good|fair|bad)">(Trust|Take with caution|Don&#x27;t trust)', text)
        assert "The null branch" not in text
    source = pages["candidates"].parent
    said = call(
        "report",
        "shapes",
        folder / "captions.csv",
        *(
            "--marginal",
            source / "candidates.txt",
            "--levels",
            3,
            "--audit",
            "--output",
            tmp_path / "a.html",
            "--quiet",
        ),
    )
    assert said.exit_code == 0, said.output
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h2>The null branch</h2>" in text
    assert "null branch against the mixture of" in text
    assert "The null branch from the mixture, along log-SNR" in text
    refused = call("report", "shapes", folder / "report.csv", "--audit", "--output", tmp_path / "b.html", "--quiet")
    assert refused.exit_code == 2
    assert "give Candidates as the marginal" in " ".join(refused.output.split())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["null", "candidates"])
def test_report_fits_the_screen(pages, tmp_path, name, width):
    """In a headless browser: something is drawn, and nothing reaches into the page's right margin."""
    shot = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},1600", f"--screenshot={shot}"]
    subprocess.run([str(CHROMIUM), *options, pages[name].as_uri()], check=True, capture_output=True, timeout=60)
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    drawn = (pixels != pixels[0, 0]).any(2)
    assert drawn.mean() > 0.05
    assert not drawn[:, -8:].any()
