"""What a model is, and whether it does what its configs say, for a command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from mmg_diffusers.checks import reason
from mmg_diffusers.commands.answers import Answer
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.inputs import gather
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.pairs.classes import ClassNumber
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.inspection import inspect_model
from mmg_diffusers.pipelines.pipeline import MMGPipeline

# Images that a check looks at, and the steps in which the model draws them if there are no others.
COUNT, STEPS = 16, 25
# Of these, and steps of the path, along which the null branch is held against the mixture of their prompts: all that it costs.
AUDITED, AUDIT_STEPS = 8, 12
# The fewest that tell something.
LEAST = 8
# Images that a user gives, with their prompts if they have some.
Given = tuple[list[ImageLike], list[str] | None]
# What it draws then: things of different kinds, so that a prompt of one is wrong for another.
_THINGS = (
    "a dog",
    "a red car",
    "a bowl of fruit",
    "a mountain lake",
    "an old man",
    "a city at night",
    "a horse",
    "a ship",
)
PROMPTS = tuple(f"a {kind} of {thing}" for kind in ("photograph", "painting") for thing in _THINGS)


def inspect(
    networks: Networks, run: bool, source: Path | None, prompt: str | None, seed: int, batch_size: int | None
) -> Answer:
    """Tell what is found in a model; no network is run, unless it is to be checked.

    Args:
        networks: the model.
        run: whether to `check` it as well.
        source, prompt, seed, batch_size: of the check.

    Raises:
        TypeError, ValueError, OSError: for what is no model or cannot be read.
    """
    from rich.table import Table

    if not run and (source is not None or prompt is not None):
        raise ValueError("--images and --prompt are of a check; add --check, or leave them out")
    given = None if source is None else _given(source, prompt, seed)
    table = Table(show_header=False)
    with networks.loading():
        model = inspect_model(
            networks.place,
            null=networks.null,
            torch_dtype=getattr(torch, networks.dtype),
            variant=networks.variant,
            revision=networks.revision,
        )
    found = model.rows()
    for name, value in found.items():
        table.add_row(name, shorten(value).replace("[", r"\["))
    seen = Answer({"kind": "inspection", "model": networks.model, "found": found}, [table])
    if not run:
        return seen
    checked = check(networks, given, prompt, seed, batch_size)
    return Answer({**seen.values, "self-test": checked.values}, [*seen.says, *checked.says], (), checked.status)


def check(networks: Networks, given: Given | None, prompt: str | None, seed: int, batch_size: int | None) -> Answer:
    """Run a model on data, and tell whether its prediction, time and scale are what its configs say; status 1, unless it passes.

    Args:
        networks: the model.
        given: images that the model knows, with their prompts; by default fresh ones of Shapes, or such as it draws itself.
        prompt: of those that it draws.
        seed: of the noise, and of what is drawn.
        batch_size: rows per forward pass.

    Raises:
        TypeError, ValueError, OSError: for a model that cannot be measured, or images that it cannot take.
    """
    pipe = networks.load()
    images, prompts, note = _pictures(pipe, networks, given, prompt, seed)
    test = pipe.self_test(images, prompts, seed=seed, batch_size=batch_size)
    audited = _audited(pipe, images, prompts, seed, batch_size)
    errors = {**test.errors, "multiple of z": test.linear}
    findings = [*test.findings, *test.remarks, *([note] if note else []), *([audited] if audited else [])]
    says = [
        f"self-test on {len(images)} images: {test.verdict}",
        "log-SNR       " + "  ".join(f"{level:7.2f}" for level in test.logsnr.tolist()),
        *(f"{name:14}" + "  ".join(f"{error:7.4f}" for error in row.tolist()) for name, row in errors.items()),
        *(f"- {finding}" for finding in findings),
    ]
    values = {
        "verdict": test.verdict,
        "images": len(images),
        "logsnr": test.logsnr,
        "errors": errors,
        "findings": findings,
    }
    return Answer(values, says, (), 0 if test.verdict == "passed" else 1)


def _audited(
    pipe: MMGPipeline, images: list[ImageLike], prompts: list[str] | None, seed: int, batch_size: int | None
) -> str | None:
    """What an audit of the null prompt against the images' own prompts finds; ``None`` if there is no null, or nothing to compare."""
    images, told = images[:AUDITED], list(prompts or ())[:AUDITED]
    number = Counter(told)
    if len(number) < 2 or not pipe.family.nulls():
        return None
    among = Candidates(tuple(number), tuple(times / len(images) for times in number.values()))
    try:
        audit = pipe.audit(images, told, among, levels=AUDIT_STEPS, seed=seed, batch_size=batch_size)
    except ValueError as error:
        return f"the null branch was not audited: {reason(error)}"
    return f"audit, {len(images)} images and {len(number)} prompts in {AUDIT_STEPS} steps: {audit.finding}"


def _given(source: Path, prompt: str | None, seed: int) -> Given:
    """The images that a user gives, with their prompts if they have some.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does, or for too few of them.
    """
    try:
        images, prompts = gather(source, prompt, COUNT, seed)
    except ValueError:
        # Of an unconditional network they need none.
        images, prompts = gather(source, "-", COUNT, seed)[0], None
    if len(images) < LEAST:
        raise ValueError(f"{source} has {len(images)} image(s); expected {LEAST} or more to check a model on")
    return images[:COUNT], None if prompts is None else prompts[:COUNT]


def _pictures(
    pipe: MMGPipeline,
    networks: Networks,
    given: Given | None,
    prompt: str | None,
    seed: int,
) -> tuple[list[ImageLike], list[str] | None, str | None]:
    """Images, their prompts unless the model takes none, and a remark on them."""
    told = pipe.family.conditional
    if given is not None:
        images, prompts = given
        if told and prompts is None:
            raise ValueError(
                "the images have no prompts; give one for all with --prompt, or a table with a column 'prompt'"
            )
        return images, prompts if told else None, None
    if networks.model == "shapes":
        return *gather("shapes", prompt, COUNT, seed), None
    texts = _asked_for(pipe, prompt)
    try:
        drawn = draw(pipe, texts, steps=STEPS, seed=seed)
    except Exception as error:  # of a pipeline that is called otherwise, and stumbles wherever it happens to
        raise ValueError(f"the pipeline draws no images ({reason(error)}); give some with --images") from error
    remark = "the images are the model's own: a factor of its latent that is wrong in its config is wrong in them, too, and not seen"
    return list(drawn.images), texts if told else None, remark


def _asked_for(pipe: MMGPipeline, prompt: str | None) -> list[str]:
    """What a model is asked to draw: one prompt, or different things, or classes over all that it has."""
    if prompt is not None:
        return [prompt] * COUNT
    classes = pipe.codec.classes
    if classes is None:
        return list(PROMPTS)
    return [ClassNumber(place * classes.count // COUNT) for place in range(COUNT)]
