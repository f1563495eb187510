"""Runs over data sets: shards, resumption, failures, and processes that are real."""

import json
import math
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mmg_diffusers import MMG, Estimate, MMGPipeline, shapes_model
from mmg_diffusers.commands.app import app
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pairs.rows import Row
from mmg_diffusers.runs.shard_files import Shard
from mmg_diffusers.runs.shards import Outcome, RunFolder, chunks, collect
from mmg_diffusers.runs.shards import run as run_chunks
from mmg_diffusers.worlds.shapes import Shapes
from tests.launching import torchrun

COUNT = 70  # two chunks and a part of one


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    sample = Shapes("soft").sample(COUNT, seed=8)
    for k, image in enumerate(sample.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / f"{k:03d}.png")
    frame = pandas.DataFrame({"file_name": [f"{k:03d}.png" for k in range(COUNT)], "text": sample.prompts})
    frame.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def whole(pipe, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, pipe.run(table, out, levels=2, progress=False)


def test_a_run_is_the_pipeline_chunk_by_chunk(pipe, table, whole):
    out, outcome = whole
    frame = pandas.read_csv(table)
    images = [table.parent / name for name in frame["file_name"]]
    direct = pipe(images, list(frame["text"]), levels=2)
    torch.testing.assert_close(outcome.estimate.nats, direct.nats, rtol=1e-6, atol=1e-6)
    kept = Estimate.load(out / "estimate.safetensors")
    assert torch.equal(kept.nats, outcome.estimate.nats)
    rows = pandas.read_parquet(out / "pairs.parquet")
    assert rows["pair"].tolist() == list(range(COUNT))
    assert rows["nats"].to_numpy() == pytest.approx(kept.nats.numpy())
    assert (rows["error"] == "").all()
    assert len(list((out / "shards").iterdir())) == 3


def test_nothing_is_measured_twice(pipe, table, whole, monkeypatch):
    out, outcome = whole
    monkeypatch.setattr(pipe.pipe.unet, "forward", None)
    again = pipe.run(table, out, levels=2, progress=False)
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)


def test_a_run_with_other_settings_is_refused(pipe, table, whole):
    with pytest.raises(
        ValueError, match=r"other settings \(quadrature: 'Trapezoid\(nodes=2\)' there, 'Trapezoid\(nodes=3\)' now\)"
    ):
        pipe.run(table, whole[0], levels=3, progress=False)


