"""How likely pictures are, for a command: a table, a record, and the reference that they were measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.answers import Answer, Grid, of_record
from mmg_diffusers.commands.networks import Networks, within
from mmg_diffusers.commands.questions import refuse_unreadable
from mmg_diffusers.commands.texts import error_of
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.tables import PairTable, read_pairs, read_pictures
from mmg_diffusers.pipelines.pipeline import MMGPipeline

# Pictures of a pilot, if there are four times as many others; more leave hardly less noise.
PILOT = 16
# The fewest that a pilot tells something of.
LEAST = 8


@dataclass(frozen=True)
class Pictures:
    """What is measured, as a command line says it.

    Args:
        source: an image, a folder or a table.
        prompt: that all images are given; by default none.
        prompts: whether each is given the prompt that the source names.
        reference: other pictures, or a saved reference; N(0, 1) by default.
        rank: of the reference's covariance; by default kinds are compared.
        pilot: how many of the other pictures say where levels belong; by default 16, or a quarter if there are few, 0 for none.
    """

    source: Path
    prompt: str | None = None
    prompts: bool = False
    reference: Path | None = None
    rank: int | None = None
    pilot: int | None = None

    def read(self) -> tuple[PairTable, Sequence[str] | None]:
        """The pictures, and the prompts that they are given, if any.

        Raises:
            ValueError, OSError: as `read_pairs` does, or for two options that say the same.
        """
        if self.prompts and self.prompt is not None:
            raise ValueError("--prompt gives all images one prompt, and --prompts each its own; leave one of them out")
        for name, value in (("--rank", self.rank), ("--pilot", self.pilot)):
            if value is not None and (self.reference is None or self.reference.suffix == ".safetensors"):
                raise ValueError(
                    f"{name} is of a reference that is fitted: give --reference a folder or table of other pictures"
                )
        if not self.prompts and self.prompt is None:
            return read_pictures(self.source), None
        pairs = read_pairs(self.source, self.prompt)
        return pairs, pairs.prompts

    def check_pilot(self, count: int) -> None:
        """Refuse a pilot that so many other pictures do not leave room for.

        Raises:
            ValueError: which says how many there may be.
        """
        if self.pilot and not LEAST <= self.pilot <= count // 2:
            raise ValueError(
                f"--pilot is {self.pilot} of {count} other pictures; expected at least {LEAST} and at most half of them, or 0 for none"
            )


def likelihood(
    pictures: Pictures, plan: Plan, networks: Networks, output: Path, *, high: float | None = None
) -> Answer:
    """Write likelihood.csv, the record and the reference, and tell the mean.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured.
    """
    needs("pandas", "data")
    table, prompts = pictures.read()
    others = saved = None
    if pictures.reference is not None:
        if pictures.reference.suffix == ".safetensors":
            saved = GaussianReference.load(pictures.reference)
        else:
            others = read_pictures(pictures.reference)
            pictures.check_pilot(len(others))
    check_writable(output)
    for some in (table, others):
        if some is not None:
            refuse_unreadable(some)
    pipe = networks.load(high)
    plan = within(plan, high, pipe)
    reference = saved if others is None else _fitted(pipe, pictures, others, plan.resize)
    result = pipe.log_likelihood(table.images, prompts, reference=reference, plan=plan)
    made = write(replace(result, notes=(*table.notes, *result.notes)), table, prompts, output)
    if others is None or reference is None:
        return made
    says = [f"reference: {reference}", *made.says]
    saved_as = reference.save(output / "reference.safetensors")
    return replace(made, values={**made.values, "reference": str(reference)}, says=says, wrote=[*made.wrote, saved_as])


def _fitted(pipe: MMGPipeline, pictures: Pictures, others: PairTable, resize: bool) -> GaussianReference:
    count, pilot, told = len(others.images), pictures.pilot, None
    if not pipe.unconditional and pictures.reference is not None and (pictures.prompt is not None or pictures.prompts):
        told = read_pairs(pictures.reference, pictures.prompt).prompts
    if pilot is None:
        pilot = min(PILOT, count // 4)
        pilot = pilot if pilot >= LEAST and (pipe.unconditional or told is not None) else 0
    return pipe.fit_reference(
        others.images,
        told if pilot else None,
        rank=pictures.rank,
        choose=pictures.rank is None,
        pilot=pilot,
        resize=resize,
    )


def write(result: LogLikelihood, table: PairTable, prompts: Sequence[str] | None, output: Path) -> Answer:
    """Write the table and the record, and tell what the record says."""
    record = result.save(output / "likelihood.safetensors")
    rows = result.to_pandas()
    rows.insert(1, "image", table.names)
    if prompts is not None:
        rows.insert(2, "prompt", list(prompts))
    write_whole(output / "likelihood.csv", rows.to_csv(index=False).encode())
    each = zip(table.names, result.nats.tolist(), result.stderr.tolist(), strict=True)
    cells = [(Path(name).name or str(k), f"{nats:.3f}", error_of(error)) for k, (name, nats, error) in enumerate(each)]
    says = [Grid(("image", "log p, nats", "± noise"), cells), result]
    return Answer(of_record(result, rows), says, [output / "likelihood.csv", record])
