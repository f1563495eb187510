"""Pairs measured for a command: a table and a record, or a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import needs
from mmg_diffusers.commands.console import say
from mmg_diffusers.commands.inputs import Networks, read_marginal
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import Form, Keep
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.marginals import Marginal, NullPrompt
from mmg_diffusers.pairs.tables import PairTable, read_pairs
from mmg_diffusers.pipelines.pipeline import STEPS, MMGPipeline


@dataclass(frozen=True)
class Question:
    """What is measured, as a command line says it.

    Args:
        source: an image, a folder or a table.
        prompt, given: prompt and context of all images, in place of the table's.
        marginal: as `read_marginal` takes it.
    """

    source: Path
    prompt: str | None = None
    given: str | None = None
    marginal: str = "null"

    def read(self) -> tuple[PairTable, Marginal]:
        """The pairs, with their contexts, and what their prompts are compared with.

        Raises:
            ValueError, OSError: as `read_pairs` and `read_marginal` do, or when the context is named twice.
        """
        pairs = read_pairs(self.source, self.prompt)
        if self.given is not None:
            if pairs.given is not None:
                raise ValueError(f"{self.source} has a column 'given', and --given was set; leave one of them out")
            pairs = replace(pairs, given=[self.given] * len(pairs.prompts))
        return pairs, read_marginal(self.marginal, pairs.prompts)


@dataclass(frozen=True)
class Settings:
    """How pairs are measured; `levels` is of the null prompt, or the steps of the candidates' path."""

    integrand: Form = "auto"
    levels: int | None = None
    draws: int = 1
    tolerance: float | None = None
    keep: Keep = "pair"
    seed: int = 0
    batch_size: int | None = None
    resize: bool = False

    def measure(self, pipe: MMGPipeline, pairs: PairTable, marginal: Marginal) -> Estimate | Filtered:
        """Against the null prompt an estimate; against candidates a filter, along levels that widen where little is told.

        Raises:
            ValueError: for options of the null prompt against candidates, and as `MMGPipeline` does.
        """
        if isinstance(marginal, NullPrompt):
            return pipe(
                pairs.images,
                pairs.prompts,
                given=pairs.given,
                integrand=self.integrand,
                levels=self.levels,
                draws=self.draws,
                tolerance=self.tolerance,
                keep=self.keep,
                seed=self.seed,
                batch_size=self.batch_size,
                resize=self.resize,
            )
        for name, value in (("given", pairs.given), ("tolerance", self.tolerance)):
            if value is not None:
                raise ValueError(f"--{name} belongs to the null prompt; leave it out, or set --marginal null")
        steps = STEPS if self.levels is None else self.levels
        return pipe.filter(
            pairs.images,
            pairs.prompts,
            marginal,
            levels=AtLevels.widening(*pipe.denoiser.logsnr_range, steps + 1).levels,
            draws=self.draws,
            keep=self.keep,
            seed=self.seed,
            batch_size=self.batch_size,
            resize=self.resize,
        )


def estimate(question: Question, settings: Settings, networks: Networks, output: Path) -> None:
    """Write pairs.csv and the record, and print the mean.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    needs("pandas", "data")
    pairs, marginal = question.read()
    check_writable(output)
    result = settings.measure(networks.load(), pairs, marginal)
    record = result.save(output / f"{'filter' if isinstance(result, Filtered) else 'estimate'}.safetensors")
    table = result.to_pandas()
    table.insert(1, "image", [str(path) for path in pairs.images])
    table.insert(2, "prompt", pairs.prompts)
    write_whole(output / "pairs.csv", table.to_csv(index=False).encode())
    say(result)
    if isinstance(result, Filtered):
        say(f"against the mixture: {result.against_mixture.using(settings.integrand)}")
    for path in (output / "pairs.csv", record):
        say(f"wrote {path}")


def report(question: Question, settings: Settings, networks: Networks, output: Path) -> None:
    """Write one HTML page.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    from mmg_diffusers.commands.figures import check_plotting
    from mmg_diffusers.commands.report import build_report

    check_plotting()
    if output.is_dir():
        raise ValueError(f"{output} is a folder; expected the file to write, such as {output / 'report.html'}")
    check_writable(output.parent)
    pairs, marginal = question.read()
    pipe = networks.load()
    result = settings.measure(pipe, pairs, marginal)
    title = f"What prompts say: {question.source.name}"
    page = build_report(result, pairs.images, pairs.prompts, convention=pipe.denoiser.convention, title=title)
    write_whole(output, page.encode())
    say(f"wrote {output}")