@pytest.mark.parametrize("harm", ["truncate", "delete", "flip", "empty"])
def test_damaged_shards_are_measured_again_and_said(pipe, table, whole, tmp_path, harm):
    out, outcome = whole
    out = shutil.copytree(out, tmp_path / "run")
    shard = sorted((out / "shards").iterdir())[1]
    body = bytearray(shard.read_bytes())
    if harm == "delete":
        shard.unlink()
    elif harm == "flip":
        body[len(body) // 2] ^= 1
        shard.write_bytes(body)
    else:
        shard.write_bytes(body[: len(body) // 2 if harm == "truncate" else 0])
    damaged = harm != "delete"
    # What is there can be read before it is mended, and reading changes nothing.
    before = Outcome.load(out)
    assert sorted(before.rows) == [*range(32), *range(64, COUNT)]
    assert before.notes[0] == "38 of 70 pairs are there; the same command goes on with the rest"
    assert len(before.notes) == 1 + damaged
    torch.testing.assert_close(
        before.estimate.using("gap").nats, outcome.estimate.using("gap").nats[list(before.rows)], rtol=0, atol=0
    )
    if damaged:
        with pytest.warns(UserWarning, match="shard 000001 .* is damaged; its pairs are measured again"):
            again = pipe.run(table, out, levels=2, progress=False)
        assert again.notes == (f"a shard was damaged, and its pairs measured again: {shard.stem}.damaged",)
    else:
        again = pipe.run(table, out, levels=2, progress=False)
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)
    assert len(list((out / "shards").glob("*.shard"))) == 3


def test_a_folder_is_of_one_source(pipe, table, whole, tmp_path):
    """The same path with other rows is another run, and so is a data set with the same texts and other pictures."""
    other = shutil.copytree(table.parent, tmp_path / "pairs")
    out = tmp_path / "run"
    pipe.run(other / "pairs.csv", out, levels=2, limit=33, progress=False)
    rows = pandas.read_csv(other / "pairs.csv")
    rows.loc[32, "text"] = "something else"
    rows.to_csv(other / "pairs.csv", index=False)
    with pytest.raises(
        ValueError, match=r"over other pairs: pair 32 was '.*' of .*032.png there and is 'something else'"
    ):
        pipe.run(other / "pairs.csv", out, levels=2, limit=33, progress=False)
    rows[:32].to_csv(other / "pairs.csv", index=False)
    with pytest.raises(ValueError, match="over other pairs: it has 33, and the source has fewer"):
        pipe.run(other / "pairs.csv", out, levels=2, limit=33, progress=False)
    black, white = ([{"image": np.full((32, 32, 3), value), "prompt": "a red circle"}] for value in (0.0, 1.0))
    pipe.run(black, tmp_path / "mappings", levels=2, progress=False)
    with pytest.raises(ValueError, match="an image with the digest"):
        pipe.run(white, tmp_path / "mappings", levels=2, progress=False)


def test_a_folder_is_of_one_model(table, tmp_path):
    own = MMGPipeline.from_pretrained(shapes_model())
    own.run(table, tmp_path / "run", levels=2, limit=1, progress=False)
    with torch.no_grad():
        next(own.pipe.unet.parameters())[0] += 1
    with pytest.raises(ValueError, match=r"other settings \(weights: "):
        own.run(table, tmp_path / "run", levels=2, limit=1, progress=False)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda p: p.scheduler.register_to_config(beta_end=0.02), "schedule"),
        (lambda p: setattr(p.tokenizer, "model_max_length", 9), "encoders"),
        (lambda p: p.vae.enable_tiling(), "encoders"),
    ],
)
def test_a_run_does_not_go_on_with_other_levels_or_encodings(table, tmp_path, change, differs):
    pipe = MMGPipeline.from_pretrained(shapes_model())
    assert len(pipe.run(table, tmp_path, levels=2, limit=1, progress=False).estimate) == 1
    change(pipe.pipe)
    with pytest.raises(ValueError, match=f"other settings .*{differs}: "):
        pipe.run(table, tmp_path, levels=2, limit=1, progress=False)


@pytest.mark.parametrize("strict", [False, True])
def test_a_bad_picture_is_called_by_its_place_in_the_source(pipe, tmp_path, strict):
    good = Image.new("RGB", (32, 32), "red")
    (tmp_path / "bad.png").write_text("no picture")
    pictures = [*[good] * 33, str(tmp_path / "bad.png"), Image.new("RGB", (31, 32))]
    rows = [{"image": picture, "prompt": "a red circle"} for picture in pictures]
    if strict:
        with pytest.raises(ValueError, match=r"image 33 .*bad.png.* of no format that PIL knows"):
            pipe.run(rows, tmp_path / "run", levels=2, progress=False, strict=True)
        return
    failures = pipe.run(rows, tmp_path / "run", levels=2, progress=False).failures
    assert [failure.place for failure in failures] == [33, 34]
    assert failures[0].reason.startswith("ValueError: image 33 (")
    assert "BytesIO" not in failures[0].reason
    assert failures[1].reason.startswith("ValueError: image 34 is 32 x 31")


