"""How tests run commands and scripts."""

import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmg_diffusers.commands.app import app

ROOT = Path(__file__).parents[2]


CIRCLE = "a small red circle on the left"


def run(path, *arguments):
    """As a user would run it, in this process."""
    old = sys.argv
    sys.argv = [str(path), *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = old
    assert stop.value.code == 0


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answered(*arguments):
    """What a command says, which has to succeed; printed as well, for those who read what was printed."""
    done = call(*arguments)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    print(done.output)
    return done.output


def refused(*arguments):
    """The message of a command that has to be refused, in one line."""
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())
