"""Every example, script and command runs, with small arguments."""

import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from mmg_diffusers import Estimate, shapes_model
from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands.app import app
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.worlds.shapes import Shapes

ROOT = Path(__file__).parents[2]


def run(path, *arguments):
    """As a user would run it, in this process."""
    old = sys.argv
    sys.argv = [str(path), *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = old
    assert stop.value.code == 0


CIRCLE = "a small red circle on the left"

EXAMPLES = {
    "quickstart.py": ["--pairs", 2, "--levels", 4],
    "candidates.py": ["--pairs", 2, "--steps", 4],
    "own_denoiser.py": ["--pairs", 2000],
    "own_network.py": ["--pairs", 2000],
}


def test_every_example_is_run():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, capsys):
    run(ROOT / "examples" / name, *EXAMPLES[name])
    said = capsys.readouterr().out
    assert "nats" in said
    truths = {"own_denoiser.py": 0.8304, "own_network.py": 0.3681}
    if name in truths:
        exact = float(re.search(r"exactly (\S+) nats", said)[1])
        assert exact == pytest.approx(truths[name], abs=1e-4)
        found = re.findall(r"^(\S+) \+- (\S+) nats", said, re.MULTILINE)
        assert found
        for value, stderr in found:
            assert abs(float(value) - exact) < 4 * float(stderr) < 0.2


# ---- the command line ----


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sample = Shapes("soft").sample(3, seed=4)
    for k, image in enumerate(sample.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / f"{k}.png")
    return folder, sample


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_help_has_examples():
    for command in ("demo", "estimate", "inspect"):
        said = call(command, "--help")
        assert said.exit_code == 0
        assert "Example:" in said.output
    assert call("--version").output.strip()


def test_inspect():
    said = call("inspect", "shapes")
    assert said.exit_code == 0, said.output
    for word in ("Stable Diffusion", "v_prediction", "empty prompt", "latent_scaling", "1000", "nothing"):
        assert word in said.output


def test_estimate_of_a_folder_with_one_prompt(world, tmp_path):
    folder, _ = world
    out = tmp_path / "out"
    said = call("estimate", "shapes", folder, "--prompt", "a red circle", "--levels", 3, "--output", out, "--quiet")
    assert said.exit_code == 0, said.output
    assert "+-" in said.output
    assert "3 pairs" in said.output
    table = pandas.read_csv(out / "pairs.csv")
    record = Estimate.load(out / "estimate.safetensors")
    assert table["nats"].tolist() == pytest.approx(record.nats.tolist())
    assert table["prompt"].tolist() == ["a red circle"] * 3


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_estimate_of_a_table(world, tmp_path, kind):
    folder, sample = world
    rows = pandas.DataFrame({"file_name": ["2.png", "0.png"], "text": [sample.prompts[2], sample.prompts[0]]})
    path = folder / f"pairs.{kind}"
    if kind == "csv":
        rows.to_csv(path, index=False)
    elif kind == "jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        pytest.importorskip("pyarrow")
        rows.to_parquet(path)
    out = tmp_path / "out"
    said = call("estimate", "shapes", path, "--levels", 3, "--output", out, "--quiet", "--maps")
    assert said.exit_code == 0, said.output
    table = pandas.read_csv(out / "pairs.csv")
    assert [Path(p).name for p in table["image"]] == ["2.png", "0.png"]
    assert Estimate.load(out / "estimate.safetensors").pixel_map()[0].shape == (2, 8, 8)


