"""What commands answer: one JSON document, a table on screen, nothing overwritten, and messages that are told at once."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mmg_diffusers import Estimate, MMGPipeline, shapes_model
from mmg_diffusers.commands import demo, early
from mmg_diffusers.commands.answers import Answer, Grid, plain
from mmg_diffusers.commands.app import EXAMPLES, app
from mmg_diffusers.commands.texts import TITLES
from mmg_diffusers.measure.value import Value
from mmg_diffusers.runs.shard_files import Shards
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import answered, call, refused
from tests.commands.test_light import after
from tests.hub import answering

HUB = "of-nobody/a-model-that-is-not-there"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Three captioned pictures, a table of them, more to fit to, arrays, and a run."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "others").mkdir()
    others = Shapes("soft").sample(10, seed=5)
    for k, image in enumerate(others.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / "others" / f"{k}.png")
    rows = [f"others/{k}.png,{prompt}" for k, prompt in enumerate(others.prompts)]
    (folder / "others.csv").write_text("\n".join(["image,prompt", *rows]))
    sample = Shapes("soft").sample(3, seed=4)
    (folder / "pictures").mkdir()
    for k, image in enumerate(sample.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / "pictures" / f"{k}.png")
        (folder / "pictures" / f"{k}.txt").write_text(sample.prompts[k])
    rows = [f"pictures/{k}.png,{prompt}" for k, prompt in enumerate(sample.prompts)]
    (folder / "pairs.csv").write_text("\n".join(["image,prompt", *rows]))
    generator = np.random.default_rng(0)
    x = generator.standard_normal((600, 1))
    y = x + generator.standard_normal((600, 1))
    np.savez(folder / "pairs.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


@pytest.fixture
def at_desk(desk, monkeypatch, pipe):
    """The desk as the working folder, with the shipped model read once."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(MMGPipeline, "from_pretrained", lambda place, **options: pipe)
    monkeypatch.setattr(demo, "PATHS", 1)
    monkeypatch.setattr(demo, "CALIBRATED", 3)
    return desk


def small(folder):
    """Each command with arguments that make it small, and the files that it says that it wrote."""
    few = ("--levels", 3, "--device", "cpu")
    pairs = ("shapes", "pairs.csv", *few)
    null = ("--marginal", "null")
    out = ("--output", folder)
    return {
        "demo": (("--model", "shapes", "--pairs", 2, "--steps", 3, *few, *out), 5),
        "estimate": ((*pairs, *out), 2),
        "run": ((*pairs, *out), 2),
        "collect": ((folder,), 0),
        "report": ((*pairs, "--output", folder / "page.html"), 1),
        "likelihood": ((*pairs, *out), 2),
        "fit": (("shapes", "others.csv", "--device", "cpu", "--soft", 2, "--steps", 1, *out), 1),
        "audit": ((*pairs, "--marginal", "shapes", *out), 3),
        "inspect": (("shapes",), 0),
        "influence": ((*pairs, *out, *null), 4),
        "maps": ((*pairs, *out, *null), 3),
        "words": ((*pairs, *out, *null, "--word", "@1"), 5),
        "compare": ((*pairs, "--b", "a blue circle", *out), 3),
        "switch": (("shapes", "--count", 1, "--times", 2, "--sampling-steps", 2, *few, *out), 2),
        "arrays": (("x.npy", "y.npy", *out), 1),
        "train": (("pairs.npz", "--steps", 2, "--batch", 4, "--levels", 3, "--width", 8, "--check-every", 1, *out), 2),
    }


