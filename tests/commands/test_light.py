"""Help and version are quick, and options say what the packages behind them know."""

import subprocess
import sys
from functools import cache
from typing import get_args

import pytest

from mmg_diffusers.analysis.influence import AXES
from mmg_diffusers.commands import options
from mmg_diffusers.commands.app import app
from mmg_diffusers.measure.moments import FORMS
from mmg_diffusers.pipelines import pipeline
from mmg_diffusers.pipelines.shipped import SHIPPED

HEAVY = ("torch", "numpy", "scipy", "pandas", "pyarrow", "diffusers", "transformers", "accelerate", "matplotlib", "PIL")
COMMANDS = [entry.callback.__name__ for entry in app.registered_commands if entry.callback is not None]


def after(code):
    """CPU seconds of this code in a new process, the heavy modules that it has then, and what it printed."""
    end = (
        "\nfinally:\n    import sys, resource"
        f"\n    print('HEAVY', [m for m in {HEAVY} if m in sys.modules])"
        "\n    print('CPU', resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    lines = "try:\n" + "\n".join("    " + line for line in code.splitlines()) + end
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, heavy, seconds = done.stdout.splitlines()
    return float(seconds.split()[1]), heavy.removeprefix("HEAVY "), "\n".join(said)


@cache
def seconds_of_typer():
    """CPU seconds of what writes help, alone."""
    return after("import typer.rich_utils")[0]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS), ["benchmark", "bmi", "--help"]],
)
def test_help_and_version_import_nothing_heavy(arguments):
    seconds, heavy, _ = after(
        f"import sys; sys.argv = {['mmg-diffusers', *arguments]}\nfrom mmg_diffusers.commands.entry import main\nmain()"
    )
    assert heavy == "[]"
    assert seconds < (0.6 if len(arguments) == 1 else seconds_of_typer() + 1)


def test_importing_the_package_imports_nothing_heavy():
    assert after("import mmg_diffusers; mmg_diffusers.__version__")[1] == "[]"


def test_choices_and_defaults_are_those_of_the_packages():
    assert get_args(options.Form) == FORMS
    assert get_args(options.AxisName) == AXES
    assert get_args(options.ShippedName) == SHIPPED
    assert (options.LEVELS, options.STEPS) == (pipeline.LEVELS, pipeline.STEPS)