def test_estimate_against_candidates(world, tmp_path):
    folder, sample = world
    table = pandas.DataFrame({"image": ["0.png", "1.png", "2.png"], "prompt": sample.prompts})
    table.to_csv(folder / "against.csv", index=False)
    out = tmp_path / "out"
    arguments = ["estimate", "shapes", folder / "against.csv", "--levels", 4, "--output", out, "--quiet"]
    said = call(*arguments, "--marginal", "prompts", "--maps")
    assert said.exit_code == 0, said.output
    assert f"nats or more, over 3 pairs and {len(set(sample.prompts))} candidates" in said.output
    assert "against the mixture:" in said.output
    record = Filtered.load(out / "filter.safetensors")
    assert pandas.read_csv(out / "pairs.csv")["nats"].tolist() == pytest.approx(record.nats.tolist())
    assert record.against_mixture.pixel_map()[0].shape == (3, 8, 8)
    said = call(*arguments, "--marginal", "negatives:2")
    assert "cannot exceed ln 3" in said.output
    (tmp_path / "few.txt").write_text("a cat\na dog\n")
    for more, says in (
        (["--marginal", tmp_path / "few.txt"], "is not among the 2 candidates"),
        (["--marginal", "nowhere"], "which is no file"),
        (["--marginal", "prompts", "--given", "a"], "belongs to the null prompt"),
        (["--marginal", "negatives:9"], "9 negatives need 10 pairs"),
    ):
        said = call(*arguments, *more)
        assert said.exit_code == 2
        assert says in " ".join(said.output.split())


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
    for word in ("Certificate", "orthogonal", "denoising errors"):
        assert word in null
    for word in ("nats or more", "log q, a bound", "Never above", "information of each word", "Settled"):
        assert word in candidates


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


def test_demo(tmp_path):
    said = call("demo", "--pairs", 4, "--levels", 6, "--steps", 6, "--output", tmp_path / "demo", "--quiet")
    assert said.exit_code == 0, said.output
    for word in (
        "exact I(image; caption)",
        f"{Shapes().mutual_information():.3f}",
        "bound, 48 captions",
        "gap",
        "orthogonal",
        "auto",
        "certificate",
    ):
        assert word in said.output
    for name in ("mmse.png", "maps.png", "influence.png"):
        with Image.open(tmp_path / "demo" / name) as picture:
            assert min(picture.size) > 200
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["pairs"] == 4
    record = Estimate.load(tmp_path / "demo" / "estimate.safetensors")
    assert summary["gap"][0] == pytest.approx(record.using("gap").mean().value)


# ---- scripts ----


