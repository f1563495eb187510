"""Every block of Python and every command of the pages runs, with few levels, steps and pairs.

Blocks of a page run in its order, and share their names. What a page takes for granted (images, prompts, ...) is in `given`.
"""

import re
import shlex
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import mmg_diffusers
from mmg_diffusers import MMGPipeline, NullPrompt, shapes_model
from mmg_diffusers.arrays import FitSettings
from mmg_diffusers.commands import app, demo, early, two_arrays
from mmg_diffusers.measure import density
from mmg_diffusers.pairs import plan
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes
from tests.commands.calling import call, run
from tests.commands.test_examples import EXAMPLES
from tests.docs.pages import PAGES, ROOT, code, commands, named
from tests.pipelines.families import dit, parity, wan

# Blocks that a test of their own runs, which says more of them.
ELSEWHERE = {
    "docs/likelihood.md": "tests/test_pages.py",
    "docs/uses.md": "tests/test_uses_page.py",
    "CONTRIBUTING.md": "tests/test_contributing.py",
}
# Models of the pages that no machine has at hand, by tiny ones of the same family.
TINY = {"facebook/DiT-XL-2-256": dit.ROWS[0], "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": wan.ROWS[0]}
# What makes a command small; the last of two options counts.
SMALL = {
    "estimate": "--levels 2 --quiet",
    "report": "--levels 2 --quiet",
    "likelihood": "--levels 3 --quiet",
    "compare": "--levels 3 --quiet",
    "audit": "--levels 3 --quiet",
    "fit": "--quiet",
    "run": "--levels 2 --quiet",
    "demo": "--pairs 2 --levels 2 --steps 3",
    "influence": "--pairs 1 --levels 2 --steps 3",
    "maps": "--pairs 1 --levels 2 --steps 3",
    "words": "--pairs 1 --levels 2 --steps 3",
    "switch": "--count 1 --times 2 --sampling-steps 2 --levels 3",
    "train": "--steps 2 --batch 4 --check-every 1 --levels 3 --width 8 --width 8",
}
SMALL_BENCHMARKS = {
    "bmi": "--train 1000 --test 200 --steps 10 --workers 1",
    "high-mi": "--train 1000 --test 200 --steps 10 --workers 1",
    "consistency": "--steps 3 --batch 2 --held-out 4 --watched 8 --levels 2",
}
WITH_CODE = [path for path in PAGES if code(path) and named(path) not in ELSEWHERE and "models" not in path.parts]
WITH_COMMANDS = [path for path in PAGES if list(commands(path))]
# Of candidates, negatives and models; they stand for what a reader has.
STANDS_FOR = {
    "MODEL": "shapes",
    "shapes-plain": "shapes",
    "ANOTHER-MODEL": "shapes-plain",
    "negatives:15": "negatives:2",
    "mnist": "mnist.npz",
    "a,b": "height,weight",
    "c": "age",
}


def test_every_page_with_code_is_run():
    for page, test in ELSEWHERE.items():
        if not (ROOT / page).exists():
            continue
        assert page.rpartition("/")[2] in (ROOT / test).read_text("utf-8")
    assert len(WITH_CODE) > 10
    for path in PAGES:
        indented = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"^    (from \S+ import|import|\w+ = |pipe\()", indented, re.MULTILINE), (
            f"{named(path)}: code that is not in a block of ```python is not run"
        )


@cache
def tiny(name):
    row = TINY[name]
    return parity.model_of(row, row.build())


@pytest.fixture(scope="session")
def load(pipe):
    """`MMGPipeline.from_pretrained`, which reads no model twice."""
    real, read = MMGPipeline.from_pretrained, {(str(shapes_model()), torch.float32): pipe}

    def from_pretrained(place, **options):
        if place in TINY:
            return tiny(place)
        key = (str(place), options.get("torch_dtype") or torch.float32)
        if key not in read:
            # In float32 all the same, which is the quicker on CPUs; dtypes have tests of their own.
            read[key] = real(place, **{name: value for name, value in options.items() if name != "torch_dtype"})
        return read[key]

    return from_pretrained


def save(image, path):
    Image.fromarray((np.asarray(image) * 255).round().astype("uint8")).save(path)


