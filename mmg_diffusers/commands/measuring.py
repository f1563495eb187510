"""Pairs measured for a command: a table and a record, or a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import finite, needs
from mmg_diffusers.commands.console import say
from mmg_diffusers.commands.inputs import Networks, read_compared
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.tables import PairTable, read_pairs
from mmg_diffusers.pipelines.pipeline import MMGPipeline

# Pairs that a plan is made from.
PILOT = 8


@dataclass(frozen=True)
class Question:
    """What is measured, as a command line says it.

    Args:
        source: an image, a folder or a table.
        prompt, given: prompt and context of all images, in place of the table's.
        marginal: as `read_compared` takes it.
        entropy: H(Y) of prompts that are labels, nats, if it is known.
    """

    source: Path
    prompt: str | None = None
    given: str | None = None
    marginal: str = "null"
    entropy: float | None = None

    def read(self) -> tuple[PairTable, Marginal]:
        """The pairs, with their contexts, and what their prompts are compared with.

        Raises:
            ValueError, OSError: as `read_pairs` and `read_compared` do, or when the context is named twice.
        """
        pairs = read_pairs(self.source, self.prompt)
        if self.given is not None:
            if pairs.given is not None:
                raise ValueError(f"{self.source} has a column 'given', and --given was set; leave one of them out")
            pairs = replace(pairs, given=[self.given] * len(pairs.prompts))
        marginal = read_compared(self.marginal, pairs.prompts)
        return pairs, marginal if self.entropy is None else marginal.stating(self.entropy)


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


def check_options(marginal: Marginal, plan: Plan, given: bool = False) -> None:
    """Refuse options of the null prompt against candidates, by the names that they have here.

    Raises:
        ValueError: which says what to leave out.
    """
    for name, set_ in (("given", given), ("tolerance", plan.tolerance is not None)):
        if set_ and marginal.candidates is not None:
            raise ValueError(f"--{name} belongs to the null prompt; leave it out, or set --marginal null")


def forecast(
    pipe: MMGPipeline, pairs: PairTable, marginal: Marginal, plan: Plan, wanted: float, count: int | None = None
) -> None:
    """Measure the first few pairs, and print what a standard error of the mean of all of them costs.

    Args:
        pipe, marginal, plan: of the measurement.
        pairs: the first pairs, or all.
        wanted: the standard error, in nats.
        count: of all pairs, if these are not all.

    Raises:
        ValueError: for fewer than two pairs, or a standard error that is not positive.
    """
    few = PILOT if len(pairs.prompts) > PILOT else len(pairs.prompts)
    given = None if pairs.given is None else pairs.given[:few]
    cost = pipe.cost(list(pairs.images[:few]), list(pairs.prompts[:few]), given=given, marginal=marginal, plan=plan)
    say(cost.says(wanted, count or len(pairs.prompts)))


def estimate(question: Question, plan: Plan, networks: Networks, output: Path, wanted: float | None = None) -> None:
    """Write pairs.csv and the record, and print the mean; or what a `wanted` standard error of it costs, and nothing else.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    needs("pandas", "data")
    pairs, marginal = question.read()
    if wanted is not None:
        check_wanted(wanted, len(pairs.prompts))
        check_options(marginal, plan, pairs.given is not None)
        return forecast(networks.load(), pairs, marginal, plan, wanted)
    check_writable(output)
    result = measure(networks.load(), pairs, marginal, plan)
    record = result.save(output / f"{'filter' if isinstance(result, Filtered) else 'estimate'}.safetensors")
    table = result.to_pandas()
    table.insert(1, "image", pairs.names)
    table.insert(2, "prompt", pairs.prompts)
    table["verdict"] = str(result.verdict)
    write_whole(output / "pairs.csv", table.to_csv(index=False).encode())
    say(result)
    if isinstance(result, Filtered):
        say(f"against the mixture: {result.against_mixture.using(plan.integrand)}")
    for path in (output / "pairs.csv", record):
        say(f"wrote {path}")


def report(
    question: Question,
    plan: Plan,
    networks: Networks,
    output: Path,
    wanted: float | None = None,
    *,
    likelihood: bool = False,
    words: bool = False,
) -> None:
    """Write one HTML page, which may say how likely the images are and what the words say; or print what a `wanted` standard error of the
    mean costs.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.commands.report import build_report

    if wanted is not None:
        return estimate(question, plan, networks, output, wanted)
    check_plotting()
    if output.is_dir():
        raise ValueError(f"{output} is a folder; expected the file to write, such as {output / 'report.html'}")
    check_writable(output.parent)
    pairs, marginal = question.read()
    pipe = networks.load()
    result = measure(pipe, pairs, marginal, plan)
    likely = None
    if likelihood:
        # Of the branch that there is, and at the same noise: the gap is the difference of two of these.
        told = None if pipe.unconditional else pairs.prompts
        likely = pipe.log_likelihood(pairs.images, told, plan=replace(plan, keep="pair"))
    said = pipe.words(pairs.images, pairs.prompts, marginal=marginal, plan=plan) if words else None
    title = f"What prompts say: {question.source.name}"
    page = build_report(
        result,
        pairs.images,
        pairs.prompts,
        convention=pipe.denoiser.convention,
        likelihood=likely,
        title=title,
        words=said,
    )
    write_whole(output, page.encode())
    say(f"wrote {output}")


def audit(question: Question, plan: Plan, networks: Networks, output: Path) -> None:
    """Write levels.csv, pairs.csv and the record, and print how far the null branch is from the candidates' mixture.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    needs("pandas", "data")
    pairs, marginal = question.read()
    if marginal.candidates is None:
        raise ValueError(
            f"--marginal {question.marginal} has no candidates to hold the null branch against; give prompts, negatives:15, or a "
            "file of candidates"
        )
    check_writable(output)
    result = networks.load().audit(pairs.images, pairs.prompts, marginal, plan=plan)
    rows = result.filtered.to_pandas()[["pair"]].assign(
        image=pairs.names,
        prompt=pairs.prompts,
        nats=result.nats.numpy(),
        stderr=result.stderr.numpy(),
    )
    write_whole(output / "levels.csv", result.to_pandas().to_csv(index=False).encode())
    write_whole(output / "pairs.csv", rows.to_csv(index=False).encode())
    record = result.save(output / "audit.safetensors")
    for text in (result, *(f"wrote {path}" for path in (output / "levels.csv", output / "pairs.csv", record))):
        say(text)
