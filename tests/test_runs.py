"""Runs over data sets: shards, resumption, failures, and processes that are real."""

import os
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from mmg_diffusers import Estimate
from mmg_diffusers.distributed import run_dataset
from mmg_diffusers.runs import Outcome, Row, RunFolder, chunks, collect, rows_of_dataset
from mmg_diffusers.runs import run as run_chunks
from mmg_diffusers.shapes import Shapes

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
    return out, run_dataset(pipe, table, out, levels=2, progress=False)


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
    again = run_dataset(pipe, table, out, levels=2, progress=False)
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)


def test_a_run_with_other_settings_is_refused(pipe, table, whole):
    with pytest.raises(ValueError, match=r"other settings \(levels: 2 there, 3 now\)"):
        run_dataset(pipe, table, whole[0], levels=3, progress=False)


@pytest.mark.parametrize("harm", ["truncate", "delete", "flip"])
def test_damaged_shards_are_measured_again(pipe, table, whole, harm):
    out, outcome = whole
    shard = sorted((out / "shards").iterdir())[1]
    body = bytearray(shard.read_bytes())
    if harm == "delete":
        shard.unlink()
    elif harm == "truncate":
        shard.write_bytes(body[: len(body) // 2])
    else:
        body[len(body) // 2] ^= 1
        shard.write_bytes(body)
    again = run_dataset(pipe, table, out, levels=2, progress=False)
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)
    assert len(list((out / "shards").iterdir())) == 3


def test_a_missing_shard_is_named(tmp_path):
    rows = [Row(k, "", "", None) for k in range(5)]
    with pytest.raises(ValueError, match="pairs 0 to 4 is missing"):
        collect(rows, RunFolder(tmp_path, {}))


def test_bad_pairs_are_recorded_and_the_others_measured(pipe, tmp_path):
    sample = Shapes("soft").sample(6, seed=8)
    images: list = list(sample.images)
    images[1] = np.full((32, 32, 3), np.nan)
    images[4] = "nowhere.png"
    source = [{"image": image, "prompt": prompt} for image, prompt in zip(images, sample.prompts, strict=True)]
    outcome = run_dataset(pipe, source, tmp_path / "run", levels=8, progress=False)
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
        run_dataset(pipe, source, tmp_path / "strict", levels=2, strict=True, progress=False)
    long = [{"image": images[0], "prompt": "a large red circle on the left " * 3}]
    cut = run_dataset(pipe, long, tmp_path / "cut", levels=2, progress=False)
    assert not cut.failures
    refused = run_dataset(pipe, long, tmp_path / "refused", levels=2, truncate=False, progress=False)
    assert refused.estimate is None
    assert "does not see" in refused.failures[0].reason


def test_data_sets_map_style_and_streaming(pipe, tmp_path):
    datasets = pytest.importorskip("datasets")
    sample = Shapes("soft").sample(4, seed=8)
    images = [Image.fromarray((image * 255).round().astype("uint8")) for image in sample.images]
    dataset = datasets.Dataset.from_dict({"image": images, "caption": sample.prompts}).cast_column(
        "image", datasets.Image()
    )
    one = run_dataset(pipe, dataset, tmp_path / "map", levels=2, progress=False)
    other = run_dataset(pipe, dataset.to_iterable_dataset(), tmp_path / "stream", levels=2, progress=False)
    assert torch.equal(one.estimate.nats, other.estimate.nats)
    part = run_dataset(pipe, dataset, tmp_path / "part", levels=2, limit=3, progress=False)
    assert len(part.estimate) == 3
    with pytest.raises(ValueError, match=r"row 0 has the columns \['caption'\].*rename_column"):
        run_dataset(pipe, dataset.remove_columns("image"), tmp_path / "none", levels=2, progress=False)


def test_chunks_and_rows():
    assert [(n, len(part)) for n, part in chunks(rows_of_dataset([{"image": "a", "text": "b"}] * 5), 2)] == [
        (0, 2),
        (1, 2),
        (2, 1),
    ]
    assert [row.prompt for row in rows_of_dataset([{"jpg": "a", "txt": "b"}, {"path": "c", "txt": "d"}])] == ["b", "d"]
    assert next(iter(rows_of_dataset([{"jpg": "a"}], "all"))).prompt == "all"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose a folder that can be written to"):
        RunFolder(tmp_path / "file" / "run", {})


def test_a_full_disk_keeps_what_was_finished(pipe, tmp_path, monkeypatch):
    sample = Shapes("soft").sample(4, seed=8)
    rows = [Row(k, sample.images[k], sample.prompts[k], None) for k in range(4)]
    folder = RunFolder(tmp_path, {})

    def measure(part):
        return pipe([r.image for r in part], [r.prompt for r in part], levels=2, pair_ids=[r.place for r in part])

    replace, done = os.replace, []

    def full(source, target):
        done.append(target)
        if len(done) > 1:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="What was finished is kept"):
        run_chunks(measure, rows, folder, chunk=2, progress=False)
    monkeypatch.undo()
    assert not list((tmp_path / "shards").glob(".*"))
    run_chunks(measure, rows, folder, chunk=2, progress=False)
    assert isinstance(collect(rows, folder, chunk=2), Outcome)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_change_nothing(table, whole, tmp_path, processes):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes)]
    command += [
        "-m",
        "mmg_diffusers",
        "run",
        "shapes",
        str(table),
        "--output",
        str(tmp_path / "run"),
        "--levels",
        "2",
        "--quiet",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("70 pairs") == 1  # gathered and said once
    found = Estimate.load(tmp_path / "run" / "estimate.safetensors")
    assert torch.equal(found.curve.pair_ids, whole[1].estimate.curve.pair_ids)
    # Bit for bit at the same chunk and batch layout and the same number of threads.
    torch.testing.assert_close(found.nats, whole[1].estimate.nats, rtol=1e-9, atol=1e-9)
