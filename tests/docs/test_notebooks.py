"""The notebooks run, in this process with few levels, and as they stand in a kernel of their own."""

import ast
import re

import nbformat
import pytest

from mmg_diffusers.commands.figures import check_plotting, pyplot
from tests.docs.pages import NOTEBOOKS, ROOT, cells, named
from tests.docs.test_code import desk, load  # noqa: F401, fixtures

LONGEST = 400


def run_cell(source, name, names):
    """Run a cell; gives what it would show."""
    tree = ast.parse(source)
    last = tree.body[-1]
    silent = source.rstrip().endswith(";")
    if not isinstance(last, ast.Expr) or silent:
        exec(compile(tree, name, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names)


def test_there_are_five_and_they_are_small():
    assert {path.stem for path in NOTEBOOKS} == {
        "quick_start",
        "words_and_maps",
        "honest_numbers",
        "likelihood",
        "arrays",
    }
    for path in NOTEBOOKS:
        book = nbformat.read(path, nbformat.current_nbformat)
        nbformat.validate(book)
        assert path.stat().st_size < 10_000, "without outputs"
        assert not any(cell.get("outputs") for cell in book.cells)
        assert book.cells[0].source.startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_with_few_levels(path, desk, pipe):  # noqa: F811
    check_plotting()
    names = {"__name__": path.stem}
    try:
        for number, source in enumerate(cells(path)):
            few = re.sub(r"levels=\d+", "levels=3", re.sub(r"\.sample\(6, ", ".sample(2, ", source))
            shown = run_cell(few, f"{named(path)}, cell {number}", names)
            if shown is not None and not hasattr(shown, "columns"):  # pandas cuts its tables by itself
                assert len(repr(shown)) < LONGEST, source
    finally:
        pyplot().close("all")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_in_a_kernel(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, nbformat.current_nbformat)
    NotebookClient(book, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in book.cells:
        pictures = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        assert len(pictures) == int("plot_" in cell.source.rpartition("\n")[2] or "plt." in cell.source), cell.source
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            if output["output_type"] == "execute_result" and "<table" not in output["data"].get("text/html", ""):
                assert len(output["data"]["text/plain"]) < LONGEST
