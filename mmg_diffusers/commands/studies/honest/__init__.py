"""How far numbers can be believed, measured on settings that are known to be right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.studies.honest.verdicts import power, power_lines, verdict_lines, verdicts
from mmg_diffusers.runs.stages import Stages


class Stage(NamedTuple):
    """What is measured, and the lines of Markdown that it gives."""

    measure: Callable[[], dict[str, Any]]
    lines: Callable[[dict[str, Any]], Iterator[str]]


STAGES: Mapping[str, Stage] = {
    "verdict": Stage(verdicts, verdict_lines),
    "power": Stage(power, power_lines),
}


def study(names: tuple[str, ...], output: Path) -> None:
    """Run the stages that are missing in OUTPUT, then print the tables of those that are there.

    Raises:
        ValueError: for an unknown stage.
    """
    unknown = sorted(set(names) - set(STAGES))
    if unknown:
        raise ValueError(f"there is no stage {shown(unknown[0])}; expected {', '.join(STAGES)}")
    stages = Stages(output, {"study": "honest"})
    for name in names or tuple(STAGES):
        found = stages(name, STAGES[name].measure)
        print(f"\n### {name}\n")
        print("\n".join(STAGES[name].lines(found)))
