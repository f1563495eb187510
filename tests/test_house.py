"""No module above 400 lines, no class above 250, no public function above 8 parameters beside its data."""

import ast
from pathlib import Path

import pytest

import mmg_diffusers

ROOT = Path(mmg_diffusers.__file__).parent
LINES, CLASS_LINES, PARAMETERS = 400, 250, 8

# What a function works on, which is not counted among its parameters: what remains are options.
DATA = {
    "self",
    "cls",
    "pipe",
    "denoiser",
    "images",
    "prompts",
    "candidates",
    "given",
    "source",
    "rows",
    "folder",
    "measure",
    "network",
    "held_out",
    "x",
    "y",
    "cond",
    "condition",
    "pairs",
    "slots",
    "truth",
    "prior",
    "data",
}

# What is above a bound, by its name, with the reason.
EXCEPTIONS = {
    "arrays/estimate.py estimate_mi": "the front door: which pairs are measured has four of them, and by how many processes",
    "measure/curve.py measure_curve": "the loop itself, which estimators call: its options are their fields, one by one",
}
# The options of a command are its parameters; each has a definition in `commands.options` or beside it.
FRONTS = ("commands/fronts/", "commands/studies/benchmarks/", "commands/studies/tune.py")


def sizes(path):
    """Everything in a module that a rule is about: its name, its size, and the bound."""
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text("utf-8")
    yield name, text.count("\n"), LINES
    front = name.startswith(FRONTS)

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield f"{prefix}{child.name}", child.end_lineno - child.lineno + 1, CLASS_LINES
                if not child.name.startswith("_"):
                    yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                public = not child.name.startswith("_") or child.name in ("__init__", "__call__")
                if public and not (front and options_alone(child)):
                    yield f"{prefix}{child.name}", len(parameters(child)), PARAMETERS

    yield from walk(ast.parse(text), f"{name} ")


def parameters(function):
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [argument.arg for argument in named if argument.arg not in DATA]


def options_alone(function):
    """Whether a function is a command: it returns nothing, or an answer, and typer reads its annotations."""
    return function.returns is not None and ast.unparse(function.returns) in ("None", "Answer", "Answer | None")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_too_large(path):
    for name, size, most in sizes(path):
        assert size <= most or name in EXCEPTIONS, f"{name} has {size}, more than {most}"


def test_exceptions_are_still_needed():
    above = {name for path in ROOT.rglob("*.py") for name, size, most in sizes(path) if size > most}
    assert set(EXCEPTIONS) <= above, f"within the bounds now: {sorted(set(EXCEPTIONS) - above)}"
