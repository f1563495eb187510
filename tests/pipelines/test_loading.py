"""What comes from others is data: no code of theirs is run, no file outside of their folder read, no markup of theirs shown."""

import pickle
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import errors

import mmg_diffusers
from mmg_diffusers import MMG, MMGPipeline, shapes_model
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
    found = {path.name for path in SOURCES if re.search(call, path.read_text())}
    # Processes that fit folds together tell each other through pipes that they were started with; nobody else writes to these.
    assert found == ({"workers.py"} if "pickle" in call else set())


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


# ---- what is not there, and why ----


def answered(kind, text):
    """An error of the hub's client about what the hub said to a request."""
    return kind(text, response=Mock(headers={}))


class NoConnectionError(Exception):
    """What the library that makes connections raises; which that is depends on the version of the hub's client."""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shaeps", "OWNER/NAME; did you mean 'shapes'"),
        ("Shapes", "did you mean 'shapes'.*shapes_model"),
        ("stable-diffusion-xl", "OWNER/NAME$"),
        ("x" * 500, r"\(500 characters\): there is no such folder"),
        ("owner/na me", "no id on the hub"),
    ],
)
def test_a_misspelt_name_is_refused_without_the_hub(monkeypatch, name, says):
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_a, **_k: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=says) as refused:
        MMGPipeline.from_pretrained(name)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            lambda: answered(errors.GatedRepoError, "403"),
            (ValueError, "it is gated: ask for access on its page.*token="),
        ),
        (lambda: answered(errors.RepositoryNotFoundError, "404"), (ValueError, "the hub has none that it shows")),
        (lambda: answered(errors.RevisionNotFoundError, "404"), (ValueError, "it has no revision 'main'")),
        (lambda: answered(errors.RemoteEntryNotFoundError, "404"), (ValueError, "it has no model_index.json")),
        (lambda: errors.OfflineModeIsEnabled("off"), (ConnectionError, "while HF_HUB_OFFLINE is set")),
        (
            lambda: answered(errors.HfHubHTTPError, "503 Busy"),
            (ConnectionError, "gave no file of it .503 Busy"),
        ),
        (
            lambda: NoConnectionError("Name or service not known"),
            (ConnectionError, "cannot be reached .Name or"),
        ),
        (lambda: TimeoutError("slow"), (ConnectionError, "while the hub cannot be reached .slow")),
    ],
)
def test_the_hubs_answer_is_said_and_not_guessed_at(monkeypatch, tmp_path, error, says):
    asked = []

    def ask(url, token):
        asked.append(url)
        raise error()

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr(DiffusionPipeline, "load_config", lambda *_a, **_k: pytest.fail("asked again, and again"))
    with pytest.raises(
        says[0], match=f"cannot find a pipeline at 'owner/name': there is no such folder, and.*{says[1]}"
    ):
        MMGPipeline.from_pretrained("owner/name", revision="main", cache_dir=tmp_path)
    assert len(asked) == 1


def test_a_pipeline_in_the_cache_needs_no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_a, **_k: pytest.fail("asked the hub"))
    folder = tmp_path / "models--owner--name"
    shutil.copytree(shapes_model(), folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    MMGPipeline.from_pretrained("owner/name", cache_dir=tmp_path, local_files_only=True)


def test_pickles_are_named_if_they_are_there_and_not_if_they_might_be(pipe, tmp_path):
    def lose(folder):
        next((folder / "unet").glob("*.safetensors")).unlink()

    with pytest.raises(ValueError, match="cannot load") as refused:
        MMGPipeline.from_pretrained(Room(pipe, tmp_path).model(lose))
    assert "convert" not in str(refused.value)


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
    allowed = "html head meta title style body main h1 h2 h3 p div section span b br figure figcaption details summary table caption"
    allowed += " thead tbody tr th td img label input output script"
    drawn = "svg defs clippath rect g path use text tspan"
    assert {tag for tag, _ in tags.found} <= set(f"{allowed} {drawn}".split())
    names = {name for tag, attributes in tags.found for name in attributes if tag in allowed.split()}
    known = "lang charset name content class src alt style id for type min max step value role scope hidden"
    assert {name for name in names if not name.startswith(("data-", "aria-"))} <= {*known.split()}
    # One script, the page's own, and nothing that is named by somebody else.
    assert page.count("<script") == 1
    sources = [attributes["src"] for _, attributes in tags.found if "src" in attributes]
    assert len(sources) == 2 + 2  # in the table, and below maps
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    shown = "".join(tags.text)
    for text in MARKUP:
        assert text in shown


def test_weights_of_a_variant_alone_load_by_its_name(pipe, tmp_path):
    def half_alone(folder):
        for path in list(folder.glob("*/*.safetensors")):
            path.rename(path.with_suffix(".fp16.safetensors"))

    folder = Room(pipe, tmp_path).model(half_alone)
    with pytest.raises(ValueError, match="variant='fp16'") as refused:
        MMGPipeline.from_pretrained(folder)
    assert "convert it" not in str(refused.value)
    assert MMGPipeline.from_pretrained(folder, variant="fp16").fingerprint() == pipe.fingerprint()
