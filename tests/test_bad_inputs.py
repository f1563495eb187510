"""Malformed inputs get the error that `tests/bad_inputs` says, from the package itself, before any network is run."""

from pathlib import Path

import pytest

from tests.bad_inputs import ROWS
from tests.bad_inputs.__main__ import cell
from tests.bad_inputs.room import Room, no_network, raised_by_the_package

PAGE = Path(__file__).parent.parent / "docs" / "bad_inputs.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.entry}: {row.wrong}")
def test_malformed_input_is_refused(row, pipe, tmp_path):
    with no_network(), pytest.raises(row.error, match=row.says) as refused:
        row.call(Room(pipe, tmp_path))
    assert raised_by_the_package(refused.value), refused.getrepr(style="short")
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "out").exists()


def test_the_page_has_every_row():
    page = PAGE.read_text().splitlines()
    shown = [line.split(" | ") for line in page if line.startswith("| ")]
    kept = [(line[0].removeprefix("| "), line[1]) for line in shown[1:]]
    assert kept == [(cell(row.entry), cell(row.wrong)) for row in ROWS]
    (counted,) = [line for line in page if " malformed inputs over " in line]
    assert counted.startswith(f"{len(ROWS)} malformed inputs over {len({row.entry for row in ROWS})} groups")
