"""How many network calls a pair's mutual information needs for a given error: this library's default against the papers' way.

    python scripts/benchmarks/calls_for_error.py             # a Markdown table; three minutes on one core
    python scripts/benchmarks/calls_for_error.py --every     # other rules as well, from which the default was chosen

The papers' code draws levels independently from a logistic density, and separate noise for the two branches (here at the same
levels, which favours it). An evaluation is one row through the network, for either. The error is the spread of a pair over
repeats with other seeds, in the mean square over pairs; the bias is the mean difference from a fine reference, with the
standard errors of both. "Fewer calls" is what the papers' way needs for the same error over what is needed here, by the
1/sqrt law that its column shows.
"""

import typer

from mmg_diffusers.commands.studies.benchmarks.calls_for_error import main

if __name__ == "__main__":
    typer.run(main)
