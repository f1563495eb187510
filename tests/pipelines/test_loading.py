"""What comes from others is data: no code of theirs is run, no file outside of their folder read, no markup of theirs shown."""

import pickle
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import mmg_diffusers
from mmg_diffusers import MMG, MMGPipeline
from mmg_diffusers.commands.report import build_report
from mmg_diffusers.denoisers.exact import MixtureDenoiser
from mmg_diffusers.measure.quadrature import Trapezoid
from tests.bad_inputs.room import Room

ROOT = Path(mmg_diffusers.__file__).parent.parent
SOURCES = [path for folder in ("mmg_diffusers", "scripts", "examples") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize(
    "call",
    [
        r"trust_remote_code",
        r"(?<!safetensors\.)\btorch\.load\(",
        r"\bimport pickle|allow_pickle(?!=False)|\bunpickle",
        r"(?<![\w.])(eval|exec|compile)\(",
        r"shell=True|os\.system",
        r"use_safetensors=False",
        r"custom_pipeline",
    ],
)
def test_no_source_runs_what_it_reads(call):
    assert len(SOURCES) > 40
    assert [path.name for path in SOURCES if re.search(call, path.read_text())] == []


class Payload:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".pth"])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_not_even_opened(pipe, tmp_path, part, suffix):
    def only_pickled(folder):
        weights = next((folder / part).glob("*.safetensors"))
        name = "pytorch_model" if part == "text_encoder" else weights.stem
        (folder / part / f"{name}{suffix}").write_bytes(pickle.dumps(Payload(tmp_path / "was_run")))
        weights.unlink()

    folder = Room(pipe, tmp_path).model(only_pickled)
    with pytest.raises(ValueError, match=r"Only safetensors weights are read.*safe_serialization=True"):
        MMGPipeline.from_pretrained(folder)
    assert not (tmp_path / "was_run").exists()


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


MARKUP = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe src='https://example.org'>",
    "a &lt;b&gt; that is no tag &amp;",
    "costs $5, or $\\frac{1}{0}$ and ${",
    "<!-- a comment",
]


@pytest.fixture(scope="module")
def measured():
    """Maps of two pairs, with markup wherever text of others may stand."""
    means = torch.zeros(2, 1, 4, 4)
    means[1] += 2
    denoiser = MixtureDenoiser(torch.ones(2), means, torch.ones(2))
    denoiser.notes = (MARKUP[0],)
    x = means + torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return MMG("auto", Trapezoid(6))(
        denoiser,
        x,
        {"label": torch.tensor([0, 1])},
        logsnr_range=(-6, 6),
        keep="pixel",
        settings={"model": MARKUP[1], MARKUP[2]: 1},
    )


def test_text_is_shown_in_a_report_and_not_obeyed(measured):
    images = [torch.full((3, height, 16), 0.5) for height in (16, 24)]
    page = build_report(measured, images, [" ".join(MARKUP), MARKUP[4]], title=MARKUP[1])
    tags = Tags()
    tags.feed(page)
    allowed = set(
        [
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "h1",
            "h2",
            "p",
            "div",
            "figure",
            "figcaption",
            "table",
            "tr",
            "th",
            "td",
            "img",
        ]
    )
    assert {tag for tag, _ in tags.found} <= allowed
    assert {name for _, attributes in tags.found for name in attributes} <= set(
        ["lang", "charset", "name", "content", "class", "src", "alt"]
    )
    sources = [attributes["src"] for _, attributes in tags.found if "src" in attributes]
    assert len(sources) == 2 + 3 + 4  # thumbnails, curves, and two maps a pair
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    shown = "".join(tags.text)
    for text in MARKUP:
        assert text in shown
