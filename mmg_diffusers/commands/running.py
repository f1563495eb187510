"""Whole data sets for a command, and what a run has so far."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.answers import Answer, by_picture, of_record
from mmg_diffusers.commands.console import Stopped, of_a_shell, say, shorten
from mmg_diffusers.commands.measuring import PILOT, check_wanted, of_cost
from mmg_diffusers.commands.networks import Networks, within
from mmg_diffusers.commands.questions import Going, RunQuestion, check_options
from mmg_diffusers.files.resumed import told_to
from mmg_diffusers.files.whole import check_writable
from mmg_diffusers.pairs.likelihood import Likelihood
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.runs.outcome import Outcome
from mmg_diffusers.runs.parts import Expected, Part
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.runs.shard_files import Shards, pairs_in

if TYPE_CHECKING:
    from mmg_diffusers.pairs.marginals import Marginal

# Bad pairs that are printed, and letters of the reason of each.
SHOWN, LONGEST = 20, 400


def run(
    question: RunQuestion,
    going: Going,
    plan: Plan,
    networks: Networks,
    output: Path,
    wanted: float | None = None,
    *,
    high: float | None = None,
) -> Answer | None:
    """Measure a data set, with the other processes of this launch; or tell what a `wanted` standard error of the mean costs.

    Raises:
        ValueError, TypeError, OSError, ImportError: as `MMGPipeline.run` does.
        Stopped: at Ctrl-C, with what is kept.
    """
    for package in ("pandas", "pyarrow"):
        needs(package, "data")
    part = Part.parse(going.part, output)
    if wanted is None:
        check_writable(output)
    marginal = question.read_marginal(going.limit)
    check_options(marginal, plan, question.given is not None)
    if isinstance(marginal, Likelihood):
        marginal.density(plan)  # which refuses options of information
    process = this_process()
    if wanted is not None:
        return _forecast(question, going, marginal, plan, networks, wanted, high)
    rows = question.pairs()
    pipe = replace(networks, device=networks.device or str(process.device)).load(high)
    if going.cache is not None:
        pipe.set_encoding_cache(folder=going.cache)
    try:
        with told_to(say):
            outcome = pipe.run(
                rows,
                part,
                marginal=marginal,
                plan=within(plan, high, pipe),
                truncate=not going.no_truncate,
                strict=going.strict,
                limit=going.limit,
                progress=not networks.silent,
            )
    except KeyboardInterrupt as error:
        begun = pairs_in(Shards(output / "shards").listed())
        how = f"the same command goes on from there, and `mmg-diffusers collect {output}` reads it"
        raise Stopped(f"{_kept(output)}; {how if begun else 'the same command begins anew'}") from error
    if outcome is None:
        return None
    many = process.num_processes
    answer = of_outcome(outcome, output)
    said = f"part {part.number}/{part.of} is through" if not part.whole else f"measured by {many} process(es)"
    return replace(answer, values={**answer.values, "processes": many}, says=[said, *answer.says])


def _kept(output: Path) -> str:
    """What a folder of a run has, in words."""
    count = pairs_in(Shards(output / "shards").listed())
    expected = Expected.load(output)
    of = "" if expected is None else f" of {expected.pairs}"
    return f"{count}{of} pairs are kept in {output}"


def _forecast(
    question: RunQuestion,
    going: Going,
    marginal: Marginal,
    plan: Plan,
    networks: Networks,
    wanted: float,
    high: float | None,
) -> Answer:
    source = question.pairs()
    count = len(source.prompts(going.limit))
    check_wanted(wanted, count)
    rows = [row.held() for row in islice(source, min(PILOT, count))]
    contexts = [row.given for row in rows if row.given is not None]
    prompts = [row.prompt for row in rows]
    pipe = networks.load(high)
    plan = within(plan, high, pipe)
    cost = pipe.cost([row.picture() for row in rows], prompts, given=contexts or None, marginal=marginal, plan=plan)
    return of_cost(cost, wanted, count)


def collect(folder: Path, table: Path | None, overwrite: bool = False) -> Answer:
    """Tell what a run has so far, and write its table; of a run in parts that are all there, also what a run in one piece writes.

    Raises:
        ValueError: for a folder that holds no run, or a table that is neither .csv nor .parquet, or is there already.
        ImportError: when the table needs a package that is not installed.
    """
    if table is not None:
        kind = table.suffix.lower()
        if kind not in (".csv", ".parquet"):
            raise ValueError(f"cannot tell what {table} is by its ending; expected .csv or .parquet")
        if table.exists() and not overwrite:
            raise ValueError(f"{table} is there already; choose another --table, or add --overwrite")
        needs("pandas", "data")
        if kind == ".parquet":
            needs("pyarrow", "data")
    outcome = Outcome.load(folder)
    wrote: list[Path] = []
    expected = Expected.load(folder)
    in_parts = expected is not None and expected.parts > 1 and not expected.missing(Shards(folder / "shards").listed())
    if in_parts and not (folder / "pairs.parquet").exists():
        outcome.save(folder)
        wrote += [path for name in ("pairs.parquet", "estimate.safetensors") if (path := folder / name).exists()]
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = outcome.to_pandas()
        rows.to_csv(table, index=False) if table.suffix.lower() == ".csv" else rows.to_parquet(table, index=False)
        wrote.append(table)
    return replace(of_outcome(outcome, folder), wrote=wrote)


def _plain(reason: str) -> str:
    """Why a pair is bad, without what Python calls such an error; what nobody foresaw keeps its name."""
    kind, _, said = reason.partition(": ")
    return said if said and kind in ("ValueError", "TypeError", "OSError", "FileNotFoundError") else reason


def of_outcome(outcome: Outcome, folder: Path) -> Answer:
    """What a run has; status 3, when pairs were bad."""
    says: list[Any] = [] if outcome.estimate is None else [outcome.estimate]
    says += [f"note: {note}" for note in outcome.notes]
    clustered = {} if outcome.estimate is None else by_picture(outcome.estimate, outcome.clusters())
    says += [
        f"pair {failure.place}: {shorten(_plain(failure.reason), LONGEST)}" for failure in outcome.failures[:SHOWN]
    ]
    if outcome.failures:
        says.append(f"{len(outcome.failures)} of {len(outcome.rows)} pairs were bad")
    expected = Expected.load(folder)
    listed = Shards(folder / "shards").listed()
    values = {
        "kind": "run",
        **({} if outcome.estimate is None else of_record(outcome.estimate, outcome.to_pandas())),
        **clustered,
        "folder": str(folder),
        "pairs there": len(outcome.rows),
        "pairs expected": None if expected is None else expected.pairs,
        "chunks missing": [] if expected is None else expected.missing(listed),
        "bad": {str(failure.place): failure.reason for failure in outcome.failures},
        "notes": [of_a_shell(note) for note in outcome.notes],
    }
    wrote = [path for name in ("pairs.parquet", "estimate.safetensors") if (path := folder / name).exists()]
    return Answer(values, says, wrote, 3 if outcome.failures else 0)
