"""The command line, ``mmg-diffusers``. A new command is a function in `commands.fronts` and a line here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mmg_diffusers import __version__
from mmg_diffusers.commands.console import console, with_messages
from mmg_diffusers.commands.fronts import benchmarks, likelihood, measuring, running, studies, uses

app = typer.Typer(
    name="mmg-diffusers",
    help="Mutual information with pretrained diffusion models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Mutual information with pretrained diffusion models."""
    # Notes of the libraries beneath about image processors that no measurement uses.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


for command, example in (
    (measuring.demo, "mmg-diffusers demo --pairs 16 --output runs/demo"),
    (measuring.estimate, "mmg-diffusers estimate shapes photos/ --prompt 'a large red circle on the left'"),
    (running.run, "torchrun --nproc_per_node 2 -m mmg_diffusers run shapes pairs.csv --output runs/pairs"),
    (running.collect, "mmg-diffusers collect runs/pairs --table so-far.csv"),
    (measuring.report, "mmg-diffusers report shapes photos/ --prompt 'a large red circle on the left'"),
    (likelihood.likelihood, "mmg-diffusers likelihood shapes photos/ --reference other-photos/"),
    (measuring.fit, "mmg-diffusers fit shapes other-pairs.csv --output runs/fitted"),
    (measuring.audit, "mmg-diffusers audit shapes pairs.csv --marginal prompts"),
    (measuring.inspect, "mmg-diffusers inspect shapes"),
    (studies.influence, "mmg-diffusers influence --word colour --word shape"),
    (studies.maps, "mmg-diffusers maps --word colour --word shape --no-whole --no-gap"),
    (uses.words, "mmg-diffusers words photos/ --prompt 'a red circle' --vary red=blue,green --vary circle=square"),
    (uses.compare, "mmg-diffusers compare shapes photos/ --a 'a red circle' --b 'a blue circle'"),
    (studies.switch, "mmg-diffusers switch --count 8"),
):
    app.command(epilog=f"Example: `{example}`")(with_messages(command))

benchmark = typer.Typer(help="Estimators over tasks whose information is known, and checks where it is not.")
for name, command in (
    ("bmi", benchmarks.bmi),
    ("high-mi", benchmarks.high_mi),
    ("consistency", benchmarks.consistency),
):
    benchmark.command(name)(with_messages(command))
app.add_typer(benchmark, name="benchmark")
