"""The page that `report` writes: what it says, and that it says it to everybody."""

import re
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from diffusers import DDIMScheduler

from mmg_diffusers import MMGPipeline
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.commands.page.html import without_folders
from mmg_diffusers.commands.page.sections import Chosen
from mmg_diffusers.commands.report import build_report
from mmg_diffusers.measure import MMG, Trapezoid
from tests.browser import Elements, broken_rules, needs_axe, needs_chromium, seen, shot
from tests.commands.calling import CIRCLE, call
from tests.pipelines.families import dit


@pytest.fixture(scope="module")
def pages(world, tmp_path_factory):
    """Reports of three pairs, against the null prompt with all that there is, and against candidates; a prompt is long, and one is a script."""
    folder, sample = world
    out = tmp_path_factory.mktemp("pages")
    prompts = ["<script>alert(1)</script>", sample.prompts[1], f"{sample.prompts[2]} {'in a world of words ' * 3}"]
    table = pandas.DataFrame({"image": ["0.png", "1.png", "2.png"], "prompt": prompts})
    table.to_csv(folder / "report.csv", index=False)
    table["prompt"] = sample.prompts
    table.to_csv(folder / "captions.csv", index=False)
    (out / "candidates.txt").write_text("\n".join(dict.fromkeys([*sample.prompts, CIRCLE])))
    with_others = ("--likelihood", "--b", CIRCLE, "--other-model", "shapes-plain")
    for name, source, marginal, more in (
        ("null", "report", "null", with_others),
        ("candidates", "captions", out / "candidates.txt", ()),
        ("words", "captions", "null", ("--words",)),
    ):
        said = call(
            "report",
            "shapes",
            folder / f"{source}.csv",
            *("--marginal", marginal, "--levels", 4, "--output", out / f"{name}.html", "--quiet"),
            *more,
        )
        assert said.exit_code == 0, said.output
    return {name: out / f"{name}.html" for name in ("null", "candidates", "words")}


@pytest.fixture(scope="module")
def read(pages):
    found = {}
    for name, path in pages.items():
        found[name] = Elements()
        found[name].feed(path.read_text("utf-8"))
    return found


def numbers(text):
    return [float(value) for value in re.findall(r"-?\d+\.\d+", text)]


def test_report_is_one_safe_page(world, pages, read):
    folder, sample = world
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("<script") == 1
        assert re.findall(r"(?:src|href)=\"(?!data:image/(?:png|jpeg);base64,|#)", text) == []
        assert re.findall(r"url\((?!data:image/png;base64,|#)", text) == []
        assert "http" not in text
        assert str(folder) not in text
        assert str(path.parent) not in text
        assert len(read[name].of("img", class_="thumb")) == 3
        for word in ("nats", "viewport", "diffusers version", "Half of it has arrived", sample.prompts[1]):
            assert word in text
    null, candidates, _ = (path.read_text(encoding="utf-8") for path in pages.values())
    assert "&lt;script&gt;alert(1)" in null
    assert "log p(image) = " in null
    assert "the density of the VAE latent (posterior mode), 256 dimensions" in null
    assert null.count('<th scope="col" class="value">log p</th>') == 1
    assert "log p" not in candidates
    for word in ("Certificate", "orthogonal", "takes off the denoising error", "Two models", "fits better"):
        assert word in null
    for word in ("nats or more", "log q, a bound", "Never above", "Information of each word", "Settled"):
        assert word in candidates


def test_a_pair_reads_the_same_in_table_and_map(read):
    """The nats of the column that a map's caption names, and the map's own sum, which is written from its pixels."""
    for name, form, column in (("null", "auto", "nats (auto)"), ("candidates", "gap", "gap")):
        page = read[name]
        (table,) = page.of("table", class_="cards")
        heads = [head.text for head in table.inside if head.tag == "th" and head.attributes["scope"] == "col"]
        rows = [row for row in table.inside if row.tag == "tr"][1:]
        shown = []
        for row in rows:
            cells = [cell for cell in row.inside if cell.tag in ("td", "th")]
            value = cells[heads.index(column)]
            assert numbers(value.text)[0] == pytest.approx(float(value["data-number"]), abs=6e-4)
            shown.append((cells[1].text, value.text.split()[0]))
        views = [
            view for section in page.of("section", class_="where") for view in section.inside if view.tag == "figure"
        ]
        views = [view for view in views if "data-pair" in view.attributes]
        assert len(views) == 3
        for view in views:
            prompt = next(one["alt"] for one in view.inside if one.tag == "img")
            told = next(one.text for one in view.inside if one.tag == "b")
            assert (prompt, told) == shown[int(view["data-pair"])]
            assert f"{form}: {told} nats" in view.text


