"""How far numbers can be believed, measured on settings that are known to be right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.studies.honest.coverage import sandwich_lines, sandwiches
from mmg_diffusers.commands.studies.honest.digits import digits, digits_lines
from mmg_diffusers.commands.studies.honest.fitted import fitted_tables
from mmg_diffusers.commands.studies.honest.judged import power, power_lines, verdict_lines, verdicts
from mmg_diffusers.commands.studies.honest.times import times, times_lines
from mmg_diffusers.runs.stages import Stages


class Stage(NamedTuple):
    """What is measured, and the lines of Markdown that it gives."""

    measure: Callable[[], dict[str, Any]]
    lines: Callable[[dict[str, Any]], Iterator[str]]


STAGES: Mapping[str, Stage] = {
    "verdict": Stage(verdicts, verdict_lines),
    "power": Stage(power, power_lines),
    "times": Stage(times, times_lines),
    "sandwich": Stage(sandwiches, sandwich_lines),
}


DIGITS, FITTED = "digits", "fitted"


def study(names: tuple[str, ...], output: Path, folder: Path | None = None) -> None:
    """Run the stages that are missing in OUTPUT, then print the tables of those that are there.

    Args:
        names: stages; all of them by default, but for ``fitted``, which takes ten minutes, and the one of digits if there are none.
        output: keeps what is done.
        folder: with MNIST's own files, for the stage of digits.

    Raises:
        ValueError: for an unknown stage, or that of digits without a folder.
    """
    every = (*STAGES, FITTED, DIGITS)
    unknown = sorted(set(names) - set(every))
    if unknown:
        raise ValueError(f"there is no stage {shown(unknown[0])}; expected {', '.join(every)}")
    if DIGITS in names and folder is None:
        raise ValueError("the stage of digits needs MNIST's own files; give their folder, --digits FOLDER")
    stages = Stages(output, {"study": "honest"})
    known = dict(STAGES)
    if folder is not None:
        known[DIGITS] = Stage(partial(digits, folder), digits_lines)
    for name in names or tuple(known):
        if name == FITTED:
            lines = list(fitted_tables(stages))
        else:
            lines = list(known[name].lines(stages(name, known[name].measure)))
        print(f"\n### {name}\n")
        print("\n".join(lines))
