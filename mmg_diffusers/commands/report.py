"""One self-contained HTML page about a measurement: table, curves, maps, settings, certificates."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import Influence, influence
from mmg_diffusers.analysis.words import parts_by_place, word_information
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.figures import (
    lay_over,
    plot_audit,
    plot_curves,
    plot_influence,
    plot_mmse,
    plot_words,
    pyplot,
    strip,
)
from mmg_diffusers.commands.texts import AXIS_NAMES, CERTIFICATE, plus_minus, title_of
from mmg_diffusers.commands.word_page import word_section
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.moments import OF_PRETRAINED
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.images import ImageLike, read_picture
from mmg_diffusers.pairs.videos import read_video

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pairs beyond these are counted, not shown: a page should open on a phone.
MOST_ROWS, MOST_MAPS = 200, 12
# Settings longer than this are shortened; the record has them.
LONGEST = 160

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; --warn: #c4581c; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: right; vertical-align: middle; }
th, .value { white-space: nowrap; overflow-wrap: normal; }
th:first-child, td:first-child, .text { text-align: left; }
td.text { min-width: 8rem; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; background: #fff; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.figures img { display: block; width: 100%; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; }
.maps figure { margin: 0; } .maps figcaption { font-size: .8rem; line-height: 1.3; }
.maps img { width: calc(50% - 2px); image-rendering: pixelated; } .maps img + img { margin-left: 4px; }
img.thumb { width: 3rem; min-width: 3rem; display: block; image-rendering: pixelated; }
.verdict { font-size: 1.2rem; font-weight: 600; margin: .5rem 0 0; border-left: .5rem solid; padding-left: .7rem; }
.good { border-color: #2a8a4a; } .fair { border-color: #c9a227; } .bad { border-color: var(--warn); }
.number { font-size: 1.8rem; margin: .5rem 0; } .quiet { color: var(--quiet); }
.warn { border-left: 4px solid var(--warn); padding-left: .7rem; }
"""

_COLOURS = {"trust": "good", "with caution": "fair", "don't": "bad"}


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(pixels: NDArray[np.floating]) -> Image.Image:
    picture = Image.fromarray((np.asarray(pixels) * 255).round().astype(np.uint8))
    picture.thumbnail((256, 256))
    return picture


