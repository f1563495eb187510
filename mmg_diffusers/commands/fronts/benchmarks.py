"""`benchmark bmi`, `benchmark high-mi` and `benchmark consistency`."""

# No postponed annotations: texts of options depend on the family.
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.answers import Answer
from mmg_diffusers.commands.console import Stopped
from mmg_diffusers.commands.early import check_data
from mmg_diffusers.commands.options import Levels, Quiet

Family = Literal["bmi", "high-mi"]
WRITTEN = ("table.md", "table.csv", "figure.png")


def benchmark_of(family: Family, seeds_by_default: int) -> Callable[..., Answer]:
    """The command of a family of tasks."""

    def benchmark(
        output: Annotated[
            Path | None, typer.Option(help=f"Folder of results; by default runs/{family}[-quick].")
        ] = None,
        quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs and steps, one seed.")] = False,
        task: Annotated[list[str] | None, typer.Option(help="Only these tasks, by key.")] = None,
        seeds: Annotated[int | None, typer.Option(min=1, help=f"How many; {seeds_by_default} by default.")] = None,
        first_seed: Annotated[int, typer.Option(min=0, help="Settings were chosen on seeds 0 to 9.")] = 100,
        joint: Annotated[bool, typer.Option("--joint", help="Fit joint networks as well, for MINDE-J.")] = False,
        workers: Annotated[int, typer.Option(min=1, help="Processes, one core each.")] = os.cpu_count() or 1,
        train: Annotated[int | None, typer.Option(help="Pairs to fit on.")] = None,
        test: Annotated[int | None, typer.Option(help="Pairs to measure.")] = None,
        steps: Annotated[int | None, typer.Option(help="Training steps, at most.")] = None,
        quiet: Quiet = False,
    ) -> Answer:
        """Run what is missing in OUTPUT, then write table.md, table.csv and figure.png there."""
        from mmg_diffusers.commands.figures import check_plotting
        from mmg_diffusers.commands.studies.benchmarks import tasks
        from mmg_diffusers.worlds.tasks import bmi_tasks, high_mi_tasks

        check_plotting()
        plan = replace(tasks.Plan.quick() if quick else tasks.Plan(), joint=joint)
        changes = {"train": train, "test": test, "steps": steps}
        plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
        known = bmi_tasks() if family == "bmi" else high_mi_tasks()
        unknown = sorted(set(task or []) - set(known))
        if unknown:
            raise typer.BadParameter(f"no task {shown(unknown[0])}; there are {', '.join(list(known)[:3])}, ...")
        folder = output or Path(f"runs/{family}-quick" if quick else f"runs/{family}")
        count = seeds or (1 if quick else seeds_by_default)
        try:
            results = tasks.run(
                list(task or known), range(first_seed, first_seed + count), plan, folder, workers, quiet
            )
        except KeyboardInterrupt as error:
            raise Stopped(_kept(folder)) from error
        summaries = tasks.summarise(results)
        values = {"kind": f"benchmark {family}", "unit": "nats", "tasks": summaries}
        return Answer(values, [tasks.write(summaries, folder)], [folder / name for name in WRITTEN])

    return benchmark


bmi = benchmark_of("bmi", 5)
high_mi = benchmark_of("high-mi", 3)


def consistency(
    world: Annotated[
        Literal["digits", "shapes"], typer.Option(help="What A is: a picture of a data set, or a Shapes caption.")
    ] = "digits",
    data: Annotated[
        str, typer.Option(help="Pictures: a folder, a parquet file, or an id on the hub.")
    ] = "ylecun/mnist",
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; by default runs/consistency-WORLD[-quick].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small network, few steps, few pairs.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings; 3 by default, 1 with --quick.")] = None,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    shift: Annotated[int, typer.Option(min=0, help="Greatest random shift of a picture, in pixels.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each training.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples a step and process.")] = None,
    held_out: Annotated[int | None, typer.Option(min=4, help="Pairs to measure.")] = None,
    watched: Annotated[int | None, typer.Option(min=1, help="Other pairs, by which the training is watched.")] = None,
    levels: Levels = None,
    quiet: Quiet = False,
) -> Answer | None:
    """Self-consistency of estimates on pictures. Run what is missing in OUTPUT, then write the table and the figure there."""
    if world == "digits":
        check_data(data)
    from mmg_diffusers.arrays.image_data import read_images
    from mmg_diffusers.checks import needs
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.commands.studies.consistency import Digits, ShapesRows, run, write

    check_plotting()
    needs("pandas", "data")
    chosen = ShapesRows() if world == "shapes" else Digits(read_images(data).images, shift=shift)
    plan = chosen.plan(quick)
    changes = {"steps": steps, "batch": batch}
    train = replace(plan.train, **{name: value for name, value in changes.items() if value is not None})
    changes = {"held_out": held_out, "watched": watched, "nodes": levels}
    plan = replace(plan, train=train, **{name: value for name, value in changes.items() if value is not None})
    folder = output or Path(f"runs/consistency-{chosen.name}{'-quick' if quick else ''}")
    try:
        readings = run(chosen, plan, range(first_seed, first_seed + (seeds or (1 if quick else 3))), folder, quiet)
    except KeyboardInterrupt as error:
        raise Stopped(_kept(folder)) from error
    if readings is None:
        return None
    values = {"kind": "benchmark consistency", "unit": "nats", "readings": readings}
    return Answer(values, [write(chosen, plan, readings, folder)], [folder / name for name in WRITTEN])


def _kept(folder: Path) -> str:
    return f"what was finished is kept in {folder}; the same command goes on with the rest"