def test_bad_pairs_are_recorded_and_the_others_measured(pipe, tmp_path):
    sample = Shapes("soft").sample(6, seed=8)
    images: list = list(sample.images)
    images[1] = np.full((32, 32, 3), np.nan)
    images[4] = "nowhere.png"
    source = [{"image": image, "prompt": prompt} for image, prompt in zip(images, sample.prompts, strict=True)]
    outcome = pipe.run(source, tmp_path / "run", levels=8, progress=False)
    assert [failure.place for failure in outcome.failures] == [1, 4]
    assert "NaN" in outcome.failures[0].reason
    assert "nowhere.png" in outcome.failures[1].reason
    assert outcome.estimate.curve.pair_ids.tolist() == [0, 2, 3, 5]
    table = pandas.read_parquet(tmp_path / "run" / "pairs.parquet")
    assert table["nats"].isna().tolist() == [False, True, False, False, True, False]
    good = pipe(
        [images[k] for k in (0, 2, 3, 5)], [sample.prompts[k] for k in (0, 2, 3, 5)], levels=8, pair_ids=[0, 2, 3, 5]
    )
    torch.testing.assert_close(outcome.estimate.nats, good.nats, rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="NaN"):
        pipe.run(source, tmp_path / "strict", levels=2, strict=True, progress=False)
    odd = [{"image": None, "prompt": "a"}, {"image": images[0], "prompt": 3}, {"image": images[0], "prompt": None}]
    for truncate in (True, False):
        folder = tmp_path / f"odd-{truncate}"
        outcome = pipe.run(odd, folder, levels=2, truncate=truncate, progress=False)
        assert [failure.place for failure in outcome.failures] == [0, 1, 2]
        assert pandas.read_parquet(folder / "pairs.parquet")["prompt"].tolist() == ["a", "3", "None"]
    long = [{"image": images[0], "prompt": "a large red circle on the left " * 3}]
    cut = pipe.run(long, tmp_path / "cut", levels=2, progress=False)
    assert not cut.failures
    refused = pipe.run(long, tmp_path / "refused", levels=2, truncate=False, progress=False)
    assert refused.estimate is None
    assert "does not see" in refused.failures[0].reason


def test_chunks():
    rows = [Row(k, "", "", None) for k in range(5)]
    assert [(n, [row.place for row in part]) for n, part in chunks(rows, 2)] == [(0, [0, 1]), (1, [2, 3]), (2, [4])]


# ---- faults, with an oracle in place of a network ----

ORACLE = GaussianDenoiser(torch.tensor([[1.0, 0.8], [0.8, 1.0]]), 1)
ROWS = [Row(k, "", f"pair {k}", None) for k in range(12)]


def measure(rows):
    ids = torch.tensor([row.place for row in rows])
    x = torch.stack([torch.randn(2, generator=torch.Generator().manual_seed(i)) for i in ids.tolist()])
    return MMG("gap", Trapezoid(8))(ORACLE, x[:, :1], {"y": x[:, 1:]}, pair_ids=ids, logsnr_range=(-6.0, 6.0))


def finish(folder, rows=ROWS, **options):
    return collect(folder, run_chunks(measure, rows, folder, chunk=2, progress=False, **options))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    outcome = finish(RunFolder(tmp_path_factory.mktemp("undisturbed"), {}))
    outcome.save(tmp_path_factory.mktemp("saved"))
    return outcome.estimate.to_bytes()


@contextmanager
def mounted(folder, options):
    """A small file system of its own; skips where the user may not mount one."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_finished(tmp_path, undisturbed):
    with mounted(tmp_path / "small", "size=16k") as disk:
        folder = RunFolder(disk / "run", {})
        with pytest.raises(OSError, match=r"No space left.*What was finished is kept; make room") as error:
            finish(folder)
        assert str(disk) in str(error.value)
        assert not list(folder.shards.folder.glob(".*"))  # no part of a file is left
        kept = Outcome.load(disk / "run")
        assert 0 < len(kept.rows) < len(ROWS)
        assert len(kept.estimate) == len(kept.rows)
        remount(disk, "size=4m")
        assert finish(RunFolder(disk / "run", {})).estimate.to_bytes() == undisturbed
    with mounted(tmp_path / "small", "size=4k") as disk:
        (disk / "filling").write_bytes(b"x" * 4096)
        with pytest.raises(OSError, match="No space left"):
            RunFolder(disk, {})


def test_a_folder_that_can_only_be_read(tmp_path, undisturbed):
    """Root may write where permissions forbid it, but not on a file system that is mounted to be read."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        finish(RunFolder(disk / "run", {}))
        remount(disk, "ro")
        for folder in (disk / "run", disk / "new"):
            with pytest.raises(OSError, match=r"cannot write to .*Read-only.*choose a folder.*Outcome.load"):
                RunFolder(folder, {})
        assert Outcome.load(disk / "run").estimate.to_bytes() == undisturbed
        remount(disk, "rw")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device that is always full")
def test_a_device_that_takes_nothing_leaves_nothing(tmp_path, monkeypatch):
    """A write that fails in the middle, where a small file system cannot be mounted."""
    folder = RunFolder(tmp_path, {})
    sync, calls = os.fsync, count()

    def full(descriptor):
        if next(calls) == 2:
            Path("/dev/full").write_bytes(b"x")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="What was finished is kept"):
        finish(folder)
    assert len(Outcome.load(tmp_path).rows) == 4
    assert not list(folder.shards.folder.glob(".*"))