@pytest.fixture
def desk(tmp_path, monkeypatch, load):
    """An empty folder with what pages speak of, few levels, and no model read twice."""
    sample = Shapes("soft").sample(12, seed=3)
    for folder, some in (("pictures", range(3)), ("other-pictures", range(4, 8))):
        (tmp_path / folder).mkdir()
        for k in some:
            save(sample.images[k], tmp_path / folder / f"{k}.png")
    rows = ["file_name,prompt", *(f"pictures/{k}.png,{sample.prompts[k]}" for k in range(3))]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (tmp_path / "fitted-to").mkdir()
    for k in range(3, 12):
        save(sample.images[k], tmp_path / "fitted-to" / f"{k}.png")
    rows = ["file_name,prompt", *(f"fitted-to/{k}.png,{sample.prompts[k]}" for k in range(3, 12))]
    (tmp_path / "other-pairs.csv").write_text("\n".join(rows) + "\n", "utf-8")
    texts = ["file_name,text", *(f"{k}.png,a large red circle on the left" for k in range(3))]
    (tmp_path / "pictures" / "metadata.csv").write_text("\n".join(texts) + "\n", "utf-8")
    (tmp_path / "captions.txt").write_text("\n".join(dict.fromkeys([*sample.prompts[:3], *CAPTIONS[:3]])), "utf-8")
    generator = np.random.default_rng(0)
    x = generator.standard_normal((600, 2))
    np.savez(tmp_path / "pairs.npz", x=x, y=x + generator.standard_normal((600, 2)))
    shutil.copy(tmp_path / "pairs.npz", tmp_path / "mnist.npz")
    lines = [f"{a},{b},{a + c}" for (a, b), c in zip(x, generator.standard_normal(600), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["height,weight,age", *lines]), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "LEVELS", 2)
    monkeypatch.setattr(plan, "STEPS", 3)
    monkeypatch.setattr(density, "PILOT_LEVELS", 8)
    monkeypatch.setattr(demo, "PATHS", 1)
    monkeypatch.setattr(demo, "CALIBRATED", 3)
    monkeypatch.setattr(MMGPipeline, "from_pretrained", load)
    monkeypatch.setattr(early, "check_hub", lambda model, revision=None: None)
    real = mmg_diffusers.estimate_mi
    quick = FitSettings(steps=10)
    monkeypatch.setattr(
        two_arrays, "estimate_mi", lambda x, y, **more: real(x[:400], y[:400], settings=quick, **more)
    )  # fmt: skip
    monkeypatch.setattr(
        mmg_diffusers, "estimate_mi", lambda x, y: real(x[:400], y[:400], settings=quick)
    )  # fmt: skip
    return sample


class Halving(torch.nn.Module):
    """A network of pages that bring their own: it sees t x + (1 - t) eps and a label."""

    def forward(self, noisy, time, label):
        return noisy * time[:, None].to(noisy.dtype) + 0.01 * label[:, None]


def given(page, sample, pipe):
    """What a page takes for granted."""
    count = (
        4 if page in ("docs/guides/captions.md", "docs/guides/marginals.md") else 2
    )  # negatives come from other pairs
    images, prompts = list(sample.images[:count]), list(sample.prompts[:count])
    candidates = list(dict.fromkeys([*sample.prompts[:4], *CAPTIONS[:3]]))
    names = {
        "__name__": page,
        "MMGPipeline": MMGPipeline,
        "pipe": pipe,
        "model": shapes_model(),
        "images": images,
        "pictures": images,
        "prompts": prompts,
        "other_images": list(sample.images[4:8]),
        "still_others": list(sample.images[8:]),
        "candidates": candidates,
        "prior": [1 / len(candidates)] * len(candidates),
        "marginal": NullPrompt(),
    }
    generator = np.random.default_rng(0)
    if page == "docs/guides/classes.md":
        size = tiny("facebook/DiT-XL-2-256").codec.native_size
        names |= {"images": list(generator.random((2, *size, 3), dtype=np.float32))}
        names |= {"other_images": list(generator.random((2, *size, 3), dtype=np.float32)), "other_classes": ["0", "1"]}
    if page == "docs/guides/likelihood.md":
        names["other_images"] = list(Shapes("soft").sample(40, 99).images)  # a pilot takes 16 of them
    if page == "docs/guides/videos.md":
        names["videos"] = [[frame for frame in generator.random((5, 16, 32, 3), dtype=np.float32)]]
        names["prompts"] = ["a red dot"]
    if page == "docs/guides/fitted.md":
        more = Shapes("soft").sample(20, seed=8)
        names |= {"other_images": list(more.images[:14]), "other_prompts": list(more.prompts[:14])}
    if page == "docs/guides/own_network.md":
        names |= {"network": Halving(), "x": torch.randn(8, 1), "labels": torch.arange(8)}
    if page == "docs/guides/arrays.md":
        x = generator.standard_normal((600, 2))
        names |= {"x": x, "y": x + generator.standard_normal((600, 2))}
    if page == "docs/benchmarks.md":
        x = np.random.default_rng(7).standard_normal((10_000, 5))
        noise = generator.standard_normal((10_000, 5))
        names |= {"np": np, "noise": noise, "y": 0.6 * x + 0.8 * noise, "estimate_mi": mmg_diffusers.estimate_mi}
    return names


