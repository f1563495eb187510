"""Pairs measured for a command: a table and a record, or a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import finite, needs
from mmg_diffusers.commands.answers import Answer, Grid, of_record
from mmg_diffusers.commands.networks import Networks, within
from mmg_diffusers.commands.questions import Question, check_options, refuse
from mmg_diffusers.commands.texts import error_of, pair_by_pair
from mmg_diffusers.files.printed import in_full
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.cost import Cost
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.tables import PairTable
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.progress import bar_of_parts

if TYPE_CHECKING:
    import pandas

# Pairs that a plan is made from.
PILOT = 8
# Pairs of a page whose maps are kept at every level, for its slider.
MOST_BY_LEVEL = 64


def measure(pipe: MMGPipeline, pairs: PairTable, marginal: Marginal, plan: Plan) -> Estimate | Filtered:
    """Measure pairs: against the null prompt an estimate, against candidates a filter. Its notes say what was left out of a folder.

    Raises:
        ValueError: for options of the null prompt against candidates, and as `MMGPipeline` does.
    """
    check_options(marginal, plan, pairs.given is not None)
    result = cast("Estimate | Filtered", pipe.measure(pairs.images, pairs.prompts, pairs.given, marginal, plan))
    return replace(result, notes=(*pairs.notes, *result.notes))


def check_wanted(wanted: float, pairs: int) -> None:
    """Refuse a standard error, or a number of pairs, that nothing can be planned for.

    Raises:
        ValueError: which says what was expected.
    """
    if finite(wanted, "--plan") <= 0:
        raise ValueError(f"--plan is {wanted:g}; expected a standard error in nats, above 0")
    if pairs < 2:
        raise ValueError(f"--plan has {pairs} pair(s) to look at; expected two or more, which show how pairs differ")


def of_cost(cost: Cost, wanted: float, count: int) -> Answer:
    """What a wanted standard error of the mean costs."""
    said = cost.says(wanted, count)
    return Answer(
        {"kind": "plan", "wanted": {"value": wanted, "unit": "nats"}, "pairs": count, "says": str(said)}, [said]
    )


def forecast(pipe: MMGPipeline, pairs: PairTable, marginal: Marginal, plan: Plan, wanted: float) -> Answer:
    """Measure the first few pairs, and say what a standard error of the mean of all of them costs.

    Raises:
        ValueError: for fewer than two pairs, or a standard error that is not positive.
    """
    few = min(PILOT, len(pairs.prompts))
    given = None if pairs.given is None else pairs.given[:few]
    cost = pipe.cost(list(pairs.images[:few]), list(pairs.prompts[:few]), given=given, marginal=marginal, plan=plan)
    return of_cost(cost, wanted, len(pairs.prompts))


def rows_of(result: Estimate | Filtered, pairs: PairTable) -> pandas.DataFrame:
    """One row a pair, with its picture and its prompt."""
    table = result.to_pandas()
    table.insert(1, "image", pairs.names)
    table.insert(2, "prompt", pairs.prompts)
    table["verdict"] = str(result.verdict)
    return table


def grid_of(table: pandas.DataFrame) -> Grid:
    """The pairs on a screen."""
    rows = [
        (Path(image).name or str(pair), prompt, f"{nats:.3f}", error_of(stderr))
        for pair, image, prompt, nats, stderr in zip(
            *(table[name] for name in ("pair", "image", "prompt", "nats", "stderr")), strict=True
        )
    ]
    return Grid(("image", "prompt", "nats", "± noise"), rows, 2)


def estimate(
    question: Question,
    plan: Plan,
    networks: Networks,
    output: Path,
    wanted: float | None = None,
    *,
    high: float | None = None,
) -> Answer:
    """Write pairs.csv and the record, and tell the mean; or what a `wanted` standard error of it costs, and nothing else.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured.
    """
    needs("pandas", "data")
    pairs, marginal = question.read()
    if wanted is not None:
        check_wanted(wanted, len(pairs.prompts))
    refuse(pairs, marginal, plan)
    if wanted is not None:
        pipe = networks.load(high)
        return forecast(pipe, pairs, marginal, within(plan, high, pipe), wanted)
    check_writable(output)
    pipe = networks.load(high)
    result = measure(pipe, pairs, marginal, within(plan, high, pipe))
    record = result.save(output / f"{'filter' if isinstance(result, Filtered) else 'estimate'}.safetensors")
    table = rows_of(result, pairs)
    write_whole(output / "pairs.csv", table.to_csv(index=False).encode())
    says: list[object] = [grid_of(table), result]
    differs = pair_by_pair(result.nats, result.mean(), isinstance(result, Filtered))
    says += [differs] if differs else []
    values = of_record(result, table)
    if isinstance(result, Filtered):
        read = result.against_mixture.using(plan.integrand)
        with in_full():
            known = str(result).split("\n")
            more = [line for line in str(read).split("\n") if line not in known]
        says.append("\n".join(("against the mixture:", *more)))
        values["against the mixture"] = read.mean()
    return Answer(values, says, [output / "pairs.csv", record])


@dataclass(frozen=True)
class Also:
    """What a page holds beside the measurement.

    Args:
        likelihood: how likely the images are.
        words: what each word says.
        caption: another caption of each image, as `mmg_diffusers.commands.comparing.captions` takes it.
        model: a second one, on the same pairs.
    """

    likelihood: bool = False
    words: bool = False
    caption: str | None = None
    model: str | None = None

    def second(self, networks: Networks) -> Networks:
        """The second model, run as the first is; what is said of the first's weights is not said of it."""
        return replace(networks, model=str(self.model), variant=None, revision=None)


