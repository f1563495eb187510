"""The command line, with small arguments."""

import json
import sys
from pathlib import Path

import pandas
import pytest
import typer
from PIL import Image

from mmg_diffusers import Estimate, load
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands import demo
from mmg_diffusers.commands.console import with_messages
from mmg_diffusers.commands.entry import main
from mmg_diffusers.commands.running import of_outcome
from mmg_diffusers.pairs.rows import Label
from mmg_diffusers.runs.shards import Failure, Outcome
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import CIRCLE, call


def test_help_has_examples():
    for command in ("demo", "estimate", "inspect"):
        said = call(command, "--help")
        assert said.exit_code == 0
        assert "Example:" in said.output
    assert call("--version").output.strip() == call("-V").output.strip() != ""
    for command in ((), ("estimate",), ("benchmark", "bmi")):
        assert call(*command, "-h").output == call(*command, "--help").output


def test_long_messages_and_reasons_are_shortened(world, tmp_path, capsys):
    folder, _ = world
    long = "x" * 100_000
    rows = [{"image": f"{k}.png", "prompt": long} for k in range(2)]
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = call("estimate", "shapes", folder / "long.jsonl", "--marginal", "prompts", "--output", tmp_path)
    assert said.exit_code == 2
    assert "all 2 prompts are 'xxx" in said.output
    assert len(said.output) < 500

    @with_messages
    def fail():
        raise ValueError(f"the beginning {long} the end")

    with pytest.raises(typer.Exit) as stop:
        fail()
    assert stop.value.exit_code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: the beginning xx")
    assert message.endswith("xx the end\n")
    assert len(message) < 2200
    with pytest.raises(typer.Exit) as stop:
        of_outcome(Outcome(None, (Failure(0, long),), {0: Label("a.png", "b", None, "")}), tmp_path).show(json=False)
    assert stop.value.exit_code == 3
    assert len(capsys.readouterr().out) < 600


def test_inspect():
    said = call("inspect", "shapes")
    assert said.exit_code == 0, said.output
    shown = " ".join(said.output.replace("│", " ").split())
    for word in ("Stable Diffusion", "v_prediction", "empty prompt", "factor 0.668", "999 at the noisy", "maps open"):
        assert word in shown


def test_inspect_of_a_refused_model(tmp_path):
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "SanaSprintPipeline", "vae": ["diffusers", "AutoencoderDC"]}'
    )
    said = call("inspect", tmp_path)
    assert said.exit_code == 0, said.output
    said = " ".join(said.output.replace("│", " ").split())
    for words in ("vae (AutoencoderDC)", "distilled to a few steps", "measure_candidates", "not open: refused"):
        assert words in said


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


def test_a_plan_says_what_an_error_costs_and_measures_no_more(world, tmp_path):
    folder, _ = world
    out = tmp_path / "out"
    shared = ["shapes", folder, "--prompt", CIRCLE, "--levels", 2, "--quiet"]
    for command, more in (
        ("estimate", ["--output", out]),
        ("report", ["--output", out / "a.html"]),
        ("run", ["--output", out]),
    ):
        said = call(command, *shared, *more, "--plan", 1000)
        assert said.exit_code == 0, said.output
        # 3 pairs, 2 levels, noise of both signs, 2 branches.
        assert "3 pilot pairs: pairs differ by" in said.output
        assert "the mean of 3 pairs takes 1 draw(s) of each: 24 evaluations, " in said.output
        assert not out.exists()
    said = call("estimate", *shared, "--plan", 1e-6)
    assert "cannot be had from 3 pairs" in said.output
    said = call("estimate", *shared, "--plan", 0)
    assert said.exit_code == 2
    assert "expected a standard error in nats, above 0" in said.output


def test_estimate_against_candidates(world, tmp_path):
    folder, sample = world
    table = pandas.DataFrame({"image": ["0.png", "1.png", "2.png"], "prompt": sample.prompts})
    table.to_csv(folder / "against.csv", index=False)
    out = tmp_path / "out"
    arguments = ["estimate", "shapes", folder / "against.csv", "--levels", 4, "--output", out, "--quiet", "--overwrite"]
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


