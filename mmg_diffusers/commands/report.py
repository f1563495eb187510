"""One self-contained HTML page about a measurement: verdict, table, curves, maps, words, pairs, settings, certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.preference import Preference
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.page import sections
from mmg_diffusers.commands.page.drawn import Figures
from mmg_diffusers.commands.page.html import document, table, warned, without_folders
from mmg_diffusers.commands.page.readings import PageReading, of_estimate, of_filter
from mmg_diffusers.commands.page.sections import MOST_ROWS, Chosen
from mmg_diffusers.commands.texts import pair_by_pair
from mmg_diffusers.commands.word_page import word_section
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.measured import Measured
from mmg_diffusers.pairs.images import ImageLike, read_picture
from mmg_diffusers.pairs.videos import read_video

# Settings longer than this are shortened; the record has them.
LONGEST = 160
_COLOURS = {"trust": "good", "with caution": "fair", "don't": "bad"}


def build_report(
    result: Estimate | Filtered,
    images: Sequence[ImageLike],
    prompts: Sequence[str],
    *,
    convention: Convention | None = None,
    likelihood: LogLikelihood | None = None,
    title: str = "What prompts say",
    words: Words | None = None,
    comparison: Preference | None = None,
    others: Mapping[str, Estimate | Filtered] | None = None,
) -> str:
    """The page, as text: one file that loads nothing, and holds its figures, styles and the script that sorts and moves along levels.

    Every number has the name of what it was read by; the nats of a pair are the same in table, map and curve.

    Args:
        result: measured with ``keep="pixel"``, for maps, or ``"level"``, for maps at each noise level; an estimate with the trapezoidal
            rule or Simpson's, for influence.
        images: as `MMGPipeline` takes them, one a pair; videos, if the result is of some, of which a few frames are shown.
        prompts: one a pair; they are escaped.
        convention: of the model, to tell diffusion time by.
        likelihood: log p of the images, if it was measured too.
        title: of the page.
        words: what the words of the same prompts say, from `MMGPipeline.words`: text whose words can be chosen, each with its map.
        comparison: of two captions of the same images, from `MMGPipeline.compare`.
        others: what other models say of the same pairs, by name.

    Raises:
        ValueError: when images, prompts, words or other measurements do not fit the measurement, or an image cannot be read.
    """
    if not len(images) == len(prompts) == len(result):
        raise ValueError(
            f"got {len(images)} images and {len(prompts)} prompts for an estimate of {len(result)} pairs; expected one each"
        )
    also: dict[str, Measured | None] = {"log p": likelihood, "a comparison": comparison, **(others or {})}
    for name, found in also.items():
        if found is not None and len(found) != len(result):
            raise ValueError(
                f"got {name} of {len(found)} images for an estimate of {len(result)} pairs; expected one each"
            )
    if words is not None and list(words.prompts) != list(prompts):
        raise ValueError("the words are of other prompts than the measurement; read the words of the same pairs")
    draw = Figures()
    read = of_filter if isinstance(result, Filtered) else of_estimate
    reading = read(result, convention, draw)  # pyright: ignore[reportArgumentType]
    look = read_video if "frames" in reading.settings else read_picture
    chosen = Chosen.of(reading.nats)
    needed = {*range(min(len(images), MOST_ROWS)), *chosen.places}
    shown = {k: look(image, k).pixels.movedim(-3, -1).numpy() for k, image in enumerate(images) if k in needed}
    others = {without_folders(model): found for model, found in (others or {}).items()}
    settings = {**reading.settings, **{f"{name} version": v for name, v in result.versions.items()}}
    title = without_folders(title)
    name = without_folders(str(reading.settings.get("model", "this model")))
    parts = [
        f'<p class="verdict {_COLOURS[result.verdict.grade]}">{escape(str(result.verdict).capitalize())}</p>',
        f'<p class="number" id="mean" data-number="{reading.mean.value}">{reading.headline}</p>',
        f'<p class="quiet">{escape(reading.about)}</p>',
        _of_pairs(reading),
        warned(reading.warnings),
        reading.summary,
        f'<h2>Curves</h2><div class="figures">{"".join(reading.figures)}</div>',
        sections.where(reading, shown, prompts, chosen),
        "" if comparison is None else sections.two_captions(comparison, shown, chosen),
        sections.other_models(name, reading, others, draw) if others else "",
        "" if likelihood is None else sections.likely(likelihood),
        "" if words is None else f"<h2>Words</h2>{word_section(words, shown, chosen.places)}",
        sections.pairs_table(reading, shown, prompts, likelihood, comparison, others),
        "<h2>Settings</h2>",
        table(
            ((key, shorten(without_folders(str(value)), LONGEST)) for key, value in settings.items()),
            ("setting", "value"),
            "As in the record",
            text=(0, 1),
        ),
    ]
    return document(title, "".join(parts))


def _of_pairs(reading: PageReading) -> str:
    """Why the mean of the column of pairs is not the headline, where it is not."""
    said = pair_by_pair(reading.nats, reading.mean, reading.form == "log q")
    return f'<p class="quiet">{said}</p>' if said else ""
