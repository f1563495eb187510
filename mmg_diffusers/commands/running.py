"""Whole data sets for a command, and what a run has so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import typer

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.console import say, shorten
from mmg_diffusers.commands.inputs import Networks, read_marginal
from mmg_diffusers.commands.measuring import PILOT, check_options, check_wanted
from mmg_diffusers.pairs.captions import Captions
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.runs.shards import Outcome

# Bad pairs that are printed, and letters of the reason of each.
SHOWN, LONGEST = 20, 400


@dataclass(frozen=True)
class DataSet:
    """What a run goes through.

    Args:
        source: a folder, a table or webdataset shards.
        prompt: of all images, in place of a column.
        limit: only the first pairs.
        truncate: whether prompts that are too long are cut; else they are bad pairs.
        strict: whether to stop at the first bad pair.
        cache: a folder that keeps encoded images and prompts.
        marginal: as `read_marginal` takes it.
        captions: of a picture that has several, as `Captions.parse` takes it.
        entropy: H(Y) of prompts that are labels, nats, if it is known.
    """

    source: Path
    prompt: str | None = None
    limit: int | None = None
    truncate: bool = True
    strict: bool = False
    cache: Path | None = None
    marginal: str = "null"
    captions: str = "first"
    entropy: float | None = None

    def pairs(self) -> Source:
        """Its rows.

        Raises:
            ValueError, TypeError, OSError: as `Source` does.
        """
        return Source(self.source, self.prompt, captions=Captions.parse(self.captions))

    def read_marginal(self) -> Marginal:
        """What prompts are compared with; "prompts" are those of the pairs that are measured.

        Raises:
            ValueError, OSError: as `read_marginal` does.
        """
        texts = self.pairs().prompts(self.limit).prompts if self.marginal == "prompts" else ()
        marginal = read_marginal(self.marginal, texts)
        return marginal if self.entropy is None else marginal.stating(self.entropy)


def run(data: DataSet, plan: Plan, networks: Networks, output: Path, wanted: float | None = None) -> None:
    """Measure a data set, with the other processes of this launch; or print what a `wanted` standard error of the mean costs.

    Raises:
        ValueError, TypeError, OSError, ImportError: as `MMGPipeline.run` does.
        typer.Exit: with status 3, when pairs were bad.
    """
    for package in ("pandas", "pyarrow"):
        needs(package, "data")
    marginal = data.read_marginal()
    check_options(marginal, plan)
    process = this_process()
    if wanted is not None:
        return _forecast(data, marginal, plan, networks, wanted)
    pipe = replace(networks, device=networks.device or str(process.device)).load()
    if data.cache is not None:
        pipe.set_encoding_cache(folder=data.cache)
    outcome = pipe.run(
        data.pairs(),
        output,
        marginal=marginal,
        plan=plan,
        truncate=data.truncate,
        strict=data.strict,
        limit=data.limit,
        progress=not networks.quiet,
    )
    if outcome is not None:
        say(f"measured by {process.num_processes} process(es)")
        print_outcome(outcome)


def _forecast(data: DataSet, marginal: Marginal, plan: Plan, networks: Networks, wanted: float) -> None:
    source = data.pairs()
    count = len(source.prompts(data.limit))
    check_wanted(wanted, count)
    rows = [row.held() for row in islice(source, min(PILOT, count))]
    contexts = [row.given for row in rows if row.given is not None]
    prompts = [row.prompt for row in rows]
    cost = networks.load().cost(
        [row.picture() for row in rows], prompts, given=contexts or None, marginal=marginal, plan=plan
    )
    say(cost.says(wanted, count))


def collect(folder: Path, table: Path | None) -> None:
    """Print what a run has so far, and write its table.

    Raises:
        ValueError: for a folder that holds no run, or a table that is neither .csv nor .parquet.
        ImportError: when the table needs a package that is not installed.
        typer.Exit: with status 3, when pairs were bad.
    """
    if table is not None:
        kind = table.suffix.lower()
        if kind not in (".csv", ".parquet"):
            raise ValueError(f"cannot tell what {table} is by its ending; expected .csv or .parquet")
        needs("pandas", "data")
        if kind == ".parquet":
            needs("pyarrow", "data")
    outcome = Outcome.load(folder)
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = outcome.to_pandas()
        rows.to_csv(table, index=False) if table.suffix.lower() == ".csv" else rows.to_parquet(table, index=False)
    print_outcome(outcome)


def print_outcome(outcome: Outcome) -> None:
    """Print what a run has.

    Raises:
        typer.Exit: with status 3, when pairs were bad.
    """
    if outcome.estimate is not None:
        say(outcome.estimate)
    for note in outcome.notes:
        say(f"note: {note}")
    for failure in outcome.failures[:SHOWN]:
        say(f"pair {failure.place}: {shorten(failure.reason, LONGEST)}")
    if outcome.failures:
        say(f"{len(outcome.failures)} of {len(outcome.rows)} pairs were bad")
        raise typer.Exit(3)
