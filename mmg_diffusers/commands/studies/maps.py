"""Where in an image a prompt speaks, and each of its words: maps in nats per pixel, whose sum is the image's value."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmg_diffusers.analysis.words import Isolated, decompose_maps, isolate, pair_surprise
from mmg_diffusers.commands.answers import Answer, Grid
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.figures import check_plotting, plot_map_grid, save_figure
from mmg_diffusers.commands.inputs import gather
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.settings import (
    StudySettings,
    marginal_of,
    warned_of,
    word_of,
    write_json,
    write_tensors,
)
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import Form
from mmg_diffusers.pairs.images import ImageLike, read_picture
from mmg_diffusers.pairs.marginals import Candidates, Marginal, NullPrompt
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pairs.videos import read_video
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.progress import bar_of_parts

PARTS = ("redundancy", "unique_1", "unique_2", "synergy", "interaction")


@dataclass(frozen=True)
class Question:
    """What is mapped.

    Args:
        source, prompt: as `gather` takes them.
        words: as `word_of` takes them.
        together: two words each, such as ``red,circle``, whose shared information is mapped; needs candidates.
        whole: map whole prompts.
        gap: signed gap maps beside the orthogonal ones.
        marginal: as `read_marginal` takes it.
        replace_by: what takes the place of a word; masked by default.
        bands: of log-SNR, such as ``-1:3``.
        pairs: of the Shapes world.
    """

    source: str = "shapes"
    prompt: str | None = None
    words: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    whole: bool = True
    gap: bool = True
    marginal: str | None = None
    replace_by: str | None = None
    bands: tuple[str, ...] = ()
    pairs: int = 6


@dataclass(frozen=True)
class Measurement:
    """These pairs, and how they are measured."""

    pipe: MMGPipeline
    images: list[ImageLike]
    prompts: list[str]
    settings: StudySettings

    def __call__(self, asked: Isolated) -> Estimate:
        """What is asked, with maps at every level."""
        settings = self.settings
        if isinstance(asked.marginal, NullPrompt):
            return self.pipe(
                self.images,
                self.prompts,
                given=asked.given,
                plan=settings.with_null(self.pipe),
                keep="level",
            )
        return self.pipe.filter(
            self.images,
            self.prompts,
            asked.marginal,
            plan=settings.with_candidates(self.pipe),
            keep="level",
        ).against_mixture


def bands_of(texts: Sequence[str], low: float, high: float) -> dict[str, tuple[float, float]]:
    """Bands of log-SNR by their text: ``-1:3`` from -1 to 3, ``-1:`` all that is measured from -1 on.

    Raises:
        ValueError: for a band that does not rise, or that leaves `low` to `high`.
    """
    bands: dict[str, tuple[float, float]] = {}
    for text in texts:
        begin, colon, end = text.partition(":")
        try:
            band = (float(begin or "-inf"), float(end or "inf"))
        except ValueError:
            band = (math.inf, -math.inf)
        if not colon or not band[0] < band[1] or low > band[0] > -math.inf or high < band[1] < math.inf:
            ends = "" if math.isinf(low) else f" between {low:.2f} and {high:.2f}"
            raise ValueError(f"the band is {shorten(repr(text), 60)}; expected rising log-SNRs{ends}, such as -1:3")
        bands[text] = band
    return bands


def two_words(text: str, source: str, marginal: Marginal) -> tuple[Word, Word]:
    """Two words that are mapped together.

    Raises:
        ValueError: unless there are two, and candidates.
    """
    words = [word_of(part.strip(), source) for part in text.split(",")]
    if len(words) != 2 or not isinstance(marginal, Candidates):
        raise ValueError(
            f"got {shorten(repr(text), 60)} and {type(marginal).__name__}; expected two words, such as red,circle, and candidates"
        )
    return words[0], words[1]


@dataclass(frozen=True)
class Maps:
    """Maps by name, `(N, H, W)` nats per pixel (of videos `(N, F, H, W)`), their standard errors under ``NAME/stderr``, and the record of each question."""

    images: list[ImageLike]
    prompts: list[str]
    maps: Mapping[str, Tensor]
    record: Mapping[str, Mapping[str, Any]]

    @property
    def sums(self) -> dict[str, Tensor]:
        """`(N,)` nats of each map."""
        return {name: values.flatten(1).sum(1) for name, values in self.maps.items() if not name.endswith("/stderr")}


def measure_maps(question: Question, settings: StudySettings, networks: Networks) -> Maps:
    """Measure all that is asked; everything is checked before anything is measured.

    Raises:
        ValueError, OSError: for options that cannot be read or do not fit the pairs.
    """
    source = question.source
    images, prompts = gather(source, question.prompt, question.pairs, settings.seed)
    marginal = marginal_of(question.marginal, source, question.prompt, prompts)
    settings.check(marginal)
    asked = {"prompt": Isolated(None, marginal, "whole prompts")} if question.whole else {}
    asked |= {text: isolate([word_of(text, source)], prompts, marginal, question.replace_by) for text in question.words}
    together = {text: two_words(text, source, marginal) for text in question.together}
    if not asked and not together:
        raise ValueError("nothing was asked for; leave --no-whole out, or name a --word")
    told = networks.told(settings.how.high)
    low, high = (-math.inf, math.inf) if told is None else told
    bands_of(question.bands, low, high if settings.how.high is None else settings.how.high)
    pipe = networks.load(settings.how.high)
    # Candidates are compared at every level of the path but the last.
    low, high = pipe.denoiser.logsnr_range
    top = (
        (high if settings.how.high is None else settings.how.high)
        if isinstance(marginal, NullPrompt)
        else settings.last_step(pipe)
    )
    bands = {"": None, **bands_of(question.bands, low, top)}
    measure = Measurement(pipe, images, prompts, settings)
    medium = pipe.codec.medium
    *frames, _, height, width = medium.read(images[0]).pixels.shape

    def spread(values: Tensor) -> Tensor:
        return medium.spread(values, (*frames, height, width))

    maps: dict[str, Tensor] = {}
    record: dict[str, dict[str, Any]] = {}
    with bar_of_parts(len(asked) + 3 * len(together), "maps", pipe.progress_bar_config):
        for name, isolated in asked.items():
            estimate = measure(isolated)
            forms: tuple[Form, ...] = ("orthogonal", "gap") if question.gap else ("orthogonal",)
            for form in forms:
                for text, band in bands.items():
                    label = ", ".join([name, *([form] if form != "orthogonal" else []), *([text] if text else [])])
                    nats, stderr = estimate.pixel_map(form, band)
                    maps[label], maps[f"{label}/stderr"] = spread(nats), spread(stderr)
            record[name] = {
                "word": isolated.said,
                "settings": dict(estimate.settings),
                # Of the forms that are mapped, and not of their mixture, whose mean nothing here shows.
                "warnings": list(dict.fromkeys(text for form in forms for text in estimate.using(form).warnings())),
            }
        for name, (one, two) in together.items():
            assert isinstance(marginal, Candidates)
            joint, first_left, second_left = (
                measure(isolate(words, prompts, marginal)).pixel_map("gap")[0] for words in ([one, two], [one], [two])
            )
            parts = decompose_maps(pair_surprise(marginal, prompts, one, two), joint, first_left, second_left)
            for part in PARTS:
                maps[f"{name}, {part}"] = spread(getattr(parts, part))
            record[name] = {"word": "replaced by what other candidates say in its place", "gap maps": True}
    return Maps(images, prompts, maps, record)


def study(
    question: Question,
    settings: StudySettings,
    networks: Networks,
    output: Path,
    *,
    shown: int = 6,
    npz: bool = False,
) -> Answer:
    """Measure, and write maps.safetensors, maps.json and maps.png.

    Args:
        question: what is mapped.
        settings: how it is measured.
        networks: the model.
        output: folder.
        shown: images in the figure.
        npz: write maps.npz as well.

    Raises:
        ValueError, OSError, ImportError: before anything is measured.
    """
    check_plotting()
    check_writable(output)
    measured = measure_maps(question, settings, networks)
    sums = measured.sums
    write_tensors(output / "maps.safetensors", measured.maps)
    if npz:
        arrays = io.BytesIO()
        np.savez(arrays, **{name: values.numpy() for name, values in measured.maps.items()})  # pyright: ignore[reportArgumentType]
        write_whole(output / "maps.npz", arrays.getvalue())
    values = {
        "prompts": measured.prompts,
        "nats": {name: values.tolist() for name, values in sums.items()},
        "measured": measured.record,
    }
    write_json(output / "maps.json", values)
    rows: list[tuple[str, str]] = []
    for name, nats in sums.items():
        error = f" ± {float(nats.std()) / len(nats) ** 0.5:.3f}" if len(nats) > 1 else ""
        rows.append((name, f"{float(nats.mean()):.3f}{error}"))
    says: list[object] = [Grid(("map", "nats, mean over images"), rows)]
    says += [f"{name}: {row['word']}" for name, row in measured.record.items()]
    says += warned_of({name: row["warnings"] for name, row in measured.record.items() if "warnings" in row})
    few = min(shown, len(measured.images))
    read = read_video if next(iter(measured.maps.values())).ndim == 4 else read_picture
    pictures = [read(image, k).pixels.movedim(-3, -1).numpy() for k, image in enumerate(measured.images[:few])]
    figure = plot_map_grid(
        np.stack(pictures),
        {name: measured.maps[name][:few] for name in sums},
        titles=[text.replace(" on ", "\non ") for text in measured.prompts[:few]],
    )
    wrote = [output / name for name in ("maps.safetensors", "maps.json", *(["maps.npz"] if npz else []))]
    wrote.append(save_figure(figure, output / "maps.png", dpi=100))
    return Answer({"kind": "maps", "unit": "nats", **values}, says, wrote)