def test_a_missing_shard_is_named(tmp_path):
    folder = RunFolder(tmp_path, {})
    finish(folder)
    next(folder.shards.folder.glob("000003-*")).unlink()
    with pytest.raises(ValueError, match="shard 000003 is missing"):
        collect(folder, 6)


def test_a_folder_without_a_run_has_no_outcome(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of a run"):
        Outcome.load(tmp_path)
    RunFolder(tmp_path, {})
    with pytest.raises(FileNotFoundError, match="not finished a shard yet"):
        Outcome.load(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings.json is damaged"):
        RunFolder(tmp_path, {})


def test_files_of_killed_processes_are_cleared_away_and_those_of_others_are_not(tmp_path):
    shards = RunFolder(tmp_path, {}).shards.folder
    old, new = shards / ".old.partial", shards / ".new.partial"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    RunFolder(tmp_path, {})
    assert new.exists()
    assert not old.exists()


def test_two_runs_in_one_folder_do_not_harm_one_another(tmp_path, undisturbed):
    both = threading.Barrier(2)
    found = [None, None]

    def go(k):
        both.wait()
        found[k] = finish(RunFolder(tmp_path, {}))
        found[k].save(tmp_path)

    threads = [threading.Thread(target=go, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcome in (*found, Outcome.load(tmp_path)):
        assert outcome.estimate.to_bytes() == undisturbed
    # Numbers that differ in their last bit, as another machine's would, are two shards of one chunk, of which one counts.
    folder = RunFolder(tmp_path, {})
    shard = folder.shards.read(folder.shards.listed()[0])
    folder.shards.write(0, type(shard)(shard.labels, measure(ROWS[:2]).using("orthogonal").using("gap"), ()))
    (folder.shards.folder / f"000000-2-{'0' * 32}.shard").write_bytes(b"damaged, and first in the order")
    assert len(Outcome.load(tmp_path).rows) == len(ROWS)


def test_a_shard_that_was_mended_meanwhile_is_not_set_aside(tmp_path):
    folder = RunFolder(tmp_path, {})
    finish(folder)
    (paths,) = [paths for number, paths in folder.shards.listed().items() if number == 4]
    folder.shards.set_aside(paths)
    assert folder.shards.listed()[4] == paths
    assert not folder.shards.damaged()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_runs_end_like_an_undisturbed_one(tmp_path, undisturbed):
    """SIGKILL, again and again, at moments that a seed draws from the shards that are there."""
    draw = random.Random(0)
    forks = multiprocessing.get_context("fork")
    partly = number = 0
    while number < 8 or partly < 5:  # on a busy machine a run may end before it is killed
        number += 1
        assert number < 50
        out = tmp_path / str(number)
        for rank in draw.choice([[0], [0, 1]]):
            shards = RunFolder(out, {}).shards
            options = {"rank": rank, "world": 2}
            killed = forks.Process(
                target=lambda out=out, options=options: finish(RunFolder(out, {}), **options), daemon=True
            )
            after = len(shards.listed()) + draw.randrange(1, 3)
            killed.start()
            while killed.is_alive() and len(shards.listed()) < after:
                time.sleep(0.001)
            killed.kill()
            killed.join()
            partly += 0 < len(Outcome.load(out).rows) < len(ROWS)
        assert finish(RunFolder(out, {})).estimate.to_bytes() == undisturbed


def bar_of(text):
    """The counts that a bar showed, in order."""
    return [int(found) for found in re.findall(r"(\d+)/12 ", text)]


def test_the_bar_counts_all_processes_and_begins_at_what_is_done(tmp_path, undisturbed, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    folder = RunFolder(tmp_path, {})
    run_chunks(measure, ROWS[:2], folder, chunk=2, progress=False)
    other = threading.Thread(target=finish, args=(folder,), kwargs={"rank": 1, "world": 2})

    def beside_the_other(rows):
        if other.ident is None:  # not before the bar is there
            other.start()
        return measure(rows)

    run_chunks(beside_the_other, ROWS, folder, rank=0, world=2, chunk=2, total=len(ROWS))
    other.join()
    shown = bar_of(capfd.readouterr().err)
    assert shown[0] == 2
    assert shown[-1] == 12  # half of them are the other's
    assert shown == sorted(shown)
    assert collect(folder, 6).estimate.to_bytes() == undisturbed
    # All done: nothing is measured.
    run_chunks(lambda rows: pytest.fail("measured"), ROWS, folder, chunk=2, total=len(ROWS))
    assert bar_of(capfd.readouterr().err)[0] == 12


# ---- the command line ----


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_collect_reads_an_unfinished_run(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    run_chunks(measure, ROWS[:4], folder, chunk=2, progress=False)
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    for ending, read in ((".csv", pandas.read_csv), (".parquet", pandas.read_parquet)):
        said = call("collect", tmp_path / "run", "--table", tmp_path / f"so-far{ending}")
        assert said.exit_code == 0, said.output
        assert "over 4 pairs" in said.output
        rows = read(tmp_path / f"so-far{ending}")
        assert rows["prompt"].tolist() == [f"pair {k}" for k in range(4)]
        assert rows["nats"].tolist() == pytest.approx(measure(ROWS[:4]).nats.tolist())
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
    for arguments, says in (([tmp_path], "no folder of a run"), ([tmp_path, "--table", "x.txt"], "expected .csv or")):
        said = call("collect", *arguments)
        assert said.exit_code == 2
        assert says in said.output


def test_the_command_says_what_was_bad_and_what_was_mended(table, tmp_path):
    (tmp_path / "pairs").mkdir()
    shutil.copy(table.parent / "000.png", tmp_path / "pairs")
    (tmp_path / "pairs" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "pairs" / "metadata.csv").write_text("file_name,text\n000.png,a circle\nbad.png,a circle\n")
    command = ["run", "shapes", tmp_path / "pairs", "--output", tmp_path / "run", "--levels", "2", "--quiet"]
    said = call(*command)
    assert said.exit_code == 3, said.output
    assert "1 of 2 pairs were bad" in said.output
    assert re.search(r"pair 1: .*bad\.png", said.output)
    (shard,) = (tmp_path / "run" / "shards").glob("*.shard")
    shard.write_bytes(shard.read_bytes()[:100])
    said = call(*command, "--cache", tmp_path / "cache")
    assert "note: a shard was damaged" in said.output
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3  # the good picture, the text and the null prompt
    said = call(*command, "--strict", "--seed", "1")
    assert said.exit_code == 2
    assert "seed: 0 there, 1 now" in said.output


# ---- processes that are real ----


@pytest.mark.parametrize(("processes", "resumed"), [(2, True), pytest.param(3, False, marks=pytest.mark.slow)])
def test_processes_change_nothing(table, whole, tmp_path, processes, resumed):
    out, run = whole[0], tmp_path / "run"
    if resumed:  # of three shards one is there, one is damaged, one is missing
        shutil.copytree(out / "shards", run / "shards")
        shutil.copy(out / "settings.json", run)
        _, second, third = sorted((run / "shards").iterdir())
        second.write_bytes(second.read_bytes()[:-1])
        third.unlink()
    arguments = ["-m", "mmg_diffusers", "run", "shapes", table, "--output", run, "--levels", 2]
    done = torchrun(processes, *arguments)
    assert done.stdout.count("over 70 pairs") == 1  # gathered and said once
    assert f"measured by {processes} process(es)" in done.stdout
    assert done.stdout.count("a shard was damaged") == resumed
    assert ("going on: " in done.stdout) == resumed
    assert "%|" not in done.stderr  # no bar moves in a pipe
    # Bit for bit at the same chunk and batch layout and the same number of threads.
    assert (run / "estimate.safetensors").read_bytes() == (out / "estimate.safetensors").read_bytes()
    pandas.testing.assert_frame_equal(*(pandas.read_parquet(path / "pairs.parquet") for path in (run, out)))


# ---- what changed since, and what could not be read ----


def colour_of(rows, seen=None):
    """An estimate that is the mean of each picture: any change of it is seen."""
    from mmg_diffusers.pairs.images import load_image

    if seen is not None:
        seen.extend(row.place for row in rows)
    means = torch.stack([load_image(row.picture(), k).mean() for k, row in enumerate(rows)])
    x = torch.stack([torch.full((2,), float(mean)) for mean in means])
    ids = torch.tensor([row.place for row in rows])
    return MMG("gap", Trapezoid(4))(ORACLE, x[:, :1], {"y": x[:, 1:]}, pair_ids=ids, logsnr_range=(-6.0, 6.0))


def paint(path, value):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def painted(tmp_path):
    """Seven pictures, in chunks of two."""
    return [Row(k, paint(tmp_path / "in" / f"{k}.png", 30 * k), "a", None) for k in range(7)]


def go(folder, rows, seen=None, **options):
    count = run_chunks(lambda part: colour_of(part, seen), rows, folder, chunk=2, progress=False, **options)
    return collect(folder, count)


def test_a_picture_that_changed_under_its_name_is_measured_again(tmp_path, painted):
    first = go(RunFolder(tmp_path / "run", {}), painted)
    paint(painted[3].image, 250)
    seen = []
    again = go(RunFolder(tmp_path / "run", {}), painted, seen)
    fresh = go(RunFolder(tmp_path / "fresh", {}), painted)
    assert sorted(set(seen)) == [
        2,
        3,
    ]  # the chunk as a whole, so that it is bit for bit as a run that was never stopped
    assert again.estimate.to_bytes() == fresh.estimate.to_bytes() != first.estimate.to_bytes()
    assert again.notes == ("1 pair(s) had another picture when they were first measured, and were measured again: 3",)
    assert Outcome.load(tmp_path / "run").notes == again.notes
    assert Outcome.load(tmp_path / "run").estimate.to_bytes() == fresh.estimate.to_bytes()
    assert len(list((tmp_path / "run" / "shards").glob("*.shard"))) == 4
    go(RunFolder(tmp_path / "run", {}), painted, unseen := [])
    assert unseen == []
    # One prompt for all is no law of labels, so that there is nothing that they could hold at most.
    assert again.estimate.ceiling is None
    assert again.to_pandas()["image_digest"].tolist() == [row.label().digest for row in painted]


def test_a_run_over_labels_knows_what_they_hold(tmp_path):
    rows = [Row(k, paint(tmp_path / "in" / f"{k}.png", 20 * k), "ab"[k % 2], None) for k in range(10)]
    made = go(RunFolder(tmp_path / "run", {}), rows)
    assert made.estimate.ceiling.tolist() == pytest.approx([math.log(2) + 1 / 20] * 10)
    assert torch.equal(Outcome.load(tmp_path / "run").estimate.ceiling, made.estimate.ceiling)


@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_stopped_before_it_cleared_away_what_changed(tmp_path, painted, first):
    """Of two shards of one chunk, whichever comes first by its name, the newer counts; the other goes with the next run."""
    folder = RunFolder(tmp_path / "run", {})
    go(folder, painted)
    old = {number: [(path, path.read_bytes()) for path in paths] for number, paths in folder.shards.listed().items()}
    for value in range(100, 256):
        paint(painted[3].image, value)
        fresh = go(folder, painted).estimate.to_bytes()
        (new,) = folder.shards.listed()[1]
        if (new.name < old[1][0][0].name) == first:
            break
    stale, body = old[1][0]
    stale.write_bytes(body)
    os.utime(stale, ns=(0, 0))
    assert Outcome.load(tmp_path / "run").estimate.to_bytes() == fresh
    seen = []
    assert go(folder, painted, seen).estimate.to_bytes() == fresh
    assert not seen
    assert folder.shards.listed()[1] == [new]


def test_the_content_of_a_picture_counts_and_not_its_folder(tmp_path, painted):
    go(RunFolder(tmp_path / "run", {}), painted)
    moved = [row._replace(image=paint(tmp_path / "moved" / f"{row.place}.png", 30 * row.place)) for row in painted]
    seen = []
    go(RunFolder(tmp_path / "run", {}), moved, seen)
    assert seen == []
    renamed = [
        row._replace(image=paint(tmp_path / "moved" / f"new-{row.place}.png", 30 * row.place)) for row in painted
    ]
    go(RunFolder(tmp_path / "run", {}), renamed, seen)
    assert seen == []
    # Other pictures under the same names are measured, one under another name is another data set.
    kept = renamed[5].image.read_bytes()
    paint(renamed[5].image, 100)
    with pytest.raises(
        ValueError, match=r"over other pairs: pair 5 was 'a' of .*5.png there and is 'a' of .*new-5.png"
    ):
        go(RunFolder(tmp_path / "run", {}), renamed)
    renamed[5].image.write_bytes(kept)
    go(RunFolder(tmp_path / "run", {}), [row._replace(image=paint(row.image, 9)) for row in moved], seen)
    assert seen == list(range(7))


@pytest.mark.parametrize("texts", [{"prompt": "b"}, {"given": "b"}])
def test_another_text_is_another_data_set(tmp_path, painted, texts):
    go(RunFolder(tmp_path / "run", {}), painted)
    with pytest.raises(ValueError, match="over other pairs: pair 6 was"):
        go(RunFolder(tmp_path / "run", {}), [*painted[:6], painted[6]._replace(**texts)])
    with pytest.raises(ValueError, match="over other pairs"):
        go(RunFolder(tmp_path / "run", {}), painted[:5])


def test_rows_that_came_since_are_measured(tmp_path, painted):
    go(RunFolder(tmp_path / "run", {}), painted[:5])
    seen = []
    outcome = go(RunFolder(tmp_path / "run", {}), painted, seen)
    assert seen == [4, 5, 6]
    assert outcome.estimate.to_bytes() == go(RunFolder(tmp_path / "fresh", {}), painted).estimate.to_bytes()
    assert outcome.notes == ()


def test_palettes_are_content(tmp_path):
    pictures = []
    for colours in ([0, 0, 0, 255, 0, 0], [0, 0, 0, 0, 255, 0]):
        picture = Image.fromarray(np.eye(8, dtype=np.uint8), "P")
        picture.putpalette(colours)
        pictures.append(Row(0, picture, "a", None))
    assert pictures[0].label().digest != pictures[1].label().digest


def test_what_could_not_be_read_is_tried_again(tmp_path, painted, monkeypatch):
    hidden = painted[2].image.rename(tmp_path / "elsewhere.png")
    broken = painted[5].image
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    first = go(RunFolder(tmp_path / "run", {}), painted)
    assert [failure.place for failure in first.failures] == [2, 5]
    # Nothing is new: nothing is measured, and the failures stand.
    seen = []
    assert go(RunFolder(tmp_path / "run", {}), painted, seen).failures == first.failures
    assert seen == []
    hidden.rename(painted[2].image)
    again = go(RunFolder(tmp_path / "run", {}), painted, seen)
    assert sorted(set(seen)) == [2, 3]
    assert [failure.place for failure in again.failures] == [5]
    assert again.notes == ("1 pair(s) were bad before, and were tried again: 2",)
    broken.write_bytes(whole)
    again = go(RunFolder(tmp_path / "run", {}), painted, seen)
    assert not again.failures
    assert again.notes == ("2 pair(s) were bad before, and were tried again: 2, 5",)
    assert again.estimate.to_bytes() == go(RunFolder(tmp_path / "fresh", {}), painted).estimate.to_bytes()


def test_a_disk_that_fails_for_a_moment_spoils_nothing(tmp_path, painted, monkeypatch):
    read = Path.read_bytes
    failing = {painted[k].image for k in (1, 4)}

    def fails(path):
        if path in failing:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    first = go(RunFolder(tmp_path / "run", {}), painted)
    assert [failure.place for failure in first.failures] == [1, 4]
    assert "Input/output error" in first.failures[0].reason
    failing.clear()
    again = go(RunFolder(tmp_path / "run", {}), painted)
    assert again.estimate.to_bytes() == go(RunFolder(tmp_path / "fresh", {}), painted).estimate.to_bytes()
    # Pictures that were measured and cannot be read now leave their numbers, which is said.
    failing.update(row.image for row in painted[:4])
    with pytest.warns(
        RuntimeWarning, match="the pictures of 4 measured pairs cannot be read now, so they were not compared"
    ):
        kept = go(RunFolder(tmp_path / "run", {}), painted)
    assert kept.estimate.to_bytes() == again.estimate.to_bytes()


@pytest.mark.parametrize("how", ["gone", "empty", "failing"])
def test_a_share_that_is_away_is_no_thousand_bad_pairs(tmp_path, painted, monkeypatch, how):
    away = tmp_path / "away"
    if how == "failing":
        monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(OSError(116, "Stale file handle")))
    else:
        (tmp_path / "in").rename(away)
        if how == "empty":
            (tmp_path / "in").mkdir()
    folder = RunFolder(tmp_path / "run", {})
    with pytest.raises(OSError, match=r"none of the pairs 0 to 1 can be read \(.*run again when it is back"):
        go(folder, painted)
    monkeypatch.undo()
    assert not folder.shards.listed()
    if how != "failing":
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        away.rename(tmp_path / "in")
    assert not go(folder, painted).failures


def test_files_that_are_missing_from_a_folder_that_is_there_are_bad_pairs(tmp_path, painted):
    for row in painted[:6]:
        row.image.unlink()
    outcome = go(RunFolder(tmp_path / "run", {}), painted)
    assert [failure.place for failure in outcome.failures] == list(range(6))


def test_a_run_of_version_0_1_is_read_and_its_pictures_are_compared_anew(tmp_path, painted, monkeypatch):
    painted[6] = painted[6]._replace(image=np.full((8, 8, 3), 9, np.uint8))  # had a digest, of another kind
    old = RunFolder(tmp_path / "run", {})
    go(old, painted)
    estimate = Outcome.load(tmp_path / "run").estimate
    for number, paths in old.shards.listed().items():
        shard = old.shards.read(paths)
        body = shard.to_bytes()
        size = int.from_bytes(body[:8], "little")
        pairs = [[place, *label[:3], "" if label.image else "0" * 16] for place, label in shard.labels.items()]
        header = json.dumps({"pairs": pairs, "failures": []}).encode()
        body = len(header).to_bytes(8, "little") + header + body[8 + size :]
        monkeypatch.setattr(Shard, "to_bytes", lambda _, body=body: body)
        old.drop(paths)
        old.shards.write(number, shard)
        monkeypatch.undo()
    assert torch.equal(Outcome.load(tmp_path / "run").estimate.nats, estimate.nats)
    seen = []
    outcome = go(RunFolder(tmp_path / "run", {}), painted, seen)
    assert seen == list(range(7))
    assert torch.equal(outcome.estimate.nats, estimate.nats)


def test_a_process_waits_until_the_others_have_compared_theirs(tmp_path, painted):
    """Otherwise the main one would collect what another is about to measure again."""
    go(RunFolder(tmp_path / "run", {}), painted)
    paint(painted[2].image, 250)  # of the second chunk, which is the other process's
    outcomes = []
    options = {"world": 2, "launch": "a"}
    main = threading.Thread(
        target=lambda: outcomes.append(go(RunFolder(tmp_path / "run", {}), painted, rank=0, **options))
    )
    main.start()
    time.sleep(0.3)
    assert not outcomes
    go(RunFolder(tmp_path / "run", {}), painted, rank=1, **options)
    main.join()
    assert outcomes[0].estimate.to_bytes() == go(RunFolder(tmp_path / "fresh", {}), painted).estimate.to_bytes()
    RunFolder(tmp_path / "run", {}).unmark("a", 2)
    assert not list((tmp_path / "run" / "shards").glob(".*"))


def test_images_that_stand_in_several_pairs_are_named(tmp_path, painted):
    shutil.copy(painted[0].image, painted[4].image)
    outcome = go(RunFolder(tmp_path / "run", {}), painted)
    names = outcome.clusters()
    assert names[0] == names[4]
    assert len(set(names)) == 6
    assert outcome.notes == (
        "1 image(s) stand in 2 pairs: a standard error that takes pairs as independent is too small; use "
        "mean(cluster=outcome.clusters())",
    )
    assert finish(RunFolder(tmp_path / "oracle", {})).clusters() == [f"pair {k}" for k in range(12)]
    painted[0].image.unlink()
    with pytest.raises(ValueError, match="no good pair"):
        go(RunFolder(tmp_path / "bad", {}), painted[:1]).clusters()


def test_a_run_goes_on_with_the_versions_that_it_began_with(pipe, table, whole, tmp_path, monkeypatch):
    out = shutil.copytree(whole[0], tmp_path / "run")
    monkeypatch.setattr("mmg_diffusers.runs.distributed.versions", lambda: {"torch": "9.9"})
    with pytest.raises(ValueError, match=r"other settings \(versions: .*'torch': '2.* there, .*9.9.* now\)"):
        pipe.run(table, out, levels=2, progress=False)
