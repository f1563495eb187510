"""The parts of scripts/benchmarks/peers.py: rows, resuming, and what is left out when a package is not there."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmg_diffusers.worlds.tasks import get_task

FOLDER = Path(__file__).parents[1] / "scripts" / "benchmarks"
KEY = "1v1-normal-0.75"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("peers")


def asked(peers, monkeypatch, answers):
    """Let estimates be answered by name, and note which were asked for."""
    seen = []

    def ask(command, limit):
        seen.append(command)
        return answers[command]

    monkeypatch.setattr(peers, "command_of", lambda peer, path, environment: peer)
    monkeypatch.setattr(peers, "ask", ask)
    return seen


def everything(peers, tmp_path, which, limit=10):
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "python").touch()
    return peers.run([KEY], which, [200, 300], [1], tmp_path, limit, tmp_path / "out" / "peers.csv")


def test_rows_are_written_once_and_what_failed_is_tried_again(peers, monkeypatch, tmp_path):
    answers = {
        "KSG": {"found": 0.4, "seconds": 2.0},
        "MINE": {"found": math.nan, "seconds": 10.0, "said": "stopped after 10 s"},
        "CCA": {"found": math.nan, "seconds": math.nan, "said": "failed: no numbers"},
    }
    seen = asked(peers, monkeypatch, answers)
    rows = everything(peers, tmp_path, list(answers))
    assert seen == [*answers, *answers]
    assert [set(row) for row in rows] == [set(peers.FIELDS)] * 6
    assert rows[0]["truth"] == get_task(KEY).mi_nats
    seen.clear()
    answers["CCA"] = {"found": 0.5, "seconds": 1.0}
    again = everything(peers, tmp_path, list(answers))
    assert seen == ["CCA", "CCA"]  # what was stopped would be stopped again
    assert [row["found"] for row in again if row["peer"] == "KSG"] == [0.4, 0.4]
    text = peers.table(again)
    assert "| 200 pairs | truth | KSG | CCA | MINE |" in text
    assert "0.400 (2 s)" in text
    assert "stopped after 10 s" in text
    assert f"{abs(0.4 - get_task(KEY).mi_nats):.3f}" in text.splitlines()[3]


def test_a_package_that_is_missing_is_told_once_and_has_no_rows(peers, monkeypatch, tmp_path, capsys):
    answers = {"KSG": {"found": 0.4, "seconds": 2.0}, "SMILE": {"missing": "torch-mist"}}
    seen = asked(peers, monkeypatch, answers)
    rows = everything(peers, tmp_path, ["SMILE", "DoE", "KSG"])
    assert seen == ["SMILE", "KSG", "KSG"]  # DoE is of the same package
    assert {row["peer"] for row in rows} == {"KSG"}
    assert capsys.readouterr().err.count("skipped: torch-mist") == 1


def test_without_an_environment_only_ours_is_run(peers, monkeypatch, tmp_path, capsys):
    seen = asked(peers, monkeypatch, {"ours": {"found": 0.4, "seconds": 1.0, "said": "± 0.010"}})
    rows = peers.run([KEY], list(peers.PEERS), [200], [1], tmp_path / "none", 10, tmp_path / "peers.csv")
    assert seen == ["ours"]
    assert len(rows) == 1
    assert "--install" in capsys.readouterr().err


def test_what_dies_or_takes_too_long_is_a_row_that_says_so(peers):
    long = [sys.executable, "-c", "while True: pass"]
    assert peers.ask(long, 1)["said"] == "stopped after 1 s"
    broken = peers.ask([sys.executable, "-c", "raise ValueError('no numbers')"], 10)
    assert broken["said"] == "failed: ValueError: no numbers"
    assert math.isnan(broken["found"])
    assert peers.ask([sys.executable, "-c", "print('noise'); print('{\"found\": 1.5, \"seconds\": 2}')"], 10) == {
        "found": 1.5,
        "seconds": 2,
    }


def test_the_worker_names_the_package_that_is_not_there(tmp_path):
    """In this environment no peer is installed, or the test has nothing to say."""
    pytest.importorskip("numpy")
    if importlib.util.find_spec("torch_mist") is not None:
        pytest.skip("torch-mist is installed here")
    path = tmp_path / "pairs.npz"
    np.savez(path, x=np.zeros((5, 1)), y=np.zeros((5, 1)), seed=np.array(0))
    command = [sys.executable, str(FOLDER / "peer_estimators.py"), "SMILE", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"missing": "torch-mist", "module": "torch_mist"}