def test_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "CALIBRATED", 4)
    said = call("demo", "--pairs", 3, "--levels", 4, "--steps", 4, "--output", tmp_path / "demo", "--quiet")
    assert said.exit_code == 0, said.output
    for word in (
        "verdict on the null prompt: ",
        "exact I(image; caption)",
        f"{Shapes().mutual_information():.3f}",
        f"{Shapes().entropy():.3f}",
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
    assert summary["pairs"] == 3
    record = Estimate.load(tmp_path / "demo" / "estimate.safetensors")
    assert summary["gap"][0] == pytest.approx(record.using("gap").mean().value)


def test_a_run_of_likelihoods(world, tmp_path):
    folder, sample = world
    lines = [json.dumps({"image": f"{k}.png", "prompt": sample.prompts[k]}) for k in range(2)]
    (folder / "likely.jsonl").write_text("\n".join(lines), "utf-8")
    small = ("--levels", "3", "--quiet", "--device", "cpu")
    said = call(
        "run", "shapes", folder / "likely.jsonl", "--output", tmp_path / "run", "--marginal", "likelihood", *small
    )
    assert said.exit_code == 0, said.output
    assert "log p = " in said.output
    # Of two images: said first.
    assert said.output.index("verdict: take with caution") < said.output.index("log p = ")
    assert pandas.read_parquet(tmp_path / "run" / "pairs.parquet")["bits_per_dim"].notna().all()
    refused = call(
        "estimate", "shapes", folder / "likely.jsonl", "--marginal", "likelihood", "--output", tmp_path / "e"
    )
    assert refused.exit_code == 2
    assert "use `mmg-diffusers likelihood`" in " ".join(refused.output.split())


def test_audit(world, tmp_path):
    folder, sample = world
    lines = [json.dumps({"image": f"{k}.png", "prompt": sample.prompts[k]}) for k in range(3)]
    (folder / "audited.jsonl").write_text("\n".join(lines), "utf-8")
    small = ("--levels", "4", "--quiet", "--device", "cpu")
    said = call("audit", "shapes", folder / "audited.jsonl", "--marginal", "shapes", "--output", tmp_path / "a", *small)
    assert said.exit_code == 0, said.output
    assert "null branch against the mixture of 48 candidates, 3 pairs" in " ".join(said.output.split())
    levels = pandas.read_csv(tmp_path / "a" / "levels.csv")
    assert len(levels) == 4
    assert {"logsnr", "distance", "with_mixture", "with_null", "trusted"} <= set(levels.columns)
    assert load(tmp_path / "a" / "audit.safetensors").distance.value == pytest.approx(
        float(pandas.read_csv(tmp_path / "a" / "pairs.csv")["nats"].mean())
    )
    refused = call(
        "audit", "shapes", folder / "audited.jsonl", "--marginal", "null", "--output", tmp_path / "b", *small
    )
    assert refused.exit_code == 2
    assert "null has no candidates to hold the null branch against" in " ".join(refused.output.split())


def test_likelihood(world, tmp_path):
    folder, _ = world
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(2):
        (pictures / f"{k}.png").write_bytes((folder / f"{k}.png").read_bytes())
    small = ("--levels", "4", "--quiet", "--device", "cpu")
    first = call(
        "likelihood", "shapes", pictures, "--reference", folder, "--rank", 1, "--output", tmp_path / "a", *small
    )
    assert first.exit_code == 0, first.output
    assert "2 of 2 x are among the points that the reference was fitted on" in " ".join(first.output.split())
    table = pandas.read_csv(tmp_path / "a" / "likelihood.csv")
    assert list(table["image"]) == [str(pictures / f"{k}.png") for k in range(2)]
    assert (table["stderr"] > 0).all()
    saved = tmp_path / "a" / "reference.safetensors"
    told = call(
        "likelihood",
        "shapes",
        pictures,
        "--prompt",
        "a circle",
        "--reference",
        saved,
        "--output",
        tmp_path / "b",
        *small,
    )
    assert told.exit_code == 0, told.output
    other = pandas.read_csv(tmp_path / "b" / "likelihood.csv")
    assert (other["nats"] != table["nats"]).all()
    assert (other["reference_nats"] == table["reference_nats"]).all()
    for arguments, message in (
        (("--prompt", "a", "--prompts"), "--prompt gives all images one prompt"),
        (("--rank", "4"), "--rank is of a reference that is fitted"),
        (("--pilot", "8", "--reference", saved), "--pilot is of a reference that is fitted"),
        (("--pilot", "8", "--reference", folder), "pilot is 8 of"),
        (("--reference", pictures / "0.png"), "got 1 image for an isotropic covariance"),
        (("--reference", tmp_path / "none.safetensors"), "none.safetensors"),
    ):
        said = call("likelihood", "shapes", pictures, *arguments, "--output", tmp_path / "c", *small)
        assert said.exit_code == 2
        assert message in " ".join(said.output.split())


def test_nothing_moves_where_the_output_is_no_terminal(tmp_path, monkeypatch, capfd):
    """In this process; `test_answers.test_no_bar_moves_in_a_pipe` has one of its own."""
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "red").save(path)
    monkeypatch.chdir(tmp_path)
    line = ["mmg-diffusers", "estimate", "shapes", str(path), "--prompt", "a circle", "--levels", "2"]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as stop:
        main()
    said = capfd.readouterr()
    assert stop.value.code == 0, said.err
    assert "%|" not in said.err
    assert "nats over 1 pair" in said.out