def _drawn(draw: Callable[[Axes], object], about: str) -> str:
    """A figure of the size of a phone, so that its letters can be read on one."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(4.6, 3.5), layout="constrained")
    draw(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=160)
    plt.close(figure)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="{source}" alt="{escape(about)}">'


def _table(rows: Iterable[Sequence[object]], head: Sequence[str] = (), text: Sequence[int] = (0,)) -> str:
    """Cells are escaped; columns in `text` are text, the others numbers."""

    def cells(row: Sequence[object], tag: str) -> str:
        made = (
            f'<{tag} class="{"text" if column in text else "value"}">{cell.html if isinstance(cell, _Thumb) else escape(str(cell))}</{tag}>'
            for column, cell in enumerate(row)
        )
        return f"<tr>{''.join(made)}</tr>"

    top = cells(head, "th") if head else ""
    return f'<div class="scroll"><table>{top}{"".join(cells(row, "td") for row in rows)}</table></div>'


class _Thumb:
    """A small picture in a table."""

    def __init__(self, pixels: NDArray[np.floating]) -> None:
        picture = _picture(pixels)
        picture.thumbnail((96, 96))
        self.html = f'<img class="thumb" src="{_png(picture)}" alt="">'


def _cells(value: Value) -> tuple[str, str, str]:
    return f"{value.value:.4f}", f"{value.stderr:.4f}", f"{value.bits().value:.4f}"


@dataclass(frozen=True)
class _Reading:
    """What a page says of a measurement, whatever its marginal."""

    headline: str
    about: str
    warnings: Sequence[str]
    table: str
    remarks: str
    figures: Sequence[str]
    compared: Estimate
    nats: Tensor
    stderr: Tensor
    settings: Mapping[str, Any]


def _half(curve: Influence) -> str:
    if not curve.arrives:
        return ""
    half = curve.half()
    sentence = f"Half of it has arrived at log-SNR {plus_minus(half, 2)}"
    if curve.convention is not None:
        sentence += f", {AXIS_NAMES['tau']} = {plus_minus(curve.half('tau'))}"
    return f"<p>{sentence}.</p>"


def _of_estimate(estimate: Estimate, convention: Convention | None) -> _Reading:
    low, high = estimate.logsnr_range
    mean, certificate, edge = estimate.mean(), estimate.certificate, estimate.boundary
    over = influence(estimate, convention)
    axis = "logsnr" if convention is None else "tau"
    return _Reading(
        f"{plus_minus(mean)} nats",
        f"mean over {len(estimate)} pairs, {estimate.integrand} form, log-SNR {low:.2f} to {high:.2f}, "
        f"{estimate.evaluations:,} evaluations",
        estimate.warnings(),
        _table(
            ((form, *_cells(estimate.using(form).mean())) for form in OF_PRETRAINED),
            ("form", "nats", "± stderr", "bits"),
        ),
        f"<p>Certificate ({CERTIFICATE}): {plus_minus(certificate, 4)} nats. "
        f"Estimated beyond the range: {edge.low.value:.4f} below, {edge.high.value:.4f} above.</p>" + _half(over),
        (
            _drawn(lambda ax: plot_mmse(estimate, ax=ax), title_of("mmse")),
            _drawn(lambda ax: plot_curves(estimate, ax=ax), title_of("curves")),
            _drawn(
                lambda ax: plot_influence({str(estimate.integrand): over}, axis=axis, ax=ax),
                title_of("influence"),
            ),
        ),
        estimate,
        estimate.nats,
        estimate.stderr,
        estimate.settings,
    )


def _of_filter(result: Filtered, convention: Convention | None) -> _Reading:
    mean, compared, below = result.mean(), result.against_mixture, result.below
    over = result.influence(convention)
    axis = "logsnr" if convention is None else "tau"
    entropy = result.entropy_by_level[:, -1]
    readings = {
        "log q, a bound": mean,
        "entropy of q": mean_over_pairs(entropy),
        "gap to the mixture": compared.using("gap").mean(),
        "orthogonal to it": compared.using("orthogonal").mean(),
    }
    low, high = float(result.logsnr[0]), float(result.logsnr[-1])
    figures = [
        _drawn(lambda ax: plot_curves(compared, ax=ax), title_of("mixture")),
        _drawn(lambda ax: plot_influence({"log q": over}, axis=axis, ax=ax), title_of("influence")),
    ]
    audited = "" if result.evidence.null is None else _audit(Audit(result), figures)
    words = _words(result)
    if words:
        figures.append(_drawn(lambda ax: plot_words(words, ax=[ax]), title_of("words")))
    return _Reading(
        f"{plus_minus(mean)} nats or more",
        f"mean over {len(result)} pairs and {result.mixture.slots.shape[1]} candidates each, log-SNR {low:.2f} to {high:.2f} in "
        f"{len(result.logsnr) - 1} steps, {result.evaluations:,} evaluations",
        result.warnings(),
        _table(((name, *_cells(value)) for name, value in readings.items()), ("reading", "nats", "± stderr", "bits")),
        f"<p>Never above {result.mixture.ceiling:.4f} nats. Settled from log-SNR {result.settled:.2f} on. Estimated below the "
        f"path's noisy end, and not in the bound: {plus_minus(below, 4)} nats.</p>" + _half(over) + audited,
        figures,
        compared,
        result.nats,
        result.stderr,
        result.settings,
    )


def _audit(audit: Audit, figures: list[str]) -> str:
    """How far the null branch is from the mixture, as a paragraph; its curve is added to the figures."""
    figures.append(_drawn(lambda ax: plot_audit(audit, ax=ax), title_of("audit")))
    said = "".join(f"<p>{escape(line)}</p>" for line in str(audit).split("\nwarning: ")[0].splitlines())
    return f'<h2>The null branch</h2><div class="audit">{said}</div>'


def _words(result: Filtered) -> dict[str, Value]:
    """Each word given the others, if all pairs have the same candidates and these differ word by word."""
    try:
        parts = parts_by_place(result.classification.candidates)
        nats = word_information(result.classification, result.truth, parts)
    except ValueError:
        return {}
    words = {place: list(dict.fromkeys(labels)) for place, labels in parts.items()}
    return {
        f"{', '.join(words[place][:3])}{', ...' if len(words[place]) > 3 else ''}": mean_over_pairs(values)
        for place, values in nats.items()
    }


def _maps(compared: Estimate, images: Sequence[NDArray[np.floating]], prompts: Sequence[str]) -> list[str]:
    if not compared.curve.maps:
        return []
    maps = compared.pixel_map("orthogonal")[0][:MOST_MAPS].double().numpy()
    top = max(float(maps.max()), 1e-12)
    made: list[str] = []
    for image, information, prompt in zip(images, maps, prompts, strict=False):
        nats = information.sum()
        image, information = strip(image, information) if image.ndim == 4 else (image, information)
        laid = Image.fromarray((lay_over(np.asarray(image), information, top) * 255).round().astype(np.uint8))
        laid.thumbnail((256, 256))
        made.append(
            f'<figure><img src="{_png(_picture(image))}" alt=""><img src="{_png(laid)}" alt="{title_of("map")}">'
            f"<figcaption>{escape(prompt)}: {nats:.2f} nats</figcaption></figure>"
        )
    return [
        "<h2>Where</h2>",
        f'<p class="quiet">Orthogonal information, from black to bright yellow: 0 to {top:.3f} nats per latent pixel.</p>',
        f'<div class="maps">{"".join(made)}</div>',
    ]


def build_report(
    result: Estimate | Filtered,
    images: Sequence[ImageLike],
    prompts: Sequence[str],
    *,
    convention: Convention | None = None,
    likelihood: LogLikelihood | None = None,
    title: str = "What prompts say",
    words: Words | None = None,
) -> str:
    """The page, as text. It holds its figures and styles, runs no script and loads nothing.

    Args:
        result: measured with ``keep="pixel"``, for maps; an estimate with the trapezoidal rule or Simpson's, for influence.
        images: as `MMGPipeline` takes them, one a pair; videos, if the result is of some, of which a few frames are shown.
        prompts: one a pair; they are escaped.
        convention: of the model, to tell diffusion time by.
        likelihood: log p of the images, if it was measured too.
        title: of the page.
        words: what the words of the same prompts say, from `MMGPipeline.words`: coloured text, and maps over the first pictures.

    Raises:
        ValueError: when images, prompts or words do not fit the measurement, or an image cannot be read.
    """
    if not len(images) == len(prompts) == len(result):
        raise ValueError(
            f"got {len(images)} images and {len(prompts)} prompts for an estimate of {len(result)} pairs; expected one each"
        )
    if likelihood is not None and len(likelihood) != len(result):
        raise ValueError(
            f"got log p of {len(likelihood)} images for an estimate of {len(result)} pairs; expected one each"
        )
    if words is not None and list(words.prompts) != list(prompts):
        raise ValueError("the words are of other prompts than the measurement; read the words of the same pairs")
    read = _of_filter(result, convention) if isinstance(result, Filtered) else _of_estimate(result, convention)
    look = read_video if "frames" in read.settings else read_picture
    shown = [look(image, k).pixels.movedim(-3, -1).numpy() for k, image in enumerate(images[:MOST_ROWS])]
    gap, orthogonal = (read.compared.using(form).nats.tolist() for form in ("gap", "orthogonal"))
    rows = (
        (
            _Thumb(image if image.ndim == 3 else image[len(image) // 2]),
            prompts[k],
            f"{float(read.nats[k]):.3f}{_error(read.stderr[k])}",
            f"{gap[k]:.3f}",
            f"{orthogonal[k]:.3f}",
            *([] if likelihood is None else [f"{float(likelihood.nats[k]):.1f}{_error(likelihood.stderr[k], 1)}"]),
        )
        for k, image in enumerate(shown)
    )
    head = ("image", "prompt", "nats", "gap", "orthogonal", *([] if likelihood is None else ["log p"]))
    left_out = f"<p>{len(result) - MOST_ROWS} more pairs are in the record.</p>" if len(result) > MOST_ROWS else ""
    settings = {**read.settings, **{f"{name} version": v for name, v in result.versions.items()}}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {_COLOURS[result.verdict.grade]}">{escape(str(result.verdict).capitalize())}</p>',
        f'<p class="number">{read.headline}</p>',
        f'<p class="quiet">{escape(read.about)}</p>',
        *(f'<p class="warn">{escape(text)}</p>' for text in read.warnings),
        read.table,
        read.remarks,
        "<h2>Curves</h2>",
        f'<div class="figures">{"".join(read.figures)}</div>',
        *_maps(read.compared, shown, prompts),
        *([] if likelihood is None else _likely(likelihood)),
        *([] if words is None else ["<h2>Words</h2>", word_section(words, shown)]),
        "<h2>Pairs</h2>",
        _table(rows, head, text=(0, 1)) + left_out,
        "<h2>Settings</h2>",
        _table(((name, shorten(str(value), LONGEST)) for name, value in settings.items()), text=(0, 1)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _error(stderr: Tensor, digits: int = 3) -> str:
    return f" ± {float(stderr):.{digits}f}" if bool(stderr.isfinite()) else ""


def _likely(found: LogLikelihood) -> list[str]:
    """How likely the images are, in a line, and what has to be known of it."""
    mean, low, high = found.mean(), *found.logsnr_range
    given = "log p(image | prompt)" if found.settings.get("conditional") else "log p(image)"
    return [
        "<h2>How likely</h2>",
        f"<p>{given} = {plus_minus(mean, 2)} nats in the mean: the density of the {escape(found.variable)}, {found.dimensions} "
        f"dimensions ({float(found.bits_per_dim().mean()):.3f} bits a dimension), at resolution {found.ends.resolution:.3g} (log-SNR "
        f'{low:.2f} to {high:.2f}, {found.evaluations:,} evaluations). <span class="quiet">A density has units and may exceed 1; the nats '
        "above are differences of two, which is what can be compared.</span></p>",
        *(f'<p class="warn">{escape(text)}</p>' for text in found.warnings()),
    ]
