"""A wheel that is installed elsewhere has the model, and a package that is not always there is asked for before it is used."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmg_diffusers

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mmg_diffusers.__file__).parent
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
IMPORTED_AS = {"pillow": "PIL"}


def requirements():
    """The packages of every list in pyproject.toml, by the names they are imported by."""
    text = PYPROJECT[PYPROJECT.index("\ndependencies = ") : PYPROJECT.index("[project.scripts]")]
    lists = {}
    for name, body in re.findall(r"(?m)^(\w+) = (\[(?:[^\[\]]|\[[^\]]*\])*?\])", text):
        packages = [re.match(r"[\w-]+", line)[0] for line in re.findall(r'"([^"]+)"', body)]
        lists[name] = {IMPORTED_AS.get(package, package) for package in packages}
    return lists


LISTS = requirements()
OPTIONAL = {package: extra for extra in ("cli", "data", "plot", "tune") for package in LISTS[extra]}


def imported(nodes):
    """The third-party packages that these statements import, not those of types alone."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from imported(ast.iter_child_nodes(node))


def third_party(nodes):
    return {name for name in imported(nodes) if name not in sys.stdlib_module_names and name != "mmg_diffusers"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_what_is_required(path):
    tree = ast.parse(path.read_text("utf-8"))
    always = LISTS["dependencies"] | (LISTS["cli"] if "commands" in path.parts else set())
    assert third_party(tree.body) <= always
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for name in third_party(function.body) - always:
                assert name in OPTIONAL, f"{function.name} imports {name}, which no extra of pyproject.toml installs"
                asked = re.search(rf"needs\(.*{OPTIONAL[name]}", ast.unparse(function))
                assert asked, f"{function.name} imports {name}; first call needs({name!r}, {OPTIONAL[name]!r})"


def test_extras_are_what_they_say():
    assert OPTIONAL.keys().isdisjoint(LISTS["dependencies"])
    assert 'all = ["mmg-diffusers[cli,data,plot,tune]"]' in PYPROJECT
    assert '"mmg-diffusers[all]"' in PYPROJECT


@pytest.mark.slow
def test_the_wheel_holds_the_model(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(elsewhere)
    assert (elsewhere / "mmg_diffusers" / "py.typed").exists()
    code = (
        f"import sys; sys.path.insert(0, {str(elsewhere)!r})\n"
        "import mmg_diffusers\n"
        f"assert mmg_diffusers.__file__.startswith({str(elsewhere)!r})\n"
        "from mmg_diffusers import MMGPipeline, shapes_model\n"
        "MMGPipeline.from_pretrained(shapes_model())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
