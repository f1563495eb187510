"""The benchmarks, with small arguments."""

import json
import os
import re

import pytest
import torch
from tqdm import tqdm

from mmg_diffusers.commands.studies.benchmarks import tasks
from mmg_diffusers.files.records import versions
from tests.commands.calling import ROOT, answered, refused, run


def test_benchmarks(tmp_path, capsys):
    small = ["--train", 1000, "--test", 200, "--steps", 10, "--workers", 1, "--output", tmp_path, "--seeds", 2]
    answered("benchmark", "bmi", "--task", "1v1-normal-0.75", "--joint", *small)
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
    answered("benchmark", "bmi", "--task", "1v1-normal-0.75", "--joint", *small)
    assert os.stat(done).st_mtime_ns == before
    said = refused("benchmark", "bmi", "--task", "1v1-normal-0.75", "--quick", "--output", tmp_path)
    assert "other settings" in said


@pytest.mark.slow
def test_high_mi_benchmark(tmp_path, capsys):
    small = ["--train", 1000, "--test", 200, "--steps", 10, "--workers", 1, "--output", tmp_path, "--seeds", 1]
    answered("benchmark", "high-mi", "--task", "multinormal-sparse-3-3-2-200.0", *small, "--quiet")
    said = capsys.readouterr().out
    assert "strength 200" in said
    row = next(line for line in said.splitlines() if "strength 200" in line)
    assert row.split("|")[4].strip() == "-"  # one seed has no spread


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_shows_no_bar(tmp_path, monkeypatch, quiet):
    told = []
    monkeypatch.setattr(
        tasks, "tqdm", lambda *arguments, **options: (told.append(options["disable"]), tqdm(disable=True))[1]
    )
    (tmp_path / "a-task.0.json").write_text('{"kept": 1}')
    assert tasks.run(["a-task"], [0], tasks.Plan.quick(), tmp_path, 1, quiet) == [{"kept": 1}]
    assert told == [True if quiet else None]  # None: only where nobody would see it move


def test_scaling(tmp_path, capsys, monkeypatch):
    from mmg_diffusers.commands.studies.benchmarks import scaling

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


@pytest.mark.slow
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


def table_rows(said, columns):
    """Rows of Markdown tables with so many columns, by their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in cells if len(row) == columns}


def test_rows_of_a_card_at_tiny_sizes(capsys):
    threads = torch.get_num_threads()
    try:
        run(ROOT / "scripts" / "benchmarks" / "gpu.py", "--tiny", "--pairs", 2, "--levels", 2, "--rounds", 1)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "no card was measured" in said
    found = table_rows(said, 9)
    for name in ("sd15", "sdxl", "sd3"):
        rows, bare, through, share, _, pairs, _, memory = found[name]
        assert rows == "16"
        assert memory == "-"
        # One turn, so that the share is the two rates' own; a pair takes two levels,
        # two noises and two conditions.
        assert float(share) == pytest.approx(float(through) / float(bare), rel=0.02)
        assert float(pairs) == pytest.approx(float(through) / 8, rel=0.02)


def test_flop_of_a_row_and_of_its_text():
    from mmg_diffusers.commands.studies.benchmarks import sizes

    plain = sizes.count(sizes.SD15)
    assert plain.row / 1e12 == pytest.approx(0.80, abs=0.005)  # 401.6 GMAC, as is often told
    # Sixteen layers of cross attention, at 64, 32, 16 and 8 pixels: 2 (down) + 3 (up) of each width, and the middle one.
    widths = 5 * (320 + 640 + 1280) + 1280
    assert plain.text == 2 * 2 * 77 * 768 * widths
    small = sizes.count(sizes.tiny(sizes.SD3))
    assert small.row > 0
    assert small.text == 0


@pytest.mark.slow
def test_scaling_in_processes_of_its_own(tmp_path, capsys):
    run(ROOT / "scripts" / "benchmarks" / "scaling.py", "compare", "--pairs", 10, "--shared", 70, "--output", tmp_path)
    assert "| 2 | 70 |" in capsys.readouterr().out


@pytest.mark.slow
def test_kill_and_resume(tmp_path, capsys):
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


def test_tuning_by_the_likelihoods_objective(capsys):
    script = ROOT / "scripts" / "benchmarks" / "tuning_objective.py"
    run(script, "--steps", 10, "--batch", 32, "--seeds", 1, "--count", 40, "--draws", 1)
    said = capsys.readouterr().out
    for word in ("| + the same loss, less + likelihood |", "| exact denoiser |", "- seed 0: an ensemble"):
        assert word in said
    row = next(line for line in said.splitlines() if line.startswith("| DDPM |"))
    excess = float(row.split("|")[2].split("+-")[0])
    exact = next(line for line in said.splitlines() if line.startswith("| exact denoiser |"))
    assert excess > float(exact.split("|")[2].split("+-")[0]) + 0.5  # it was hardly trained
