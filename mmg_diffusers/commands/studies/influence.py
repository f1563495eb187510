"""What a prompt still adds at each noise level: I(A; B | X_tau) (MINDE, arXiv 2310.09031, eq. 29)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmg_diffusers.analysis.influence import AXES, Axis, Influence, influence
from mmg_diffusers.analysis.words import Isolated, isolate
from mmg_diffusers.commands.answers import Answer, Grid
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.figures import check_plotting, plot_influence, save_figure
from mmg_diffusers.commands.inputs import gather
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.settings import (
    StudySettings,
    check_taus,
    is_shapes,
    marginal_of,
    warned_of,
    word_of,
    write_json,
    write_tensors,
    write_text,
)
from mmg_diffusers.commands.texts import by_error, plus_minus
from mmg_diffusers.files.whole import check_writable
from mmg_diffusers.measure.moments import FORMS, Integrand, OutsideNorm
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.marginals import NullPrompt
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.progress import bar_of_parts
from mmg_diffusers.worlds.shapes import Shapes


@dataclass(frozen=True)
class Question:
    """What is compared. Of models, prompts, words and marginals every combination gets a curve.

    Args:
        models: how each is loaded.
        source: as `gather` takes it.
        prompts: of all images; ``None`` for those of the source.
        words: as `word_of` takes them; ``None`` is the whole prompt.
        marginals: as `read_marginal` takes them.
        readings: of the null prompt, as `reading` takes them.
        replace_by: what takes the place of a word; masked by default.
        pairs: of the Shapes world.
    """

    models: tuple[Networks, ...]
    source: str = "shapes"
    prompts: tuple[str | None, ...] = (None,)
    words: tuple[str | None, ...] = (None,)
    marginals: tuple[str, ...] = ("null",)
    readings: tuple[str, ...] = ("auto",)
    replace_by: str | None = None
    pairs: int = 64


@dataclass(frozen=True)
class Drawing:
    """Images that the model draws itself, in place of the source's."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class Shown:
    """What is written: diffusion times to say the influence at, the figure's axis, and for how many images a figure each."""

    at: tuple[float, ...] = ()
    axis: Axis = "tau"
    each: int = 0


def reading(text: str) -> Integrand:
    """``gap``, ``orthogonal``, ``auto``, ``balanced``, or ``C(1)`` for MINDE-C with that sigma.

    Raises:
        ValueError: for another text.
    """
    if text.startswith("C(") and text.endswith(")"):
        return OutsideNorm(float(text[2:-1]))
    for form in FORMS:
        if text == form:
            return form
    raise ValueError(
        f"no reading {shorten(repr(text), 60)}; expected {', '.join(FORMS)}, or C(1) for MINDE-C outside the norm, sigma = 1"
    )


@dataclass(frozen=True)
class Comparison:
    """Curves by label, with what has to be said of each."""

    curves: dict[str, Influence] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        label: list[str],
        pipe: MMGPipeline,
        images: list[ImageLike],
        prompts: list[str],
        asked: Isolated,
        settings: StudySettings,
        readings: tuple[str, ...],
        notes: tuple[str, ...],
    ) -> None:
        """Measure one question about these pairs, and read it in every way."""
        convention = pipe.denoiser.convention
        if isinstance(asked.marginal, NullPrompt):
            result = pipe(
                images,
                prompts,
                given=asked.given,
                plan=settings.with_null(pipe),
            )
            forms = {text: result.using(reading(text)) for text in readings}
            made = {text: (influence(form, convention), form.warnings()) for text, form in forms.items()}
        else:
            result = pipe.filter(
                images,
                prompts,
                asked.marginal,
                plan=settings.with_candidates(pipe),
            )
            made = {"log q": (result.influence(convention), result.warnings())}
        for text, (curve, warnings) in made.items():
            name = ", ".join([*label, text])
            self.curves[name] = curve
            self.records[name] = {
                "word": asked.said,
                "settings": dict(result.settings),
                "warnings": [*notes, *warnings],
            }


def compare(
    question: Question, settings: StudySettings, drawing: Drawing | None = None, at: tuple[float, ...] = ()
) -> Comparison:
    """Measure every combination.

    Args:
        question: what is compared.
        settings: how.
        drawing: measure images that the model draws; by default the source's.
        at: diffusion times that curves will be read at, which are checked before anything is measured.

    Raises:
        ValueError, OSError: for options that cannot be read or do not fit the pairs.
    """
    for text in question.readings:
        reading(text)
    check_taus(at)
    comparison = Comparison()
    wanted = {prompt: _wanted(question, prompt, settings) for prompt in question.prompts}
    for networks in question.models:
        networks.told(settings.how.high)  # of all of them, before the first is loaded
    for networks in question.models:
        pipe = networks.load(settings.how.high)
        pipe.denoiser.convention.at_tau(torch.tensor(at))
        parts = sum(len(asked) + (drawing is not None) for _, _, asked in wanted.values())
        with bar_of_parts(parts, "influence", pipe.progress_bar_config):
            for prompt, (images, prompts, asked) in wanted.items():
                notes: tuple[str, ...] = ()
                if drawing is not None:
                    drawn = draw(pipe, prompts, steps=drawing.steps, guidance=drawing.guidance, seed=settings.seed)
                    images, notes = list(drawn.images), drawn.notes
                for (word, text), isolated in asked.items():
                    label = [
                        *([Path(networks.model).name] if len(question.models) > 1 else []),
                        *([prompt] if prompt is not None and len(question.prompts) > 1 else []),
                        *([word] if word is not None else []),
                        *([text] if word is not None or len(question.marginals) > 1 else []),
                    ]
                    comparison.add(label, pipe, images, prompts, isolated, settings, question.readings, notes)
    return comparison


