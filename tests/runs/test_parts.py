"""Parts of a run that share a folder and do not know of each other."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from mmg_diffusers.runs import Expected, Outcome, Part
from mmg_diffusers.runs.shards import RunFolder, run
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import answered, call, refused
from tests.launching import torchrun

PAIRS = 70  # three chunks


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    sample = Shapes("soft").sample(PAIRS, seed=5)
    for k, image in enumerate(sample.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / f"{k}.png")
    rows = pandas.DataFrame({"image": [f"{k}.png" for k in range(PAIRS)], "prompt": sample.prompts})
    rows.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def test_parts_are_what_a_whole_run_is(pipe, table, tmp_path):
    whole = pipe.run(table, tmp_path / "whole", levels=2, progress=False).estimate
    folder = tmp_path / "parts"
    first = pipe.run(table, Part(folder, 2, 3), levels=2, progress=False)
    assert len(first.estimate) == 32
    assert first.notes[0] == "32 of 70 pairs are there; missing are pairs of the parts 1/3, 3/3: run with --part"
    assert not (folder / "pairs.parquet").exists()
    assert Expected.load(folder) == Expected(3, 70, 3)
    pipe.run(table, Part(folder, 3, 3), levels=2, progress=False)
    last = pipe.run(table, Part(folder, 1, 3), levels=2, progress=False)
    # The one that finds all there writes what a run in one piece writes.
    assert last.estimate.nats.tolist() == whole.nats.tolist()
    assert last.notes == ()
    assert pandas.read_parquet(folder / "pairs.parquet")["nats"].tolist() == whole.nats.tolist()
    assert (folder / "estimate.safetensors").read_bytes() == (tmp_path / "whole" / "estimate.safetensors").read_bytes()


def test_collect_merges_parts_and_says_what_is_missing(table, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["run", "shapes", table, "--output", out, "--levels", 2, "--device", "cpu"]
    said = answered(*command, "--part", "1/2")
    assert "part 1/2 is through" in said
    assert "38 of 70 pairs are there; missing are pairs of the part 2/2: run with --part" in said
    told = json.loads(call("collect", out, "--json").stdout)
    assert (told["pairs there"], told["pairs expected"], told["chunks missing"]) == (38, 70, [1])
    # The last part ends before it can write the table, as a job at its time limit does.
    monkeypatch.setattr("mmg_diffusers.runs.distributed.Outcome.save", lambda self, folder: None)
    answered(*command, "--part", "2/2")
    monkeypatch.undo()
    assert not (out / "pairs.parquet").exists()
    said = answered("collect", out)
    assert f"wrote {out / 'pairs.parquet'}" in said
    assert len(pandas.read_parquet(out / "pairs.parquet")) == PAIRS
    assert "missing" not in said


def test_a_part_without_pairs_is_no_error(table, tmp_path):
    """Of more parts than chunks some have nothing to do, and a job array should not see them fail."""
    command = ["run", "shapes", table, "--output", tmp_path / "out", "--levels", 2, "--device", "cpu", "--limit", 33]
    said = answered(*command, "--part", "3/3")
    assert "part 3/3 has no pairs, since all of them are in 2 chunks" in said
    assert "0 of 33 pairs are there; missing are pairs of the parts 1/3, 2/3: run with --part" in said
    answered(*command, "--part", "1/3")
    said = answered(*command, "--part", "3/3")
    assert "part 3/3 has no pairs" in said
    assert "32 of 33 pairs are there; missing are pairs of the part 2/3" in said
    answered(*command, "--part", "2/3")
    assert len(pandas.read_parquet(tmp_path / "out" / "pairs.parquet")) == 33


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3"])
def test_what_is_no_part(text, tmp_path):
    with pytest.raises(ValueError, match="expected a part and how many there are, such as 3/16"):
        Part.parse(text, tmp_path)


def test_parts_are_checked():
    with pytest.raises(ValueError, match="the part is 3 of 2; expected 1 to 2"):
        Part("a", 3, 2)
    with pytest.raises(TypeError, match=r"the part is 1\.5"):
        Part("a", 1.5, 2)
    chunks = [k for part in (1, 2, 3) for rank in (0, 1) for k in range(20) if Part("a", part, 3).own(k, rank, 2)]
    assert sorted(chunks) == list(range(20))
    assert Part.parse(None, Path("a")).whole


def test_a_refused_part_measures_nothing(table, tmp_path):
    said = refused("run", "shapes", table, "--output", tmp_path / "out", "--part", "17/16")
    assert "--part is '17/16'" in said
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_kind_says_nothing_of_parts(tmp_path):
    folder = RunFolder(tmp_path, {})
    assert run(lambda rows: None, [], folder, progress=False) == 0
    assert Expected.load(tmp_path) == Expected(0, 0, 1)
    (tmp_path / "expected.json").write_text("{")
    assert Expected.load(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="has not finished a shard yet"):
        Outcome.load(tmp_path)


@pytest.mark.slow
def test_many_nodes_by_a_rendezvous(table, tmp_path):
    """Two launches of torchrun on one machine, which find each other as two nodes do."""
    import os
    import socket
    import subprocess
    import sys

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "of-a-test"]
    command += ["-m", "mmg_diffusers", "run", "shapes", str(table), "--output", str(tmp_path / "two"), "--levels", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    said = [node.communicate(timeout=280) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert sum(out.count("measured by 2 process(es)") for out, _ in said) == 1
    one = tmp_path / "one"
    torchrun(1, "-m", "mmg_diffusers", "run", "shapes", table, "--output", one, "--levels", "2")
    np.testing.assert_array_equal(
        pandas.read_parquet(one / "pairs.parquet")["nats"],
        pandas.read_parquet(tmp_path / "two" / "pairs.parquet")["nats"],
    )
