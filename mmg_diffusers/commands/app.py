"""The command line, ``mmg-diffusers``. A new command is a function in `commands.fronts` and a line here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mmg_diffusers import __version__
from mmg_diffusers.commands.answers import as_command
from mmg_diffusers.commands.console import console
from mmg_diffusers.commands.fronts import arrays, benchmarks, likelihood, measuring, running, studies, uses

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
    # Notes of the libraries beneath: of image processors that no measurement uses, and of long prompts, which records tell of.
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")


EXAMPLES = (
    (measuring.demo, "mmg-diffusers demo --pairs 16 --output runs/demo"),
    (measuring.estimate, "mmg-diffusers estimate shapes-plain pictures/ --prompt 'a large red circle on the left'"),
    (running.run, "torchrun --nproc_per_node 2 -m mmg_diffusers run shapes-plain pairs.csv --output runs/pairs"),
    (running.collect, "mmg-diffusers collect runs/pairs --table so-far.csv"),
    (measuring.report, "mmg-diffusers report shapes-plain pictures/ --prompt 'a large red circle on the left'"),
    (likelihood.likelihood, "mmg-diffusers likelihood shapes-plain pictures/ --reference other-pictures/"),
    (measuring.fit, "mmg-diffusers fit shapes-plain other-pairs.csv --output runs/fitted"),
    (measuring.audit, "mmg-diffusers audit shapes-plain pairs.csv --marginal prompts"),
    (measuring.inspect, "mmg-diffusers inspect shapes-plain"),
    (
        studies.influence,
        "mmg-diffusers influence shapes-plain pictures/ --prompt 'a red circle' --word red --word circle",
    ),
    (studies.maps, "mmg-diffusers maps shapes-plain pictures/ --prompt 'a red circle' --word red --no-gap"),
    (
        uses.words,
        "mmg-diffusers words shapes-plain pictures/ --prompt 'a red circle' --vary red=blue,green --vary circle=square",
    ),
    (uses.compare, "mmg-diffusers compare shapes-plain pictures/ --a 'a red circle' --b 'a blue circle'"),
    (studies.switch, "mmg-diffusers switch shapes-plain --count 8"),
    (arrays.arrays, "mmg-diffusers arrays table.csv --x height,weight --y age"),
    (arrays.train, "mmg-diffusers train pairs.npz --output runs/denoiser"),
)
"""Commands, each with an example that its help shows and that the tests run."""
BENCHMARKS = (
    ("bmi", benchmarks.bmi, "mmg-diffusers benchmark bmi --quick --task 1v1-normal-0.75"),
    (
        "high-mi",
        benchmarks.high_mi,
        "mmg-diffusers benchmark high-mi --quick --task multinormal-sparse-3-3-2-200.0",
    ),
    ("consistency", benchmarks.consistency, "mmg-diffusers benchmark consistency --world shapes --quick"),
)

for command, example in EXAMPLES:
    app.command(epilog=f"Example: `{example}`")(as_command(command))
benchmark = typer.Typer(help="Estimators over tasks whose information is known, and checks where it is not.")
for name, command, example in BENCHMARKS:
    benchmark.command(name, epilog=f"Example: `{example}`")(as_command(command))
app.add_typer(benchmark, name="benchmark")
