"""What the analyses say about the shipped model, against the exact world of Shapes (soft).

Maps compare a caption with the mixture of captions (the posterior filter); a word with the mixture of those that differ in
it alone. They are of the band from log-SNR -1.5 up: about there half of the information has arrived, so that the object's
place is known, and what is left to say is said where it is (below, a map also lights where it could have been). They are
spread over the image linearly between the latent pixels' centres; those of words are averaged over four draws of noise.
Thresholds were fixed before the measurement, band and draws on 24 pairs of another seed (9009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.checks import shown
from mmg_diffusers.commands.figures import check_plotting, plot_influence, save_figure
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.analyses.along import along, along_rows, levels_table
from mmg_diffusers.commands.studies.analyses.maps import clean_end, clean_end_rows, maps, maps_rows
from mmg_diffusers.commands.studies.analyses.null import null, null_rows
from mmg_diffusers.commands.studies.analyses.posterior import posterior, posterior_rows
from mmg_diffusers.commands.studies.analyses.setup import Result, Row, Settings, Setup
from mmg_diffusers.commands.studies.analyses.shortcuts import pruning, pruning_rows, steps, steps_rows
from mmg_diffusers.commands.studies.analyses.switching import switching, switching_rows
from mmg_diffusers.commands.studies.captions import PRUNE
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import Shapes


class Stage(NamedTuple):
    """What is measured, and the rows of the table that it gives."""

    measure: Callable[[Setup], dict[str, Any]]
    rows: Callable[[Result], Iterator[Row]]


STAGES: Mapping[str, Stage] = {
    "posterior": Stage(posterior, posterior_rows),
    "filter": Stage(along, along_rows),
    "null": Stage(null, null_rows),
    "clean-end": Stage(clean_end, clean_end_rows),
    "maps": Stage(maps, maps_rows),
    "switching": Stage(switching, switching_rows),
    "pruning": Stage(pruning, pruning_rows),
    "steps": Stage(steps, steps_rows),
}


def table(results: Mapping[str, Result]) -> str:
    """Markdown: a row a measured value."""
    lines = ["| | found | bar | met |", "|---|---|---|---|"]
    for name, result in results.items():
        for what, value, bar, met in STAGES[name].rows(result):
            lines.append(f"| {what} | {value} | {bar} | {'' if met is None else 'yes' if met else 'no'} |")
    return "\n".join(lines)


def study(model: str | None, settings: Settings, names: tuple[str, ...], output: Path) -> None:
    """Run the stages that are missing in OUTPUT, then print the table of those that are there.

    Raises:
        ValueError: for an unknown stage, or a folder of other settings.
        ImportError: when matplotlib is not installed.
    """
    check_plotting()
    unknown = sorted(set(names) - set(STAGES))
    if unknown:
        raise ValueError(f"there is no stage {shown(unknown[0])}; expected {', '.join(STAGES)}")
    pipe = Networks(model or "shapes", "cpu").load()
    pipe.set_progress_bar_config(mininterval=10)
    measured = {**asdict(settings), "few": min(settings.few, settings.pairs)}
    settings = Settings(**measured)
    sample = Shapes("soft").sample(settings.pairs, settings.seed)
    stages = Stages(
        output,
        {"model": str(model or "shipped"), "weights": pipe.fingerprint(), **measured, "posterior_prune": PRUNE},
        [sample.images, sample.prompts],
    )
    setup = Setup(pipe, stages, sample, settings)
    with folded_zeros(pipe.pipe):
        for name in names or STAGES:
            stages(name, lambda stage=STAGES[name]: stage.measure(setup))
    results = {name: stages.read(name) for name in STAGES if stages.has(name)}
    text = table(results)
    if "filter" in results:
        text += "\n\n" + levels_table(results["filter"])
        filtered = setup.filter("filter", keep="level")
        curves = {"posterior filter, log q": filtered.influence(pipe.denoiser.convention)}
        if "null" in results:
            curves["null prompt, gap"] = influence(setup.null().using("gap"), pipe.denoiser.convention)
        figure = plot_influence(curves, axis="tau", ceiling=Shapes("soft").mutual_information())
        save_figure(figure, output / "influence.png")
    write_whole(output / "table.md", (text + "\n").encode())
    print(text)
