"""Imports run one way between the packages, each keeps its private names, and importing the package stays light."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest
import torch

import mmg_diffusers
from mmg_diffusers.moved import MOVED, RENAMED
from mmg_diffusers.pipelines.adapters import registry

ROOT = Path(mmg_diffusers.__file__).parent
# What each room may import beside itself. The front, `__init__`, shows names of them all and is imported by commands alone.
MAY_IMPORT = {
    "moved": set(),
    "checks": set(),
    "internals": set(),
    "files": {"checks"},
    "denoisers": {"checks", "files", "internals"},
    "measure": {"checks", "files", "denoisers"},
    "pairs": {"checks", "files", "denoisers", "measure"},
    "analysis": {"moved", "checks", "files", "denoisers", "measure", "pairs"},
    "runs": {"moved", "checks", "files", "denoisers", "measure", "pairs", "analysis"},
    "arrays": {"moved", "checks", "files", "denoisers", "measure", "pairs", "analysis", "runs"},
    "tuning": {"checks", "files", "denoisers", "measure", "runs", "arrays"},
    "pipelines": {
        "moved",
        "checks",
        "internals",
        "files",
        "denoisers",
        "measure",
        "pairs",
        "analysis",
        "runs",
        "tuning",
    },
    "worlds": {"checks", "files"},
}
MAY_IMPORT["commands"] = {*MAY_IMPORT, "__init__"}
MAY_IMPORT["__init__"] = {*MAY_IMPORT} - {"commands"}
MAY_IMPORT["__main__"] = {"commands"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    """Every (room, name) of this package that a module imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("mmg_diffusers.") for alias in node.names), "write from ... import ..."
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmg_diffusers":
            inner = node.module.split(".")[1:]
            for alias in node.names:
                first = inner[0] if inner else alias.name
                yield (first if first in MAY_IMPORT else "__init__"), alias.name


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = room_of(path)
    assert own in MAY_IMPORT, f"{own} has no place among the packages; give it one here and in CONTRIBUTING"
    for other, name in imports(path):
        assert other == own or other in MAY_IMPORT[own], f"{own} imports {name} of {other}, which it must not"
        if other != own:
            assert not name.startswith("_") or name == "__version__", (
                f"{own} imports {name}, which {other} keeps to itself"
            )


def test_packages_say_what_belongs_there():
    for folder in {path.parent for path in MODULES} - {ROOT}:
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert doc, f"{folder} has no docstring"
        if folder.parent == ROOT:
            assert "import" in doc, f"the docstring of {folder} does not say what it may import"


def test_importing_the_package_is_light():
    code = "import sys, mmg_diffusers; print([m for m in ('torch', 'diffusers', 'matplotlib', 'accelerate') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("old", MOVED)
def test_names_of_version_0_1_keep_working(old):
    sys.modules.pop(f"mmg_diffusers.{old}", None)
    with pytest.warns(DeprecationWarning, match="the old name goes with version 0.3"):
        module = __import__(f"mmg_diffusers.{old}", fromlist=["*"])
    with pytest.raises(AttributeError, match="it is now"):
        module.no_such_name  # noqa: B018


def test_old_names_give_what_they_gave():
    sys.modules.pop("mmg_diffusers.noise", None)
    with pytest.warns(DeprecationWarning, match="is now"):
        from mmg_diffusers.noise import add_noise, convention_from_config
    from mmg_diffusers.denoisers import levels
    from mmg_diffusers.pipelines import schedulers

    assert add_noise is levels.add_noise
    assert convention_from_config is schedulers.convention_from_config


# Each line a module of version 0.1 and a name that it showed.
SHOWN = Path(__file__).parent / "data" / "names_0.1.txt"


@pytest.mark.filterwarnings("ignore:.*goes with version 0.3:DeprecationWarning")
def test_every_name_of_version_0_1_is_found():
    for line in SHOWN.read_text("utf-8").splitlines():
        module, name = line.split()
        found = getattr(import_module(module), name)
        # Another name of the same module must not do: what is found is what was asked for, or has its new name.
        if isinstance(found, type | FunctionType):
            assert found.__name__ in (name, RENAMED.get(name)), line


@pytest.mark.parametrize("name", ["Shards", "chunks"])
def test_names_of_modules_that_are_packages_now_warn(name):
    from mmg_diffusers import runs
    from mmg_diffusers.runs import shard_files, shards

    with pytest.warns(DeprecationWarning, match=f"runs.{name} is now .*; the old name goes with version 0.3"):
        assert getattr(runs, name) in (getattr(shard_files, name, None), getattr(shards, name, None))
    with pytest.raises(AttributeError, match="no_such"):
        runs.no_such  # noqa: B018


def test_the_adapter_of_version_0_1_adapts():
    from diffusers import DiffusionPipeline

    from mmg_diffusers import MMGPipeline, shapes_model

    pipe = DiffusionPipeline.from_pretrained(shapes_model())
    with pytest.warns(DeprecationWarning, match="find_family now"):
        denoiser, codec = registry.adapt(pipe)
    x = codec.encode_images(torch.full((1, 3, *codec.native_size), 0.5))
    told = codec.encode_prompts(["a red circle on the left"])
    with torch.inference_mode():
        expected = MMGPipeline(pipe).denoiser(x, torch.zeros(1), told)
        assert torch.equal(denoiser(x, torch.zeros(1), told), expected)


@pytest.mark.parametrize(("module", "name"), [("denoiser", "Versus"), ("moments", "Outside"), ("walks", "Walked")])
def test_old_names_of_things_give_the_new_ones(module, name):
    sys.modules.pop(f"mmg_diffusers.{module}", None)
    with pytest.warns(DeprecationWarning, match="is now"):
        old = getattr(__import__(f"mmg_diffusers.{module}", fromlist=[name]), name)
    assert old.__name__ == RENAMED[name]