def test_the_mean_reads_the_same_in_headline_and_curve(read):
    (headline,) = read["null"].of("p", id="mean")
    mean = float(headline["data-number"])
    assert numbers(headline.text)[0] == pytest.approx(mean, abs=6e-4)
    assert f"auto: {mean:.2f} ± " in "".join(one.text for one in read["null"].of("svg"))
    still = next(table for table in read["null"].of("table") if "still to come" in table.text)
    first = next(cell.text for cell in still.inside if cell.tag == "td")
    assert float(first) == pytest.approx(mean, abs=6e-5)
    # Of candidates the pairs' own mean is another number than the bound, and each has its name.
    forms = read["candidates"].of("table")[0]
    assert "log q of each pair as it is" in forms.text


def test_bands_of_the_slider_add_up_to_the_whole(read):
    for told in read["null"].of("b"):
        if "data-nats" in told.attributes:
            whole, *parts = map(float, re.findall(r"-?[\d.]+", told["data-nats"]))
            assert len(parts) == 3
            assert sum(parts) == pytest.approx(whole, abs=3e-3)


def test_everything_has_a_name(read):
    """What axe looks at, in part, where there is no browser."""
    for page in read.values():
        assert page.of("html", lang="en")
        assert page.of("main")
        assert len(page.of("h1")) == 1
        for one in page.of("img"):
            assert "alt" in one.attributes
            assert one["alt"] or one.attributes["class"] == "thumb"
        for one in [*page.of("svg"), *page.of("span", class_="over")]:
            assert one["role"] == "img"
            assert one["aria-label"]
        for table in page.of("table"):
            assert [one.tag for one in table.inside].count("caption") == 1
            assert all(head.attributes.get("scope") in ("col", "row") for head in table.inside if head.tag == "th")
        labelled = {label["for"] for label in page.of("label") if "for" in label.attributes}
        inside = [one for label in page.of("label") for one in label.inside]
        assert all(one in inside or one["id"] in labelled for one in page.of("input"))


def contrast(one, other):
    def light(colour):
        parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_what_is_drawn_stands_out_from_light_and_from_dark_paper(pages):
    text = pages["null"].read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", part))
        for part in text.split("@media (prefers-color-scheme: dark)")[:2]
    )
    assert set(light) == set(dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", text)))
    assert set(dark) == set(light)
    for inks in (light, dark):
        for name in ("ink", "quiet"):
            assert contrast(inks[name], inks["paper"]) >= 4.5
        for name in ("gap", "orthogonal", "c0", "c1", "c2"):
            assert contrast(inks[name], inks["paper"]) >= 3
    # Nothing of a figure has a colour that does not follow.
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) == set()
        assert "var(--" in drawn


def test_a_word_has_its_map_and_its_number(world, pages, read):
    _, sample = world
    page = read["words"]
    assert len(page.of("fieldset", class_="words")) == 3
    buttons = [label.text for label in page.of("label") if any(one.tag == "input" for one in label.inside)]
    for word in sample.prompts[1].split():
        assert any(text.startswith(word) for text in buttons)
    for field in page.of("fieldset", class_="words"):
        chosen = [one for one in field.inside if one.tag == "input" and "checked" in one.attributes]
        assert len(chosen) == 1
        for told in (one for one in field.inside if "told" in (one.attributes.get("class") or "")):
            nats, *_, whole = numbers(told.text)
            assert nats == pytest.approx(whole, abs=0.011), "a word's map adds up to its number"
    assert "no check tells" in pages["words"].read_text("utf-8")


def test_the_verdict_stands_above_the_number_and_an_audit_has_a_panel(world, pages, tmp_path):
    folder, _ = world
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        assert text.index('<p class="verdict') < text.index('<p class="number"')
        assert re.search(r'<p class="verdict (good|fair|bad)">(Trust|Take with caution|Don&#x27;t trust)', text)
        assert "The null branch" not in text
    source = pages["candidates"].parent
    among = (
        "--marginal",
        source / "candidates.txt",
        "--levels",
        3,
        "--audit",
        "--output",
        tmp_path / "a.html",
        "--quiet",
    )
    said = call("report", "shapes", folder / "captions.csv", *among)
    assert said.exit_code == 0, said.output
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h2>The null branch</h2>" in text
    assert "null branch against the mixture of" in text
    assert "The null branch from the mixture, along log-SNR" in text
    refused = call("report", "shapes", folder / "report.csv", "--audit", "--output", tmp_path / "b.html", "--quiet")
    assert refused.exit_code == 2
    assert "give --marginal prompts, negatives:15" in " ".join(refused.output.split())


def test_pairs_that_tell_most_and_least_are_shown():
    nats = torch.tensor([float((7 * k) % 50) for k in range(50)])
    groups = Chosen.of(nats).groups
    assert [[float(nats[k]) for k in group] for group in groups.values()] == [
        [49, 48, 47, 46],
        [26, 25, 24, 23],
        [3, 2, 1, 0],
    ]
    assert Chosen.of(nats[:2]).places == [1, 0]
    assert sorted(Chosen.of(nats[:5]).places) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/somebody/models/mine", "mine"),
        ("C:\\Users\\somebody\\mine", "mine"),
        ("read from /home/some/pictures/a.png, and so on", "read from a.png, and so on"),
        ("stabilityai/sd-turbo", "stabilityai/sd-turbo"),
        ("nats / pixel, 1/2, https://example.org/a/b", "nats / pixel, 1/2, https://example.org/a/b"),
    ],
)
def test_no_folder_of_somebodys_disk_is_told(text, left):
    assert without_folders(text) == left


