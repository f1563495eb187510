"""The page that `report` writes."""

import re
import shutil
import subprocess

import numpy as np
import pandas
import pytest
from diffusers import DDIMScheduler
from PIL import Image

from mmg_diffusers import MMGPipeline
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.commands.report import build_report
from tests.commands.calling import CIRCLE, call
from tests.pipelines.families import dit


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
            *(["--likelihood"] if name == "null" else []),
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
    assert "log p(image) = " in null
    assert "the density of the VAE latent (posterior mode), 256 dimensions" in null
    assert null.count('<th class="value">log p</th>') == 1
    assert "log p" not in candidates
    for word in ("Certificate", "orthogonal", "takes off the denoising error"):
        assert word in null
    for word in ("nats or more", "log q, a bound", "Never above", "Information of each word", "Settled"):
        assert word in candidates


def test_words_on_the_page(world, tmp_path):
    folder, sample = world
    page = tmp_path / "words.html"
    few = ("--prompt", sample.prompts[0], "--levels", 2, "--output", page, "--quiet")
    said = call("report", "shapes", folder / "0.png", "--words", *few)
    assert said.exit_code == 0, said.output
    text = page.read_text(encoding="utf-8")
    assert "<h2>Words</h2>" in text
    for word in sample.prompts[0].split():
        assert f">{word}<sub" in text
        assert f'alt="Map of {word}"' in text
    assert "no check tells" in text


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


def test_a_mean_below_zero_has_a_page_too():
    """Forms that are weighed for each pair may have another sign than those that are weighed for the mean."""
    pipe = MMGPipeline(dit.pipeline(lambda: DDIMScheduler(clip_sample=False))())
    pipe.set_progress_bar_config(disable=True)
    images = list(np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32))
    found = pipe(images, 207, levels=2, keep="pixel")
    curve = influence(found, pipe.denoiser.convention)
    assert found.mean().value < 0 < float(curve.nats[:, 0].mean())
    assert not curve.arrives
    page = build_report(found, images, ["207"] * 3, convention=pipe.denoiser.convention, title="below zero")
    assert f"{found.mean().value:.2f}"[:-1] in page
    assert "Half of it" not in page