Asked = dict[tuple[str | None, str], Isolated]


def _wanted(
    question: Question, prompt: str | None, settings: StudySettings
) -> tuple[list[ImageLike], list[str], Asked]:
    """Pairs with a prompt, or their own, and what is asked of them: read before a model is loaded."""
    images, prompts = gather(question.source, prompt, question.pairs, settings.seed)
    asked = {
        (word, text): _asked(question, word, text, prompt, prompts)
        for word in question.words
        for text in question.marginals
    }
    for isolated in asked.values():
        settings.check(isolated.marginal)
    return images, prompts, asked


def _asked(question: Question, word: str | None, marginal: str, prompt: str | None, prompts: list[str]) -> Isolated:
    against = marginal_of(marginal, question.source, prompt, prompts)
    if word is None:
        return Isolated(None, against, "whole prompts")
    by = question.replace_by if isinstance(against, NullPrompt) else None
    return isolate([word_of(word, question.source)], prompts, against, by)


def half_of(curve: Influence, axis: Axis) -> Value | None:
    """Where half of the information has arrived; ``None`` when a few pairs have none in the mean."""
    return curve.half(axis) if curve.arrives else None


def table_of(curves: dict[str, Influence]) -> io.StringIO:
    """One row a level and curve, as CSV."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["curve", *AXES, "nats", "stderr"])
    for name, curve in curves.items():
        for row in zip(*(curve.on(axis) for axis in AXES), *curve.mean(), strict=True):
            writer.writerow([name, *(f"{float(value):.6g}" for value in row)])
    return table


def study(question: Question, settings: StudySettings, drawing: Drawing | None, shown: Shown, output: Path) -> Answer:
    """Measure, and write influence.csv, influence.json, pairs.safetensors (image by image) and influence.png.

    Raises:
        ValueError, OSError, ImportError: before anything is measured.
    """
    check_plotting()
    check_writable(output)
    comparison = compare(question, settings, drawing, shown.at)
    curves = comparison.curves
    whole = is_shapes(question.source, question.prompts[0]) and question.words == (None,) and drawing is None
    exact = Shapes("soft").mutual_information() if whole else None
    summary = {
        name: {
            "nats": [float(part[0]) for part in curve.mean()],
            "half_arrived_at": {axis: half_of(curve, axis) for axis in AXES},
            "nats_at_tau": {f"{tau:g}": curve.at(tau, "tau") for tau in shown.at},
            **comparison.records[name],
        }
        for name, curve in curves.items()
    }
    write_text(output / "influence.csv", table_of(curves))
    write_tensors(output / "pairs.safetensors", {name: curve.nats for name, curve in curves.items()})
    write_json(output / "influence.json", {"curves": summary, "exact": exact})
    rows: list[tuple[str, ...]] = []
    for name, row in summary.items():
        half = row["half_arrived_at"]
        cells = ["none" if half[axis] is None else by_error(half[axis]) for axis in ("tau", "logsnr", "timestep")]
        rows.append((name, plus_minus(row["nats"]), *cells))
    says: list[object] = [Grid(("curve", "nats", "half has arrived at tau", "at log-SNR", "at timestep"), rows)]
    for name, row in summary.items():
        for tau, value in row["nats_at_tau"].items():
            says.append(f"{name}: {plus_minus(value)} nats are still to come at tau {tau}")
    says += warned_of({name: row["warnings"] for name, row in summary.items()})
    wrote = [output / name for name in ("influence.csv", "influence.json", "pairs.safetensors")]
    wrote.append(save_figure(plot_influence(curves, axis=shown.axis, ceiling=exact), output / "influence.png"))
    for k in range(min(shown.each, *(len(curve) for curve in curves.values()))):
        figure = plot_influence({name: curve[k : k + 1] for name, curve in curves.items()}, axis=shown.axis)
        wrote.append(save_figure(figure, output / f"influence-{k:03d}.png"))
    return Answer({"kind": "influence", "unit": "nats", "curves": summary, "exact": exact}, says, wrote)
