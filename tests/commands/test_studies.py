"""The studies, with small arguments."""

import json
import os
import re

import numpy as np
import pandas
import pytest
from PIL import Image
from safetensors import safe_open

from mmg_diffusers import load, shapes_model
from mmg_diffusers.commands.studies import switching
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes
from tests.commands.calling import CIRCLE, ROOT, answered, call, refused, run


def test_pixel_maps(tmp_path, capsys):
    command = "maps"
    small = ["--pairs", 1, "--steps", 4, "--levels", 4, "--output", tmp_path]
    some = tmp_path / "candidates.txt"
    some.write_text("\n".join(f"a small {c} {s} on the left" for c in ("red", "blue") for s in ("circle", "square")))
    answered(command, *small, "--word", "colour", "--together", "colour,circle", "--prompt", CIRCLE, "--marginal", some)
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
    answered(command, *small, "--overwrite", "--word", "colour", *bands, "--marginal", "null", "--no-whole", "--npz")
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
    arguments = ["shapes", folder, "--prompt", "a red circle", "--levels", 3, "--output", tmp_path]
    command = "maps"
    answered(command, *arguments, "--word", "red", "--replace-by", "blue")
    assert "red: replaced by 'blue'" in capsys.readouterr().out
    with safe_open(tmp_path / "maps.safetensors", framework="pt") as file:
        assert file.get_tensor("red").shape == (1, 24, 40)


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("maps", ["--word", "@9"], "there is no word @9"),
        ("maps", ["--prompt", CIRCLE, "--word", "blue"], "no 'blue' in the prompt"),
        ("maps", ["--prompt", "red on red", "--word", "red"], "say which by its place: @0 or @2"),
        ("maps", ["--band", "3:1"], "the band is '3:1'"),
        ("maps", ["--band", "-1:7"], "between -5.36 and"),
        ("maps", ["--no-whole"], "nothing was asked for"),
        ("maps", ["--together", "colour"], "expected two words"),
        ("maps", ["--marginal", "nowhere.txt"], "which is no file"),
        ("maps", ["--marginal", "negatives:1", "--word", "colour"], "cannot isolate a word"),
        ("influence", ["--at", "1.5"], "tau is 1.5"),
        ("influence", ["--read", "D(1)"], "no reading 'D(1)'"),
        ("influence", ["--prompt", CIRCLE, "--marginal", "prompts"], "candidates need others"),
        ("switch", ["--tau", "-0.1"], "tau is -0.1"),
        ("switch", ["--marginal", "null"], "pictures are read as candidates"),
        ("words", ["--prompt", CIRCLE, "--word", "blue"], "no prompt has the word 'blue'"),
        ("words", ["--replace-by", ""], "candidates say by themselves"),
        ("words", ["--vary", "red"], "such as red=blue,green"),
        ("words", ["--vary", "red=blue", "--marginal", "null"], "candidates of its own"),
        ("words", ["--prompt", CIRCLE, "--vary", "pink=blue"], "none of which is in the prompt"),
    ],
)
def test_commands_refuse_bad_input_before_they_measure(tmp_path, command, arguments, says):
    assert says in refused(command, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompt_influence(world, tmp_path, capsys):
    folder, _ = world
    command = "influence"
    small = ["--pairs", 2, "--levels", 5, "--steps", 4, "--output", tmp_path]
    answered(command, *small, "--generated", "--sampling-steps", 2, "--guidance", 2, "--at", 0.5, "--each", 1)
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
    table = ["--levels", 5, "--rule", "simpson", "--output", tmp_path, "--overwrite"]
    answered(
        command,
        shapes_model(),
        folder,
        *table,
        "--prompt",
        CIRCLE,
        "--prompt",
        "a large blue circle on the right",
        "--word",
        "circle",
    )
    found = json.loads((tmp_path / "influence.json").read_text())["curves"]
    assert list(found) == [f"{p}, circle, null, auto" for p in (CIRCLE, "a large blue circle on the right")]
    assert all(row["word"] == "masked" for row in found.values())
    with safe_open(tmp_path / "pairs.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).shape for name in file.keys()} == {(3, 5)}


def test_prompt_switching(tmp_path, capsys, monkeypatch):
    drawn, arrival = [], switching.arrival
    monkeypatch.setattr(
        switching, "arrival", lambda pipe, made, *rest: drawn.append(made.images) or arrival(pipe, made, *rest)
    )
    small = ["--count", 2, "--sampling-steps", 3, "--times", 3, "--levels", 4]
    answered("switch", *small, "--output", tmp_path)
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
        # The pictures themselves, row by row, in whatever order they lay in memory.
        np.testing.assert_array_equal(file.get_tensor("images").numpy(), drawn[0])


def test_word_information(tmp_path, capsys):
    command = "words"
    small = ["--pairs", 2, "--steps", 3, "--levels", 3, "--output", tmp_path]
    answered(command, *small)
    said = capsys.readouterr().out
    for kind in ("size", "colour", "shape", "side"):
        assert re.search(rf"\| {kind} \| \S+ ± \S+ \|[^|]*\| {Shapes().conditional_information(kind):.3f} \|", said)
    split = json.loads((tmp_path / "words.json").read_text())["shared by two"]["colour, side"]
    assert list(split) == ["interaction", "redundancy", "unique_1", "unique_2", "synergy"]
    assert split["interaction"][0] == pytest.approx(split["redundancy"][0] - split["synergy"][0])
    table = pandas.read_csv(tmp_path / "words.csv")
    assert len(table) == 8
    assert set(table["label"]) == {"size", "colour", "shape", "side"}
    record = load(tmp_path / "words.safetensors")
    assert table["nats"].tolist() == pytest.approx(record.nats.tolist())
    page = (tmp_path / "words.html").read_text()
    # Each of two pictures stands under a strip of its four words' maps, and a word is chosen for its own.
    assert page.count("<img") == 2
    assert page.count('class="over" role="img"') == 2
    assert page.count('<input type="radio"') == 2 * 4
    assert f"{table['word'][0]}: {table['nats'][0]:.2f} ± {table['stderr'][0]:.2f} nats, " in page
    assert (tmp_path / "words.png").stat().st_size > 1000
    answered(
        command, *small, "--overwrite", "--marginal", "null", "--word", "colour", "--word", "side", "--replace-by", ""
    )
    assert json.loads((tmp_path / "words.json").read_text())["words"] == "left out"
    said = capsys.readouterr().out
    assert "colour, side: interaction" in said
    assert "no check tells" in said


def test_words_that_are_varied(tmp_path, capsys):
    picture = tmp_path / "a.png"
    Image.fromarray((Shapes("hard").sample(1, 3).images[0] * 255).astype("uint8")).save(picture)
    small = ["--levels", 3, "--steps", 3, "--no-together", "--output", tmp_path / "out"]
    done = call(
        "words", "shapes", picture, "--prompt", CIRCLE, "--vary", "red=blue,green", "--vary", "left=right", *small
    )
    assert done.exit_code == 0, done.output
    table = pandas.read_csv(tmp_path / "out" / "words.csv")
    assert table["word"].tolist() == ["red", "left"]
    assert json.loads((tmp_path / "out" / "words.json").read_text())["shared by two"] == {}


def test_compare(tmp_path):
    sample = Shapes("hard").sample(2, 3)
    for place, image in enumerate(sample.images):
        Image.fromarray((image * 255).astype("uint8")).save(tmp_path / f"{place}.png")
    names = [f"{place}.png" for place in range(2)]
    pandas.DataFrame({"image": names, "prompt": sample.prompts}).to_csv(tmp_path / "pairs.csv", index=False)
    other = [CAPTIONS[(k + 7) % 48] for k in sample.caption]
    (tmp_path / "other.txt").write_text("\n".join(other))
    small = ["--levels", 4, "--output", tmp_path / "out", "--quiet"]
    done = call("compare", "shapes", tmp_path / "pairs.csv", "--b", tmp_path / "other.txt", *small)
    assert done.exit_code == 0, done.output
    assert "better than b in 100 % of them" in done.output
    table = pandas.read_csv(tmp_path / "out" / "pairs.csv")
    assert table["a"].tolist() == list(sample.prompts)
    assert table["b"].tolist() == other
    record = load(tmp_path / "out" / "comparison.safetensors")
    assert table["nats"].tolist() == pytest.approx(record.nats.tolist())
    assert (tmp_path / "out" / "maps.png").stat().st_size > 1000
    (tmp_path / "other.txt").write_text("one")
    other = ["compare", "shapes", tmp_path / "pairs.csv", "--b", tmp_path / "other.txt"]
    assert "with 1 captions for 2 images" in refused(*other, *small, "--overwrite")
    assert "holds pairs.csv already; choose another --output, or add --overwrite" in refused(*other, *small)


def test_measure_analyses(tmp_path, capsys):
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


def test_measure_funnel(capsys):
    run(ROOT / "scripts" / "measure_funnel.py", "--model", "shapes", "--pairs", 2, "--levels", 4)
    said = capsys.readouterr().out
    assert re.search(r"48 captions ranked for 2 images: \S+ of them followed to the end", said)
    assert "% of 384" in said
    assert len(re.findall(r"^lost: ", said, re.MULTILINE)) == 3
    assert re.search(r"for [012] of 2$", said.strip())
    with pytest.raises(ValueError, match="there is no funnel 'wide'; expected default, second, narrow"):
        run(ROOT / "scripts" / "measure_funnel.py", "--funnel", "wide")
