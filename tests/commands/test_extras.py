"""Without an extra everything else works, and what misses it says so before anything is measured."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from mmg_diffusers.checks import needs

# Some packages are not found, as if they were not installed.
BLOCK = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.split(".")[0] in {names} else super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
DATA, PLOT, CLI = ("datasets", "pandas", "pyarrow"), ("matplotlib",), ("typer", "rich", "click")


def without(packages, code):
    """What Python says when it runs this code without some packages."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(names=set(packages)) + code], capture_output=True, text=True
    )


def commands(packages, lines):
    """Status and messages of commands of one process without some packages; loading a model would end one with status 99."""
    done = without(
        packages,
        "import contextlib, io, json\n"
        "from unittest import mock\n"
        "import mmg_diffusers\n"
        + (
            ""
            if "typer" in packages
            else "mock.patch('mmg_diffusers.pipelines.pipeline.MMGPipeline.from_pretrained', side_effect=lambda *a, **k: sys.exit(99)).start()\n"
        )
        + f"""
from mmg_diffusers.commands.entry import main
found = []
for line in {[["mmg-diffusers", *map(str, line)] for line in lines]}:
    sys.argv = line
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as stop:
            found.append((stop.code, said.getvalue()))
        else:
            found.append((0, said.getvalue()))
print(json.dumps(found))
""",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_package_that_is_missing_is_named_with_its_extra():
    needs("numpy", "all")
    with pytest.raises(ModuleNotFoundError, match=r"no_such is not installed; pip install 'mmg-diffusers\[plot\]'"):
        needs("no_such", "plot")
    with pytest.raises(ModuleNotFoundError, match=r"no_such\.part is not installed; .*\[data\]"):
        needs("no_such.part", "data")


def test_a_package_that_is_there_but_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_thing'"):
        needs("half_there", "plot")


def test_measuring_needs_no_extra():
    done = without(
        (*DATA, *PLOT, *CLI),
        "from PIL import Image\n"
        "from mmg_diffusers import MMGPipeline, shapes_model\n"
        "pipe = MMGPipeline.from_pretrained(shapes_model())\n"
        "out = pipe(Image.new('RGB', (32, 32)), 'a red circle', levels=2)\n"
        "print(out)\n"
        "try:\n    out.to_pandas()\nexcept ImportError as error:\n    print(error)\n",
    )
    assert done.returncode == 0, done.stderr
    assert "nats" in done.stdout
    assert "pandas is not installed; pip install 'mmg-diffusers[data]'" in done.stdout


def test_the_command_line_says_how_it_is_installed():
    for missing in ("typer", "rich"):
        ((status, said),) = commands((missing, "typer"), [["--help"]])
        assert status == 2
        assert said == "mmg-diffusers: typer is not installed; pip install 'mmg-diffusers[cli]'\n"


@pytest.mark.parametrize(
    ("missing", "lines"),
    [
        (
            "pandas",
            [
                ["estimate", "shapes", "{picture}", "--prompt", "a"],
                ["estimate", "shapes", "{picture}", "--prompt", "a", "--plan", "0.1"],
                ["likelihood", "shapes", "{picture}", "--output", "{out}"],
                ["run", "shapes", "{picture}", "--prompt", "a", "--output", "{out}"],
                ["audit", "shapes", "{picture}", "--prompt", "a", "--output", "{out}"],
                ["report", "shapes", "{picture}", "--prompt", "a", "--plan", "0.1"],
                ["collect", "{out}", "--table", "{out}/x.csv"],
            ],
        ),
        (
            "pyarrow",
            [
                ["run", "shapes", "{picture}", "--prompt", "a", "--output", "{out}"],
                ["collect", "{out}", "--table", "{out}/x.parquet"],
            ],
        ),
        (
            "matplotlib",
            [
                ["influence", "--pairs", "2", "--output", "{out}"],
                ["report", "shapes", "{picture}", "--prompt", "a"],
                ["demo", "--output", "{out}"],
            ],
        ),
    ],
    ids=["pandas", "pyarrow", "matplotlib"],
)
def test_commands_name_the_extra_before_they_measure(tmp_path, missing, lines):
    picture = tmp_path / "grey.png"
    Image.new("RGB", (32, 32), "grey").save(picture)
    filled = [[text.format(picture=picture, out=tmp_path / "out") for text in line] for line in lines]
    extra = "plot" if missing in PLOT else "data"
    found = commands((missing,), filled)
    assert len(found) == len(lines)
    for line, (status, said) in zip(lines, found, strict=True):
        assert status == 2, (line, said)
        assert f"{missing} is not installed; pip install 'mmg-diffusers[{extra}]'" in said, line
    assert not (tmp_path / "out").exists()


def test_figures_and_runs_in_python_name_theirs(tmp_path):
    done = without(
        (*DATA, *PLOT),
        "from mmg_diffusers.commands import figures\n"
        "from mmg_diffusers.pairs.tables import read_pairs\n"
        "from mmg_diffusers.runs.shards import RunFolder\n"
        f"folder = {str(tmp_path)!r}\n"
        "open(folder + '/a.csv', 'w').write('path,text\\n')\n"
        "for act in (lambda: figures.plot_errors(['a'], [0.0], [0.0]), lambda: figures.lay_over(None, None, 1.0),\n"
        "            lambda: RunFolder(folder + '/run', {}), lambda: read_pairs(folder + '/a.csv')):\n"
        "    try:\n        act()\n    except ImportError as error:\n        print(error)\n",
    )
    assert done.returncode == 0, done.stderr
    said = [line.split(" is not installed; pip install ")[1] for line in done.stdout.splitlines()]
    assert said == ["'mmg-diffusers[plot]'"] * 2 + ["'mmg-diffusers[data]'"] * 2
    assert not (tmp_path / "run").exists()
