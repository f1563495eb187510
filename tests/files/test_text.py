"""Text is read in one way, whoever wrote it and wherever it is read."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmg_diffusers
from mmg_diffusers.files.text import lines_of, read_json, read_lines, read_text
from mmg_diffusers.pairs.tables import read_candidates, read_pairs

TEXT = "a café\nun thé, noir \U0001f600"
# What str.splitlines takes for ends of lines, and JSON and captions do not.
NO_BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_how_a_file_is_written(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT
    path.write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(str(path)) == TEXT


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"a cat\r\na caf\xe9\r\n", r"a.txt is no text in UTF-8: byte 12, in line 2, is 0xe9 \(.*\); save it as UTF-8"),
        (b"\xff\xfea", "no text in UTF-16: byte 2"),
        ("a cat".encode("utf-16-le"), "character 1 is a null character"),
        (b"\x89PNG\r\n", "byte 0, in line 1, is 0x89"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(tmp_path, body, says):
    (tmp_path / "a.txt").write_bytes(body)
    with pytest.raises(ValueError, match=says):
        read_text(tmp_path / "a.txt")


def test_lines_end_at_line_breaks_alone(tmp_path):
    assert lines_of("a\nb\r\nc\rd") == ["a", "b", "c", "d"]
    assert lines_of("a\n\nb\n") == ["a", "", "b"]
    assert lines_of("") == []
    assert lines_of(f"a{NO_BREAKS}b\n") == [f"a{NO_BREAKS}b"]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_lines(tmp_path / "a.txt") == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_and_candidates_come_back_whoever_saved_them(tmp_path, encoding):
    prompts = [f"a{mark}café" for mark in NO_BREAKS[:3]] + ["thé"]
    rows = [{"image": "0.png", "prompt": prompt} for prompt in prompts]
    jsonl = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    csv = "image,prompt\n" + "".join(f"0.png,{prompt}\n" for prompt in prompts)
    for name, text in (("a.jsonl", jsonl), ("a.csv", csv)):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert read_pairs(tmp_path / name).prompts == prompts
    (tmp_path / "a.txt").write_bytes("\r\n".join(prompts).encode(encoding))
    assert read_candidates(tmp_path / "a.txt").prompts == tuple(prompts)
    assert read_candidates(str(tmp_path / "a.csv")).prompts == tuple(prompts)
    (tmp_path / "a.json").write_bytes('{"a": "é"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "é"}
    (tmp_path / "a.json").write_bytes(b"{")
    with pytest.raises(ValueError, match=r"a.json is no JSON"):
        read_json(tmp_path / "a.json")


def test_the_locale_has_no_say(tmp_path):
    """Where the locale's encoding is not UTF-8, as on many a Windows machine."""
    (tmp_path / "a.txt").write_bytes("a café\nun thé".encode())
    code = f"from mmg_diffusers.pairs.tables import read_candidates\nprint(ascii(read_candidates({str(tmp_path / 'a.txt')!r}).prompts))"
    env = {
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
        "PYTHONPATH": str(Path(mmg_diffusers.__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == r"('a caf\xe9', 'un th\xe9')"


PACKAGE = Path(mmg_diffusers.__file__).parent
ELSEWHERE = re.compile(r"\.read_text\(\)|\.splitlines\(|\.write_text\(|\.open\(\"[wra]t?\"|\bopen\(")


@pytest.mark.parametrize("room", ["checks.py", "files", "measure", "pairs", "analysis", "runs", "pipelines"])
def test_no_other_code_reads_or_writes_text(room):
    paths = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
    lines = [(path.name, line) for path in paths for line in path.read_text("utf-8").split("\n")]
    bytes_alone = re.compile(r'open\("[rw]b"\)|Image\.open|tarfile\.open|xopen\(|safe_open\(')
    assert [line for line in lines if ELSEWHERE.search(line[1]) and not bytes_alone.search(line[1])] == []