def test_train_shapes_resumes_to_the_same_model(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    def train(folder):
        train_shapes.main(
            folder,
            vae_steps=2,
            vae_batch=4,
            unet_steps=2,
            unet_batch=4,
            refine_steps=2,
            refine_batch=4,
            odds_steps=2,
            odds_batch=2,
            neighbours=32,
            save_every=1,
        )
        return (folder / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()

    undisturbed = train(tmp_path / "one")
    said = call("inspect", tmp_path / "one" / "model")
    assert said.exit_code == 0, said.output

    save, saved = train_shapes.save_checkpoint, []

    def save_and_stop(path, *args):
        save(path, *args)
        saved.append(path)
        if len(saved) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_shapes, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two")
    assert not (tmp_path / "two" / "model").exists()
    assert train(tmp_path / "two") == undisturbed
    assert len(saved) == 4 + 4


def test_averaged_targets_of_train_shapes_mean_what_plain_ones_do(monkeypatch):
    """Against an exact law: two labelled, overlapping Gaussian blobs. The mean is kept and the noise is not."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    generator = torch.Generator().manual_seed(3)

    def draw(count):
        x = torch.randn(count, 2, generator=generator) + 2 * torch.randint(2, (count, 1), generator=generator)
        # What a caption says of x, softly: the posterior of two captions.
        posterior = torch.stack([-x[:, 0], x[:, 0] - 1], 1).softmax(1)
        return x[:, :, None, None], posterior, torch.multinomial(posterior, 1, generator=generator)[:, 0]

    # Few neighbours, renewed for every noisy point, so that a bias of theirs would show.
    averaged, plain, weight = [], [], []
    alpha = torch.tensor([0.3])
    for _ in range(2000):
        bank, bank_posterior, _ = draw(30)
        x, posterior, caption = draw(1)
        z = alpha.sqrt() * x + (1 - alpha).sqrt() * torch.randn(x.shape, generator=generator)
        neighbours = train_shapes.Neighbours(bank, bank_posterior)
        given, null = neighbours(z, alpha, x, caption, posterior)
        averaged.append(torch.stack([given, null]).flatten(1))
        plain.append(x.flatten())
        weight.append(torch.cat([torch.ones(1), z.flatten().tanh(), (caption * 2.0 - 1) * z.flatten().sin()]))
    averaged, plain, weight = torch.stack(averaged), torch.stack(plain), torch.stack(weight)
    known = (slice(None), slice(0, 3))
    for form, functions in enumerate((weight, weight[known])):
        # Orthogonal to every function of what the network sees: z, and the caption where it is given.
        error = (averaged[:, form] - plain)[:, :, None] * functions[:, None]
        assert (error.mean(0) / (error.std(0) / len(error) ** 0.5)).abs().max() < 4
        exact_noise = (plain - plain.mean(0)).var(0)
        assert (averaged[:, form].var(0) < 0.7 * exact_noise).all()


def test_caption_odds_of_train_shapes_are_least_for_the_exact_network(monkeypatch):
    """Against a closed form: four pictures, each with its own captions of twelve, and others now and then."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    torch.manual_seed(5)
    pictures = 2 * torch.eye(4)
    captions = torch.arange(48)
    # p(caption | picture); all captions are equally likely over all pictures.
    posterior = torch.tensor([0.6, 0.2, 0.15, 0.05])[(captions // 12 - torch.arange(4)[:, None]) % 4] / 12

    class Denoising(torch.nn.Module):
        """The exact network of these pictures; `told` is what it takes each caption for."""

        def __init__(self, told):
            super().__init__()
            self.told = told
            self.tokens = captions
            self.alphas = train_shapes.make_scheduler().alphas_cumprod

        def forward(self, *batch):
            return torch.zeros(()), {}

        def text(self, tokens):
            return SimpleNamespace(last_hidden_state=tokens)

        def unet(self, z, level, caption):
            alpha = self.alphas[level][:, None]
            seen = z.flatten(1)
            square = (seen[:, None] - alpha[..., None].sqrt() * pictures).square().sum(2)
            share = (posterior.T[self.told[caption]].log() - square / (2 * (1 - alpha))).softmax(1)
            v = (alpha.sqrt() * seen - share @ pictures) / (1 - alpha).sqrt()
            return SimpleNamespace(sample=v.view_as(z))

    which = torch.randint(4, (400,))
    x = pictures[which].view(400, 4, 1, 1)
    spoken = torch.multinomial(posterior[which], 1)[:, 0]

    # Below 4 the network's own levels lie close enough for small steps; every image is followed.
    monkeypatch.setattr(train_shapes.CaptionOdds, "CLEANEST", 4.0)
    monkeypatch.setattr(train_shapes.CaptionOdds, "FOLLOWED", len(x))

    def excess(told, levels=27):
        monkeypatch.setattr(train_shapes.CaptionOdds, "LEVELS", levels)
        loss, numbers = train_shapes.CaptionOdds(Denoising(told))(x, spoken, posterior[which])
        assert loss == numbers["odds"]
        return float(loss)

    rivals = train_shapes.CaptionOdds(Denoising(captions))._rivals(spoken, posterior[which])
    assert (rivals != spoken[:, None]).all()
    assert (rivals[:, 0] != rivals[:, 1]).all()
    exact = excess(captions)
    assert 0 <= exact < 0.03
    # What is left is the step's.
    assert 0 <= excess(captions, levels=105) < exact / 2
    # Of wide steps it is less by what their variance has of the image; 0.051 with that of the noise alone.
    torch.manual_seed(6)
    assert excess(captions, levels=14) < 0.046
    assert excess(captions.roll(12)) > exact + 0.5
    # Taking one caption of the first kind for one of the second now and then is enough to be seen.
    assert excess(torch.where(captions % 12 == 0, captions.roll(12), captions)) > exact + 0.05


def test_caption_odds_of_train_shapes_denoise_every_image_and_follow_a_few(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    denoised, followed = [], []

    class Denoising(torch.nn.Module):
        def forward(self, x, captions, posterior):
            denoised.append(x)
            return torch.tensor(2.0), {}

    def scores(x, rows):
        followed.append(x)
        return torch.zeros(rows.shape)

    odds = train_shapes.CaptionOdds(Denoising())
    monkeypatch.setattr(odds, "_scores", scores)
    x, captions = torch.randn(16, 4, 8, 8), torch.arange(16)
    loss, numbers = odds(x, captions, torch.rand(16, 48))
    assert torch.equal(denoised[0], x)
    assert torch.equal(followed[0], x[: odds.FOLLOWED])
    assert loss == odds.WEIGHT * 2 + numbers["odds"]
    assert odds.WEIGHT > 1  # or images come out pale


def test_the_mean_of_the_paths_posteriors_of_measure_shapes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from measure_shapes import mixed

    # One path is nearly sure of the truth, the other nearly sure that it is not: by their evidence they cancel.
    told = torch.tensor([[[[6.0, 0.0]], [[-6.0, 0.0]]]], dtype=torch.float64)
    curve = CandidateCurve(told, torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([0]), 4)
    prior = torch.tensor([0.25, 0.75], dtype=torch.float64)
    nats = mixed(Classification(curve, ("a", "b"), prior), ["a"])
    odds = torch.tensor([math.exp(6.0), math.exp(-6.0)], dtype=torch.float64) / 3
    torch.testing.assert_close(nats, ((odds / (1 + odds)).mean() / 0.25).log()[None])


def test_measure_shapes(tmp_path, capsys):
    arguments = [
        "--pairs",
        "4",
        "--fitted",
        "4",
        "--draws",
        "2",
        "--steps",
        "4",
        "--null-levels",
        "4",
        "--generated",
        "2",
        "--sampling-steps",
        "2",
    ]
    script = ROOT / "scripts" / "measure_shapes.py"
    run(script, "--output", tmp_path, *arguments, "--stage", "candidates-soft")
    said = capsys.readouterr().out
    assert "| | soft |" in said
    assert "the first 2 of the paths" in said
    assert "null prompt" not in said
    run(script, "--output", tmp_path, *arguments)
    said = capsys.readouterr().out
    assert "| | soft | hard |" in said
    assert "null prompt, gap" in said
    assert (tmp_path / "table.md").read_text() in said
    assert (tmp_path / "figure.png").stat().st_size > 1000
    # Stages that are there are read back.
    before = os.stat(tmp_path / "null-soft.json").st_mtime_ns
    run(script, "--output", tmp_path, *arguments)
    assert os.stat(tmp_path / "null-soft.json").st_mtime_ns == before


def test_measure_analyses(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = ROOT / "scripts" / "measure_analyses.py"
    small = ["--pairs", 2, "--few", 2, "--steps", 2, "--draws", 1, "--map-draws", 1, "--prune", 0.015]
    small += ["--null-levels", 4, "--switched", 2, "--sampling-steps", 1, "--output", tmp_path]
    run(script, *small, "--stage", "pruning")
    assert "evaluations saved" in capsys.readouterr().out
    before = os.stat(tmp_path / "pruning.json").st_mtime_ns
    run(script, *small)
    assert os.stat(tmp_path / "pruning.json").st_mtime_ns == before
    said = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() in said
    for word in (
        "final posterior, I",
        "colour given the rest",
        "gap - log q, worst of 10 levels",
        "influence at tau = T is the MI of the run | True | exactly | yes",
        "colour: AUROC",
        "colour: distractor's mean",
        "| 1e-6 | yes |",
        "share of a map from log-SNR 3 up",
        "wins half of the time",
        "4 steps, 2 pairs",
    ):
        assert word in said
    for name in ("maps.png", "influence.png"):
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"other settings.*pairs: 2 there, 3 now"):
        run(script, *small[2:], "--pairs", 3)


def test_pixel_maps(tmp_path, capsys):
    script = ROOT / "scripts" / "pixel_maps.py"
    small = ["--pairs", 1, "--steps", 4, "--levels", 4, "--output", tmp_path]
    some = tmp_path / "candidates.txt"
    some.write_text("\n".join(f"a small {c} {s} on the left" for c in ("red", "blue") for s in ("circle", "square")))
    run(script, *small, "--word", "colour", "--together", "colour,circle", "--prompt", CIRCLE, "--marginal", some)
    said = capsys.readouterr().out
    for word in (
        "| prompt |",
        "| colour |",
        "| colour, gap |",
        "| colour,circle, synergy |",
        "what other candidates say",
    ):
        assert word in said
    bands = ["--band", "-2:1", "--band", "1:"]
    run(script, *small, "--word", "colour", *bands, "--marginal", "null", "--no-whole", "--npz")
    said = capsys.readouterr().out
    assert "colour: masked" in said
    with safe_open(tmp_path / "maps.safetensors", framework="pt") as file:
        maps = {name: file.get_tensor(name) for name in file.keys()}
    assert maps["colour"].shape == maps["colour/stderr"].shape == (1, 32, 32)
    assert float(maps["colour, gap"].min()) < 0 <= float(maps["colour"].min())
    assert (maps["colour, -2:1"] + maps["colour, 1:"] <= maps["colour"] + 1e-9).all()
    with np.load(tmp_path / "maps.npz") as arrays:
        assert np.array_equal(arrays["colour"], maps["colour"].numpy())
    record = json.loads((tmp_path / "maps.json").read_text())
    assert record["nats"]["colour"] == pytest.approx(maps["colour"].sum((1, 2)).tolist())
    assert record["measured"]["colour"]["settings"]["given"] == "the prompt with words masked"
    assert (tmp_path / "maps.png").stat().st_size > 1000


def test_pixel_maps_of_images_that_are_not_square(world, tmp_path, capsys):
    folder = tmp_path / "wide"
    folder.mkdir()
    Image.new("RGB", (40, 24), "gray").save(folder / "wide.png")
    arguments = [folder, "--prompt", "a red circle", "--levels", 3, "--output", tmp_path]
    script = ROOT / "scripts" / "pixel_maps.py"
    run(script, *arguments, "--word", "red", "--replace-by", "blue")
    assert "red: replaced by 'blue'" in capsys.readouterr().out
    with safe_open(tmp_path / "maps.safetensors", framework="pt") as file:
        assert file.get_tensor("red").shape == (1, 24, 40)


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("pixel_maps.py", ["--word", "@9"], "there is no word @9"),
        ("pixel_maps.py", ["--prompt", CIRCLE, "--word", "blue"], "no 'blue' in the prompt"),
        ("pixel_maps.py", ["--prompt", "red on red", "--word", "red"], "say which by its place: @0 or @2"),
        ("pixel_maps.py", ["--band", "3:1"], "the band is '3:1'"),
        ("pixel_maps.py", ["--band", "-1:7"], "between -5.36 and"),
        ("pixel_maps.py", ["--no-whole"], "nothing was asked for"),
        ("pixel_maps.py", ["--together", "colour"], "expected two words"),
        ("pixel_maps.py", ["--marginal", "nowhere.txt"], "which is no file"),
        ("pixel_maps.py", ["--marginal", "negatives:1", "--word", "colour"], "cannot isolate a word"),
        ("prompt_influence.py", ["--at", "1.5"], "tau is 1.5"),
        ("prompt_influence.py", ["--read", "D(1)"], "no reading 'D\\(1\\)'"),
        ("prompt_influence.py", ["--prompt", CIRCLE, "--marginal", "prompts"], "candidates need others"),
        ("prompt_switching.py", ["--tau", "-0.1"], "tau is -0.1"),
        ("prompt_switching.py", ["--marginal", "null"], "pictures are read as candidates"),
        ("word_information.py", ["--prompt", CIRCLE], "which words"),
        ("word_information.py", ["--word", "colour"], "every word that differs is measured"),
    ],
)
def test_scripts_refuse_bad_input_before_they_measure(tmp_path, script, arguments, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        run(ROOT / "scripts" / script, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompt_influence(world, tmp_path, capsys):
    folder, _ = world
    script = ROOT / "scripts" / "prompt_influence.py"
    small = ["--pairs", 2, "--levels", 5, "--steps", 4, "--output", tmp_path]
    with pytest.warns(UserWarning, match="do not sample"):
        run(script, *small, "--generated", "--sampling-steps", 2, "--guidance", 2, "--at", 0.5, "--each", 1)
    said = capsys.readouterr().out
    names = ("null, gap", "null, orthogonal", "null, C(1)", "shapes, log q")
    for word in names:
        assert f"| {word} |" in said
    assert "still to come at tau 0.5" in said
    assert "warning: images were drawn with guidance 2" in said
    rows = pandas.read_csv(tmp_path / "influence.csv")
    assert set(rows["curve"]) == set(names)
    gap = rows[rows["curve"] == "null, gap"]
    assert gap["tau"].iloc[0] == pytest.approx(1.0)
    assert gap["timestep"].iloc[0] == pytest.approx(999)
    assert gap["nats"].iloc[-1] == 0.0
    assert (tmp_path / "influence-000.png").stat().st_size > 1000
    # Prompts, words and models side by side.
    table = ["--model", shapes_model(), "--levels", 4, "--rule", "simpson", "--output", tmp_path]
    run(script, folder, *table, "--prompt", CIRCLE, "--prompt", "a large blue circle on the right", "--word", "circle")
    found = json.loads((tmp_path / "influence.json").read_text())["curves"]
    assert list(found) == [f"{p}, circle, null, auto" for p in (CIRCLE, "a large blue circle on the right")]
    assert all(row["word"] == "masked" for row in found.values())
    with safe_open(tmp_path / "pairs.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).shape for name in file.keys()} == {(3, 4)}


def test_prompt_switching(tmp_path, capsys):
    small = ["--count", 2, "--sampling-steps", 3, "--times", 3, "--steps", 4]
    run(ROOT / "scripts" / "prompt_switching.py", *small, "--output", tmp_path)
    said = capsys.readouterr().out
    assert "half of the information has arrived at tau" in said
    assert "wins half of the time from tau" in said
    found = json.loads((tmp_path / "switching.json").read_text())
    assert found["switch_at_step"] == [0, 1, 3]
    assert found["switch_at_logsnr"] == sorted(found["switch_at_logsnr"])
    assert found["switch_at_tau"][-1] == 0.0
    assert all(0 <= share <= 1 for share in found["first_wins"])
    with safe_open(tmp_path / "switching.safetensors", framework="pt") as file:
        assert file.get_tensor("images").shape == (3, 2, 32, 32, 3)


def test_word_information(tmp_path, capsys):
    script = ROOT / "scripts" / "word_information.py"
    small = ["--pairs", 2, "--steps", 3, "--levels", 3, "--output", tmp_path]
    run(script, *small)
    said = capsys.readouterr().out
    for kind in ("size", "colour", "shape", "side"):
        assert re.search(rf"\| {kind} \| \S+ ± \S+ \| {Shapes().conditional_information(kind):.3f} \|", said)
    split = json.loads((tmp_path / "words.json").read_text())["shared by two"]["colour, side"]
    assert set(split) == {"redundancy", "unique_1", "unique_2", "synergy", "interaction"}
    table = pandas.read_csv(tmp_path / "words.csv")
    assert split["interaction"][0] == pytest.approx((table["colour and side"] - table["colour"] - table["side"]).mean())
    assert (tmp_path / "words.png").stat().st_size > 1000
    run(script, *small, "--marginal", "null", "--word", "colour", "--word", "side", "--replace-by", "")
    assert json.loads((tmp_path / "words.json").read_text())["words"] == "left out"
    assert "colour, side: interaction" in capsys.readouterr().out


def test_benchmarks(tmp_path, capsys):
    small = ["--train", 1000, "--test", 200, "--steps", 10, "--workers", 1, "--output", tmp_path, "--seeds", 2]
    script = ROOT / "scripts" / "benchmark_bmi.py"
    run(script, "--task", "1v1-normal-0.75", "--joint", *small)
    said = capsys.readouterr().out
    for word in ("Bivariate normal", "auto, gap-fitted", "orthogonal, published adaptive", "MINDE-C(1)", "MINDE-J(1)"):
        assert word in said
    assert (tmp_path / "figure.png").stat().st_size > 1000
    done = tmp_path / "1v1-normal-0.75.100.json"
    made = json.loads(done.read_text())
    assert abs(made["values"]["auto, gap-fitted"][0] - 0.4133) < 0.2
    assert made["versions"] == versions()
    # What is there is read back, and another plan is not mixed in.
    before = os.stat(done).st_mtime_ns
    run(script, "--task", "1v1-normal-0.75", "--joint", *small)
    assert os.stat(done).st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings"):
        run(script, "--task", "1v1-normal-0.75", "--quick", "--output", tmp_path)


def test_high_mi_benchmark(tmp_path, capsys):
    small = ["--train", 1000, "--test", 200, "--steps", 10, "--workers", 1, "--output", tmp_path, "--seeds", 1]
    run(ROOT / "scripts" / "benchmark_high_mi.py", "--task", "multinormal-sparse-3-3-2-200.0", *small)
    said = capsys.readouterr().out
    assert "strength 200" in said
    row = next(line for line in said.splitlines() if "strength 200" in line)
    assert row.split("|")[4].strip() == "-"  # one seed has no spread


def test_scaling(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    import scaling

    def here(model, pairs, levels, processes):
        out = tmp_path / f"{pairs}-{processes}"
        scaling.measure(model, pairs, levels, out)
        return {"processes": processes, **json.loads((out / "measured.json").read_text())}

    monkeypatch.setattr(scaling, "in_processes", here)
    scaling.compare(tmp_path, [10, 40], 12, 2)
    said = capsys.readouterr().out
    assert said.endswith((tmp_path / "table.md").read_text())
    for start in ("| 1 | 10 |", "| 1 | 40 |", "| 1 | 12 |", "| 2 | 12 |"):
        assert start in said
    runs = json.loads((tmp_path / "scaling.json").read_text())["runs"]
    assert all(run["peak_bytes"] >= run["peak_bytes_before"] > 2**26 for run in runs)


def test_calls_for_error(capsys):
    script = ROOT / "scripts" / "benchmarks" / "calls_for_error.py"
    run(script, "--pairs", 2, "--seeds", 2, "--evaluations", 8, "--fine", 8)
    rows = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("| oracle", "| Shapes"))
    ]
    assert len(rows) == 2 * 4
    # The default's error is below that of independent levels with separate noise, by far.
    for row in rows:
        assert "papers" in row[2] or float(row[-1].split(" ")[0]) > 4


def test_overhead(capsys):
    script = ROOT / "scripts" / "benchmarks" / "overhead.py"
    threads = torch.get_num_threads()
    try:
        run(script, "--pairs", 1, "--levels", 2, "--rows", 2, "--rounds", 1)
    finally:
        torch.set_num_threads(threads)
    share = re.search(r"pipeline / network, median of 1 turns \| ([\d.]+) \|", capsys.readouterr().out)
    assert share is not None
    assert float(share[1]) > 0


@pytest.mark.slow
def test_scaling_in_processes_of_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    run(ROOT / "scripts" / "benchmarks" / "scaling.py", "compare", "--pairs", 10, "--shared", 70, "--output", tmp_path)
    assert "| 2 | 70 |" in capsys.readouterr().out


@pytest.mark.slow
def test_kill_and_resume(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    script = ROOT / "scripts" / "benchmarks" / "kill_and_resume.py"
    run(script, "--runs", 1, "--pairs", 96, "--output", tmp_path)
    said = capsys.readouterr().out
    for processes in (1, 2):
        found = json.loads((tmp_path / f"{processes}-00.json").read_text())
        assert found["identical"]
        assert (found["lost"], found["twice"], found["kept"]) == (0, 0, found["shards"])
        assert f"| {processes} | 1 |" in said
    # What is done is not done again.
    before = os.stat(tmp_path / "1-00.json").st_mtime_ns
    run(script, "--runs", 1, "--pairs", 96, "--output", tmp_path)
    assert os.stat(tmp_path / "1-00.json").st_mtime_ns == before


def test_the_shipped_model_is_where_it_is_said_to_be():
    assert (shapes_model() / "model_index.json").is_file()