def report(
    question: Question,
    plan: Plan,
    networks: Networks,
    output: Path,
    wanted: float | None = None,
    *,
    high: float | None = None,
    also: Also | None = None,
) -> Answer:
    """Write one HTML page, with what else is asked for; or tell what a `wanted` standard error of the mean costs.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured.
    """
    from mmg_diffusers.commands.comparing import captions, refuse_equal
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.commands.report import build_report

    if wanted is not None:
        return estimate(question, plan, networks, output, wanted, high=high)
    check_plotting()
    needs("pandas", "data")
    check_writable(output.parent)
    also = also or Also()
    pairs, marginal = question.read()
    images, prompts = pairs.images, pairs.prompts
    b = None if also.caption is None else captions(also.caption, len(pairs), "--b")
    if b is not None:
        refuse_equal(prompts, b)
    refuse(pairs, marginal, plan)
    other = None if also.model is None else also.second(networks)
    if other is not None:
        other.told(high)  # before the first is loaded
    pipe = networks.load(high)
    second = None if other is None else other.load(high)
    # Of a second model the levels are its own, up to the same highest one.
    plan, theirs = within(plan, high, pipe), None if second is None else within(plan, high, second)
    once = replace(plan, keep="pixel" if plan.keep == "level" else plan.keep)
    if len(pairs) > MOST_BY_LEVEL or pipe.codec.medium.noun != "image":
        # Maps at every level are some times larger; those of videos and of many pairs are not kept.
        plan = once
    # What is read beside it has its own steps: only the measurement is audited, and walked to a tolerance.
    beside = replace(once, audit=False)
    two = replace(beside, draws=max(2, plan.draws), tolerance=None)
    parts = 1 + also.likelihood + also.words + (b is not None) + (second is not None)
    with bar_of_parts(parts, "report", pipe.progress_bar_config):
        result = measure(pipe, pairs, marginal, plan)
        # Of the branch that there is, and at the same noise: the gap is the difference of two of these.
        told = None if pipe.unconditional else prompts
        likely = (
            pipe.log_likelihood(images, told, plan=replace(beside, keep="pair", tolerance=None, integrand="auto"))
            if also.likelihood
            else None
        )
        said = pipe.words(images, prompts, marginal=marginal, plan=beside) if also.words else None
        preferred = None if b is None else pipe.compare(images, prompts, b, plan=two)
        others = None
        if second is not None and theirs is not None:
            others = {Path(str(also.model)).name: measure(second, pairs, marginal, replace(theirs, keep=once.keep))}
    page = build_report(
        result,
        images,
        prompts,
        convention=pipe.denoiser.convention,
        likelihood=likely,
        title=f"What prompts say: {question.source.name}",
        words=said,
        comparison=preferred,
        others=others,
    )
    write_whole(output, page.encode())
    values = of_record(result, rows_of(result, pairs))
    if plan.audit and isinstance(result, Filtered):
        found = Audit(result)
        distance, error = found.distance
        values["audit"] = {
            "value": distance,
            "stderr": error,
            "unit": "nats",
            "verdict": str(found.verdict),
            "finding": str(found.finding),
        }
    if likely is not None:
        values["log p"] = likely.mean()
    if said is not None:
        values["words"] = said.means()
    if preferred is not None:
        values["prompt over --b"] = preferred.mean()
    if others is not None:
        values["other models"] = {name: found.mean() for name, found in others.items()}
    return Answer(values, [result], [output])


def audit(question: Question, plan: Plan, networks: Networks, output: Path, *, high: float | None = None) -> Answer:
    """Write levels.csv, pairs.csv and the record, and tell how far the null branch is from the candidates' mixture.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured.
    """
    needs("pandas", "data")
    pairs, marginal = question.read("prompts")
    if marginal.candidates is None:
        raise ValueError(
            f"--marginal {question.marginal} has no candidates to hold the null branch against; give prompts, negatives:15, or a "
            "file of candidates"
        )
    check_writable(output)
    refuse(pairs, marginal, plan)
    pipe = networks.load(high)
    result = pipe.audit(pairs.images, pairs.prompts, marginal, plan=within(plan, high, pipe))
    rows = result.filtered.to_pandas()[["pair"]].assign(
        image=pairs.names,
        prompt=pairs.prompts,
        nats=result.nats.numpy(),
        stderr=result.stderr.numpy(),
    )
    levels = result.to_pandas()
    write_whole(output / "levels.csv", levels.to_csv(index=False).encode())
    write_whole(output / "pairs.csv", rows.to_csv(index=False).encode())
    record = result.save(output / "audit.safetensors")
    of = result.filtered
    told = {"settings": dict(of.settings), "versions": dict(of.versions), "evaluations": of.evaluations}
    values = {**of_record(result, rows), **told, "levels": levels.to_dict("records")}
    return Answer(values, [grid_of(rows), result], [output / "levels.csv", output / "pairs.csv", record])