@pytest.mark.parametrize("path", WITH_CODE, ids=named)
def test_code(path, desk, pipe, capsys):
    names = given(named(path), desk, pipe)
    for number, block in enumerate(code(path)):
        few = block.replace(".sample(8, seed=0)", ".sample(2, seed=0)")
        exec(compile(few, f"{named(path)}, block {number}", "exec"), names)
    assert names.keys() > {"pipe"}


@cache
def helped(script, first):
    """What a script says of its options."""
    from contextlib import redirect_stdout
    from io import StringIO

    said = StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str((ROOT / script).parent))  # as Python does for a script
        run(ROOT / script, *first, "--help")
    return said.getvalue()


def has_options(words):
    """A script is there, and has the options that it is called with."""
    script, *rest = words
    assert (ROOT / script).is_file()
    said = helped(script, tuple(word for word in rest[:1] if not word.startswith("-")))
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", said), f"{script} has no {word}"


DONE = set()


def of_the_command_line(words):
    """Run a command of the command line, if it was not run yet; a run and what reads it are as often as they are asked for."""
    words = [STANDS_FOR.get(word, word) for word in words]
    if tuple(words) in DONE and words[0] not in ("run", "collect", "fit"):
        return
    DONE.add(tuple(words))
    if words[0] in ("demo", "benchmark") or "--check" in words:  # run by tests/commands
        said = call(*words[: 2 if words[0] == "benchmark" else 1], "--help").output
        assert all(word in said for word in words[1:] if word.startswith("--"))
        return
    done = call(*words, *SMALL.get(words[0], "").split())
    assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}\n{done.exception!r}"
    assert done.output.strip()


def of_python(words):
    if words[:2] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[2:] if "/" in word)
    elif words[0] == "-m":
        assert (ROOT / words[1].replace(".", "/")).exists()
    elif words[0].startswith("examples/"):
        assert words[0].removeprefix("examples/") in EXAMPLES
    else:
        has_options(words)


def of_make(words):
    for target in words:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def of_pip(words):
    for extra in re.search(r"\[(.*)\]", words[-1])[1].split(","):
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)


def of_a_launcher(words):
    if "mmg_diffusers" in words:
        of_the_command_line(words[words.index("mmg_diffusers") + 1 :])
    else:
        has_options(words[next(k for k, word in enumerate(words) if word.endswith(".py")) :])


def test_examples_of_the_help(desk):
    """Each command's help shows an example, which runs as it stands but for its size."""
    assert [command.__name__ for command, _ in app.EXAMPLES] == [
        entry.callback.__name__ for entry in app.app.registered_commands
    ]
    for _, example in app.EXAMPLES:
        words = shlex.split(example)
        words = [
            STANDS_FOR.get(word, word)
            for word in words[words.index("mmg_diffusers") + 1 if words[0] == "torchrun" else 1 :]
        ]
        assert f"Example: {example.split()[0]}" in call(words[0], "--help").output
        done = call(*words, *SMALL.get(words[0], "").split())
        assert done.exit_code == 0, f"{example}\n{done.output}\n{done.exception!r}"
        assert words[0] == "inspect" or "wrote" in done.output


@pytest.mark.slow
def test_examples_of_the_help_of_benchmarks(desk):
    for name, _, example in app.BENCHMARKS:
        words = shlex.split(example)[1:]
        assert words[1] == name
        assert "Example: mmg-diffusers benchmark" in call(*words[:2], "--help").output
        done = call(*words, *SMALL_BENCHMARKS[name].split())
        assert done.exit_code == 0, f"{example}\n{done.output}\n{done.exception!r}"


RUNS = {
    "mmg-diffusers": of_the_command_line,
    "python": of_python,
    "make": of_make,
    "pip": of_pip,
    "torchrun": of_a_launcher,
    "accelerate": of_a_launcher,
}


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=named)
def test_commands(path, desk, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    for first, *words in commands(path):
        RUNS[first](words)
