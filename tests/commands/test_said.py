"""What commands say: lines as long as they are, numbers with the decimals that they have, and which reading a warning is of."""

import math

import pytest
import torch

from mmg_diffusers import Finding, Value
from mmg_diffusers.commands import running
from mmg_diffusers.commands.answers import Answer, Grid
from mmg_diffusers.commands.console import LONGEST, say
from mmg_diffusers.commands.page.html import warned as on_the_page
from mmg_diffusers.commands.studies.settings import warned_of
from mmg_diffusers.commands.texts import by_error, error_of, pair_by_pair
from tests.commands.calling import call, refused


def test_lines_are_shortened_one_by_one(capsys):
    many = "\n".join("x" * 99 for _ in range(60))
    say(many)
    assert capsys.readouterr().out == f"{many}\n"
    say("y" * (LONGEST + 1))
    assert f"({LONGEST + 1} letters)" in capsys.readouterr().out


def test_a_table_of_long_cells_is_printed_whole(capsys):
    rows = [(f"{k}" * 60, "a prompt of many words" * 3, "1.000", "0.100") for k in range(10)]
    Answer({}, [Grid(("image", "prompt", "nats", "± noise"), rows, 2)]).show(json=False)
    printed = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"| {k}{k}") for k, line in enumerate(printed[2:])] == [True] * 10


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (625.2, 606.1, "625 ± 606"),
        (57.14, 18.2, "57 ± 18"),
        (-1.83, 7.5, "-1.8 ± 7.5"),
        (0.0572, 0.0181, "0.057 ± 0.018"),
        (0.5, 0.0, "0.500 ± 0.000"),
        (0.5, math.nan, "0.500 ± ?"),
        (0.5, 1e-9, "0.5000 ± 0.0000"),
    ],
)
def test_a_value_has_the_decimals_of_its_error(value, error, said):
    assert by_error(Value(value, error)) == said


def test_an_error_that_is_not_known_is_a_question_mark():
    assert (error_of(math.nan), error_of(0.25)) == ("?", "0.250")


def test_a_mean_that_is_not_the_column_s_says_why():
    nats = torch.tensor([1.0, 2.0, 6.0])
    assert pair_by_pair(nats, Value(3.0, 1.0), False) == ""
    assert pair_by_pair(nats[:1], Value(3.0, 1.0), False) == ""
    said = pair_by_pair(nats, Value(4.0, 1.0), False)
    assert said.startswith("Pair by pair the mean is 3.000 ± 1.528 nats: each pair weighs gap and orthogonal")
    assert "its own path" in pair_by_pair(nats, Value(4.0, 1.0), True)


def test_a_warning_names_the_readings_that_it_is_of():
    note = Finding("transparent pixels are laid on white", grade="trust")
    said = warned_of({"prompt": ["few pairs", note, "not decayed"], "red": ["few pairs", note]})
    assert said == ["warning: few pairs", f"note: {note}", "warning: prompt: not decayed"]
    assert warned_of({"prompt": ["few pairs"]}) == ["warning: few pairs"]


def test_notes_are_no_warnings_on_a_page():
    page = on_the_page((Finding("the curve has not decayed", grade="don't"), Finding("a note", grade="trust")))
    assert page == '<p class="warn">the curve has not decayed</p><p class="quiet">a note</p>'


def test_a_bad_pair_is_told_without_what_python_calls_it():
    assert running._plain("ValueError: row 4 lacks a prompt: fill it in") == "row 4 lacks a prompt: fill it in"
    assert running._plain("IndexError: list index out of range") == "IndexError: list index out of range"
    assert running._plain("there is no 2.txt") == "there is no 2.txt"


def test_files_in_place_of_words_are_refused(tmp_path, world):
    folder, _ = world
    words = tmp_path / "words.txt"
    words.write_text("a red circle\n")
    table = tmp_path / "words.csv"
    table.write_text("prompt\na\n")
    for command in ("estimate", "influence", "maps", "words"):
        assert "--prompt is" in refused(command, "shapes", folder, "--prompt", words)
    for option in ("--a", "--b"):
        other = {"--a": "--b", "--b": "--a"}[option]
        assert "which is a file; expected words" in refused("compare", "shapes", folder, option, table, other, "a dog")


def test_errors_of_options_in_words_of_a_shell(tmp_path, world):
    folder, _ = world
    both = refused("estimate", "shapes", folder, "--prompt", "a", "--tolerance", "0.1", "--draws", "3")
    assert "error: --draws 3 and --tolerance 0.1 are both given" in both
    assert "'negatives:0'; expected negatives" in refused(
        "estimate", "shapes", folder, "--prompt", "a", "--marginal", "negatives:0"
    )
    assert "`mmg-diffusers fit` wrote" in refused(
        "estimate", "shapes", folder, "--prompt", "a", "--marginal", f"fitted:{tmp_path}"
    )


def test_likelihood_tells_each_picture(tmp_path, world):
    folder, _ = world
    done = call("likelihood", "shapes-plain", folder, "--levels", 4, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "| image | log p, nats | ± noise |" in done.output
    assert all(f"| {k}.png |" in done.output for k in range(3))