def test_fifty_pairs_of_noise_stay_below_a_megabyte(gaussian):
    """Pictures that hold no structure at all are the largest ones."""
    denoiser, x, cond = gaussian
    shape = (50, 1, 4, 4)
    generator = np.random.default_rng(0)
    estimate = MMG("auto", Trapezoid(16))(
        denoiser, x[:50], {"y": cond["y"][:50]}, logsnr_range=(-6.0, 6.0), keep="level"
    )
    assert estimate.curve.maps["gap"].shape[0] == shape[0]
    maps = {
        name: torch.from_numpy(generator.standard_normal((50, *values.shape[1:-1], 64, 64)))
        for name, values in estimate.curve.maps.items()
    }
    estimate = replace(estimate, curve=replace(estimate.curve, maps=maps))
    images = [generator.random((256, 256, 3), dtype=np.float32) for _ in range(50)]
    page = build_report(estimate, images, [f"a picture of nothing, number {k}" for k in range(50)])
    assert 3e5 < len(page.encode()) < 1e6
    assert page.count('class="thumb"') == 50


# ---- in a browser ----


@needs_chromium
@pytest.mark.parametrize("name", ["null", "candidates"])
def test_a_browser_reads_the_numbers_and_sorts_them(pages, read, name):
    sort = (
        "const heads = document.querySelectorAll('table.cards thead button');"
        "heads[1].focus(); document.activeElement.click();"
        "const slider = document.querySelector('.slider input');"
        "if (slider) { slider.value = 2; slider.dispatchEvent(new Event('input')); }"
    )
    before, after = read[name], seen(pages[name], sort)
    assert after.of("p", id="mean")[0]["data-number"] == before.of("p", id="mean")[0]["data-number"]

    def column(page):
        (table,) = page.of("table", class_="cards")
        return [
            float(cell["data-number"])
            for cell in table.inside
            if cell.attributes.get("data-name", "").startswith("nats (")
        ]

    assert column(after) == sorted(column(before), reverse=True)
    sorts = [head.attributes.get("aria-sort") for head in after.of("th", scope="col")]
    assert sorts.count("descending") == 1
    (slider,) = after.of("div", class_="slider")
    assert "hidden" not in slider.attributes
    assert "hidden" in before.of("div", class_="slider")[0].attributes
    (output,) = after.of("output")
    assert re.match(r"log-SNR -?\d", output.text)
    told = [one for one in after.of("b") if "data-nats" in one.attributes]
    assert all(one.text == re.findall(r"-?[\d.]+", one["data-nats"])[2] for one in told)
    assert len([one for one in after.of("figure") if "here" in (one.attributes.get("class") or "")]) == 1


@needs_chromium
@pytest.mark.parametrize("name", ["null", "candidates", "words"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report_fits_the_screen(pages, tmp_path, name, width):
    """Something is drawn, and nothing reaches into the page's right margin, or is wider than the screen."""
    if width == 390:  # where there is least room
        pixels = shot(pages[name], tmp_path / "page.png", width=width, height=4000)
        assert pixels.shape[1] == width
        drawn = (pixels != pixels[0, 0]).any(2)
        assert drawn.mean() > 0.05
        assert not drawn[:, -8:].any()
    wide = "document.documentElement.dataset.wide = document.documentElement.scrollWidth; const shown = "
    wide += (
        "[...document.querySelectorAll('main :is(td, th)')].filter(one => { const at = one.getBoundingClientRect(); "
    )
    wide += "return at.right > innerWidth || one.scrollWidth > one.clientWidth + 1; }); document.documentElement.dataset.cut = shown.length;"
    (html,) = seen(pages[name], wide, width=width).of("html")
    assert int(html["data-wide"]) <= width
    assert html["data-cut"] == "0", "a cell reaches out of the screen, or holds more than it shows"


@needs_chromium
def test_the_page_follows_dark_mode(pages, tmp_path):
    light, dark = (shot(pages["null"], tmp_path / f"{at}.png", dark=at) for at in (False, True))
    assert light[0, 0].min() > 240
    assert dark[0, 0].max() < 40
    assert np.median(light) > 200
    assert np.median(dark) < 60


@pytest.mark.slow
@needs_chromium
@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_axe_finds_nothing(pages, width, dark):
    for path in pages.values():
        assert broken_rules(path, width=width, dark=dark) == []


@needs_chromium
@needs_axe
def test_axe_would_find_something(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<html><body><img src=''><p style='color:#bbb;background:#fff'>pale</p></body></html>")
    assert {"color-contrast", "image-alt", "html-has-lang"} <= {rule for rule, *_ in broken_rules(page)}


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
    assert "Pair by pair the mean is " in page
