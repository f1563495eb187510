"""The edits of scripts/mutants.py still fit the code that they edit, and name tests that are there."""

from pathlib import Path

import pytest

from scripts.mutants import MUTANTS, ROOT

TESTS = Path(__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_the_edit_fits(mutant):
    assert (ROOT / "mmg_diffusers" / mutant.file).read_text("utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    for named in mutant.tests.split():
        assert (TESTS / named.partition("::")[0]).exists(), named


def test_there_are_enough_of_them():
    assert len(MUTANTS) >= 40
    packages = {mutant.file.partition("/")[0] for mutant in MUTANTS}
    assert packages >= {"denoisers", "measure", "pairs", "analysis", "runs", "pipelines", "arrays", "worlds", "files"}
