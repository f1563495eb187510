"""What the uses are good for, each held against an exact truth; a clean "no" is a result, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.uses import aro, binding, edits, guidance, memory, selection, towers
from mmg_diffusers.commands.studies.uses.judge import Training
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages


@dataclass(frozen=True)
class Settings:
    """How much each protocol measures."""

    selection: selection.Settings = field(default_factory=selection.Settings)
    memory: memory.Settings = field(default_factory=memory.Settings)
    edits: edits.Settings = field(default_factory=edits.Settings)
    binding: binding.Settings = field(default_factory=binding.Settings)
    aro: aro.Settings = field(default_factory=aro.Settings)
    guidance: guidance.Settings = field(default_factory=guidance.Settings)

    @classmethod
    def quick(cls) -> Settings:
        """So little of everything that it takes a minute, and says nothing."""
        few = Training(pictures=256, passes=1, tried=32)
        return cls(
            selection.Settings(captions=3, n=4, seeds=(1,), steps=2, levels=3, path=2, training=few),
            memory.Settings(alone=64, planted=4, copies=(8, 64), steps=40, width=32, levels=4, seeds=(1, 2)),
            edits.Settings(swaps=4, steps=1, path=2, levels=3, chosen_on=4),
            binding.Settings(pairs=4, variants=("soft",), steps=2, training=towers.Training(pictures=512, passes=1)),
            aro.Settings(cases=4, steps=2),
            guidance.Settings(
                captions=2,
                seeds=(1, 2),
                steps=4,
                constants=(2.0, 5.0),
                strengths=(1.0,),
                pairs=16,
                levels=4,
                others=2,
                path=4,
                fine=6,
                randoms=1,
                training=few,
            ),
        )


class Protocol(NamedTuple):
    """What is measured, the lines of Markdown that it gives, and of which model if no other is named; it is loaded if it is asked for."""

    measure: Callable[[Callable[[], MMGPipeline], Stages, Any], dict[str, Any]]
    lines: Callable[[Mapping[str, Any]], Iterator[str]]
    model: str = "shapes-plain"


PROTOCOLS: Mapping[str, Protocol] = {
    "selection": Protocol(
        lambda pipe, stages, own: selection.selection(pipe(), stages, own), selection.selection_lines
    ),
    "memory": Protocol(lambda _, stages, own: memory.memory(stages, own), memory.memory_lines),
    "edits": Protocol(lambda pipe, stages, own: edits.edits(pipe(), stages, own), edits.edits_lines),
    "binding": Protocol(
        lambda pipe, stages, own: binding.binding(pipe(), stages, own), binding.binding_lines, "pairs-flow"
    ),
    "aro": Protocol(lambda pipe, stages, own: aro.aro(pipe(), stages, own), aro.aro_lines),
    "guidance": Protocol(lambda pipe, stages, own: guidance.guidance(pipe(), stages, own), guidance.guidance_lines),
}
# Run if no protocol is named; the last needs a copy of data.
OWN = tuple(name for name in PROTOCOLS if name != "aro")


def study(model: str | None, settings: Settings, names: tuple[str, ...], output: Path) -> None:
    """Run the protocols that are missing in OUTPUT, a folder for each, then print their tables.

    Args:
        model: its folder or id, or a model that ships; that of each protocol by default.
        settings: of each protocol.
        names: protocols; by default all that need no copy of data.
        output: keeps what is done.

    Raises:
        ValueError: for an unknown protocol, or a folder of other settings.
    """
    unknown = sorted(set(names) - set(PROTOCOLS))
    if unknown:
        raise ValueError(f"there is no protocol {shown(unknown[0])}; expected {', '.join(PROTOCOLS)}")
    held: dict[str, MMGPipeline] = {}

    def pipe(named: str) -> MMGPipeline:
        if named not in held:
            held[named] = Networks(named, "cpu").load()
            held[named].set_progress_bar_config(mininterval=10)
        return held[named]

    for name in names or OWN:
        own, chosen = getattr(settings, name), model or PROTOCOLS[name].model
        stages = Stages(output / name, {"model": chosen, **asdict(own)})
        found = PROTOCOLS[name].measure(lambda chosen=chosen: pipe(chosen), stages, own)
        text = "\n".join(PROTOCOLS[name].lines(found))
        write_whole(output / name / "table.md", (text + "\n").encode())
        print(f"\n### {name}\n\n{text}")