def strict(text):
    """A JSON document, and nothing beside it."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("command", [command.__name__ for command, _ in EXAMPLES])
def test_one_json_document(command, at_desk, tmp_path):
    folder = tmp_path / "out"
    if command == "collect":
        answered("run", *small(folder)["run"][0])
    arguments, files = small(folder)[command]
    done = call(command, *arguments, "--json")
    assert done.exit_code == 0, done.output
    told = strict(done.stdout)
    assert told["kind"]
    if command != "collect":
        assert len(told["wrote"]) == files
    for path in told["wrote"]:
        assert (at_desk / path).stat().st_size > 0
    if "mean" in told:
        assert told["mean"].keys() == {"value", "stderr", "unit"}
        assert told["mean"]["unit"] == "nats"
        assert told["verdict"].startswith(("trust", "take with caution", "don't trust"))
        assert all(finding.keys() == {"about", "grade", "text"} for finding in told["findings"])
    if command == "estimate":
        record = Estimate.load(folder / "estimate.safetensors")
        assert told["mean"]["value"] == pytest.approx(record.mean().value)
        assert [row["nats"] for row in told["rows"]["table"]] == pytest.approx(record.nats.tolist())


def test_a_table_on_screen_and_what_was_written_at_the_end(at_desk, tmp_path):
    said = answered("estimate", *small(tmp_path / "out")["estimate"][0]).splitlines()
    assert said[0] == "| image | prompt | nats | ± noise |"
    assert re.fullmatch(r"\| 0.png \| .+ \| -?\d+\.\d{3} \| \d+\.\d{3} \|", said[2])
    written = [line for line in said if line]
    assert written[-2:] == [f"wrote {tmp_path / 'out' / name}" for name in ("pairs.csv", "estimate.safetensors")]


def test_long_tables_are_cut_on_screen(capsys):
    Grid(("a", "b"), [(str(k), "x" * 99) for k in range(20)]).show()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 + 12 + 1
    assert said[-1] == "and 8 more rows, in the files"
    assert len(said[2]) < 100


def test_values_as_json_holds_them(capsys):
    nan = float("nan")
    told = {"a": Value(1.0, nan), "b": torch.ones(2), "c": np.float32(2), "d": (nan, float("inf")), "e": {1: None}}
    assert plain(told) == {
        "a": {"value": 1.0, "stderr": None, "unit": "nats"},
        "b": [1.0, 1.0],
        "c": 2.0,
        "d": [None, None],
        "e": {"1": None},
    }
    Answer(told, ["not said"]).show(json=True)
    assert strict(capsys.readouterr().out)["wrote"] == []


# ---- nothing is overwritten silently ----


def test_nothing_is_overwritten(at_desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = ("shapes", at_desk / "pairs.csv", "--levels", 2, "--device", "cpu")
    answered("estimate", *pairs)
    first = (tmp_path / "runs" / "estimate" / "pairs.csv").read_bytes()
    assert "wrote runs/estimate-2/pairs.csv" in answered("estimate", *pairs, "--seed", 1)
    assert (tmp_path / "runs" / "estimate" / "pairs.csv").read_bytes() == first
    out = ("--output", "runs/estimate")
    said = refused("estimate", *pairs, *out, "--seed", 1)
    assert "runs/estimate holds pairs.csv already; choose another --output, or add --overwrite" in said
    answered("estimate", *pairs, *out, "--seed", 1, "--overwrite")
    assert (tmp_path / "runs" / "estimate" / "pairs.csv").read_bytes() != first
    answered("report", *pairs)
    assert "wrote runs/report-2.html" in answered("report", *pairs)
    assert "runs/report.html is there already" in refused("report", *pairs, "--output", "runs/report.html")
    answered("run", *pairs, "--output", "whole")
    answered("collect", "whole", "--table", "so-far.csv")
    assert "so-far.csv is there already" in refused("collect", "whole", "--table", "so-far.csv")
    answered("collect", "whole", "--table", "so-far.csv", "--overwrite")


# ---- Ctrl-C ----


def test_ctrl_c_says_what_is_kept_and_a_resumed_run_what_was_there(at_desk, tmp_path, monkeypatch, pipe):
    rows = pandas.read_csv(at_desk / "pairs.csv")
    many = pandas.concat([rows] * 20, ignore_index=True)[:40]
    many.to_csv(at_desk / "many.csv", index=False)
    command = ("run", "shapes", "many.csv", "--output", tmp_path / "out", "--levels", 2, "--device", "cpu")
    write, written = Shards.write, []

    def stopping(self, number, shard):
        if written:
            raise KeyboardInterrupt
        written.append(number)
        return write(self, number, shard)

    monkeypatch.setattr(Shards, "write", stopping)
    done = call(*command)
    monkeypatch.setattr(Shards, "write", write)
    assert done.exit_code == 130
    said = " ".join(done.output.split())
    assert f"stopped: 32 of 40 pairs are kept in {tmp_path / 'out'}; the same command goes on from there" in said
    assert f"`mmg-diffusers collect {tmp_path / 'out'}` reads it" in said
    again = answered(*command)
    assert again.startswith(f"going on: 32 of 40 pairs are kept in {tmp_path / 'out'}")
    assert "mind the mean clustered by picture" in again
    assert "\nmean, clustered by picture: " in again
    assert "outcome.clusters" not in again
    other = refused(*command, "--seed", 1)
    assert "belongs to" in other
    assert "going on" not in other
    monkeypatch.setattr(type(pipe), "measure", stopping_at_once)
    done = call("estimate", "shapes", "pairs.csv", "--output", tmp_path / "e")
    assert (done.exit_code, "stopped: nothing was written" in done.output) == (130, True)


def stopping_at_once(*arguments, **options):
    raise KeyboardInterrupt


# ---- what is refused at once ----


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["estimate", "pictures", "shapes"], "the model comes first: shapes pictures"),
        (["words", "pictures"], "the model comes first: shapes pictures"),
        (["run", "pairs.csv", "shapes-plain", "--output", "a"], "the model comes first: shapes-plain pairs.csv"),
        (["estimate", "shape-plain", "pictures"], "did you mean shapes-plain?"),
        (["compare", "shapes-flo", "pictures", "--b", "a"], "did you mean shapes-flow?"),
        (["estimate", "./nowhere", "pictures"], "there is no model './nowhere'"),
        (["influence", "pictures", "pictures"], "pictures is no model: it has no model_index.json"),
        (["estimate", "shapes", "nowhere"], "there is no nowhere; expected an image, a folder or a table"),
        (["likelihood", HUB, "pictures"], "and the hub does not answer"),
        (["benchmark", "consistency", "--data", "nothing"], "there is no file or folder 'nothing'"),
        (["train", HUB, "--output", "a"], "and the hub does not answer"),
        (["arrays", "no thing"], "it is no id of a data set on the hub"),
        (["report", "shapes", "pictures", "--output", "page.pdf"], "give page.html, and print it to PDF"),
    ],
)
def test_what_is_told_at_once(desk, arguments, says):
    """Nothing heavy is imported, no model is loaded, and the hub is not waited for."""
    code = (
        f"import os, sys; os.chdir({str(desk)!r}); sys.argv = {['mmg-diffusers', *arguments]}\n"
        "os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:9'\n"
        "sys.stderr = sys.stdout\n"
        "from mmg_diffusers.commands.entry import main\n"
    )
    seconds, heavy, said = after(f"{code}try:\n    main()\nexcept SystemExit as end:\n    print('STATUS', end.code)")
    assert says in " ".join(said.split())
    assert "STATUS 2" in said
    assert heavy == "[]"
    assert seconds < 3


def test_models_of_the_hub(tmp_path, monkeypatch):
    """What the hub says of a model that is not kept here."""
    from huggingface_hub import errors

    answer, asked = answering(monkeypatch)
    for error, says in (
        (errors.RepositoryNotFoundError, "no model of that name on the hub"),
        (errors.GatedRepoError, "is gated on the hub"),
        (errors.RevisionNotFoundError, "has no revision"),
        (errors.EntryNotFoundError, "is no pipeline of diffusers"),
    ):
        answer(error)
        with pytest.raises(ValueError, match=says):
            early.check_hub(HUB)
    answer(OSError("no route"))
    with pytest.raises(ConnectionError, match="the hub does not answer"):
        early.check_hub(HUB)
    answer(None)
    early.check_arguments(HUB, tmp_path)
    assert {timeout for _, timeout in asked} == {early.PATIENCE}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        early.check_hub(HUB)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["estimate", "shapes", "broken"], "cannot be read"),
        (["audit", "shapes", "pairs.csv", "--marginal", "two.txt"], "is not among the 2 candidates"),
        (["estimate", "shapes", "pairs.csv", "--marginal", "negatives:9"], "9 negatives need 10 pairs"),
        (["estimate", "shapes", "pairs.csv", "--device", "gpu"], "cannot use the device 'gpu'"),
        (["report", "shapes", "pairs.csv", "--batch-size", "0"], "--batch-size is 0"),
        (
            ["maps", "shapes", "pairs.csv", "--tolerance", "1", "--marginal", "shapes"],
            "--tolerance belongs to the null",
        ),
        (["maps", "shapes", "pairs.csv", "--band", "3:1"], "the band is '3:1'"),
        (["run", "shapes", "pairs.csv", "--output", "a", "--part", "3"], "--part is '3'"),
        (["run", "shapes", "pairs.csv", "--output", "a", "--captions", "some"], "--captions is 'some'"),
        (["switch", "--tau", "2"], "tau is 2"),
        (["influence", "shapes", "--at", "2"], "tau is 2"),
        (["likelihood", "shapes", "pictures", "--draws", "0"], "--draws"),
    ],
)
def test_what_is_refused_before_a_model_is_loaded(desk, monkeypatch, arguments, says):
    monkeypatch.chdir(desk)
    (desk / "broken").mkdir(exist_ok=True)
    (desk / "broken" / "a.png").write_text("no picture")
    (desk / "broken" / "a.txt").write_text("a")
    (desk / "two.txt").write_text("a cat\na dog\n")

    def loaded(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(MMGPipeline, "from_pretrained", loaded)
    assert says in refused(*arguments)


def test_high_is_of_the_model(at_desk, tmp_path):
    said = refused("estimate", "shapes", "pairs.csv", "--high", 50, "--output", tmp_path / "out")
    assert "--high is 50; expected a log-SNR above -5.36, and 7.07 at most, of this model" in said
    out = tmp_path / "few"
    answered(
        "estimate", shapes_model(), "pairs.csv", "--high", 3, "--levels", 3, "--output", out, "--maps", "--given", "a"
    )
    record = Estimate.load(out / "estimate.safetensors")
    assert record.logsnr_range[1] == pytest.approx(3, abs=0.1)
    assert record.pixel_map()[0].shape[0] == 3


def test_a_run_with_a_context_of_all(at_desk, tmp_path):
    out = tmp_path / "out"
    command = ("run", "shapes", "pairs.csv", "--levels", 2, "--device", "cpu", "--output", out)
    answered(*command, "--given", "a circle")
    assert pandas.read_parquet(out / "pairs.parquet")["given"].tolist() == ["a circle"] * 3
    (at_desk / "contexts.csv").write_text("image,prompt,given\npictures/0.png,a,b\n")
    said = refused("run", "shapes", "contexts.csv", "--output", tmp_path / "two", "--given", "c")
    assert "leave one of them out" in said


# ---- two arrays ----


def test_arrays(at_desk, tmp_path):
    said = answered("arrays", "x.npy", "y.npy", "--output", tmp_path / "a")
    assert "verdict: " in said
    found = Estimate.load(tmp_path / "a" / "estimate.safetensors").mean()
    assert abs(found.value - 0.5 * np.log(2)) < 4 * found.stderr
    same = json.loads(call("arrays", "pairs.npz", "--output", tmp_path / "b", "--json").stdout)
    assert same["mean"]["value"] == pytest.approx(found.value)
    rows = pandas.DataFrame({"a": [1.0], "b": [2.0]})
    rows.to_csv(at_desk / "one.csv")
    for arguments, message in (
        (["x.npy", "y.csv"], "x and y in two files are .npy each"),
        (["x.npy", "y.npy", "--x", "a"], "--x and --y name parts of one file"),
        (["x.npy", "none.npy"], "there is no none.npy"),
        (["one.csv", "--x", "a", "--y", "c"], "has the columns"),
        (["pairs.csv", "--x", "image", "--y", "prompt"], "expected numbers"),
    ):
        assert message in refused("arrays", *arguments, "--output", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_no_bar_moves_in_a_pipe(desk, tmp_path):
    """Of what a pipe gets, stdout is the document alone and stderr holds no bar."""
    command = [
        sys.executable,
        "-m",
        "mmg_diffusers",
        "words",
        "shapes",
        "pairs.csv",
        "--word",
        "@1",
        "--marginal",
        "null",
    ]
    done = subprocess.run(
        [*command, "--levels", "2", "--json", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=desk,
    )
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)["kind"] == "reading of words"
    assert "%|" not in done.stderr
    assert "\r" not in done.stderr


def test_runner_keeps_streams_apart():
    done = CliRunner().invoke(app, ["estimate", "shape-plain", "x", "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean" in done.stderr


def test_a_page_with_likelihood_takes_options_of_the_measurement(at_desk, tmp_path):
    """An audit and a form of information are of the measurement; how likely the pictures are has its own steps."""
    few = ("report", "shapes", "pairs.csv", "--levels", 3, "--device", "cpu", "--likelihood")
    against = ("--marginal", "shapes", "--audit", "--output", tmp_path / "audit.html", "--json")
    told = strict(answered(*few, *against))
    page = (tmp_path / "audit.html").read_text()
    assert "<h2>How likely</h2>" in page
    assert TITLES["audit"] in page
    assert "the null branch is" in told["audit"]["finding"]
    assert told["audit"]["unit"] == "nats"
    assert {"value", "stderr", "unit"} == set(told["log p"])
    gap = strict(answered(*few, "--integrand", "gap", "--output", tmp_path / "gap.html", "--json"))
    assert gap["mean"]["value"] == pytest.approx(np.mean([row["gap"] for row in gap["rows"]["table"]]), abs=1e-6)
    assert gap["log p"]["value"] == pytest.approx(told["log p"]["value"])  # of the same levels, whatever it is beside
    assert "<h2>How likely</h2>" in (tmp_path / "gap.html").read_text()
