"""What a page says of a measurement, whatever its marginal; every number with the name of what it was read by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from torch import Tensor

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import Influence, influence
from mmg_diffusers.analysis.words import parts_by_place, word_information
from mmg_diffusers.commands.figures import plot_audit, plot_curves, plot_influence, plot_mmse, plot_words
from mmg_diffusers.commands.page.drawn import Figures
from mmg_diffusers.commands.page.html import number, table
from mmg_diffusers.commands.texts import AXIS_NAMES, CERTIFICATE, PER_LOGSNR, STILL_TO_COME, plus_minus, title_of
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import OF_PRETRAINED, Form, form_of
from mmg_diffusers.measure.value import Value, mean_over_pairs


@dataclass(frozen=True)
class PageReading:
    """What a page says of a measurement.

    Args:
        form: what `nats` are read by, which the curve of influence is too.
        mean: the headline.
        headline, about, warnings: its words.
        summary: the table and the remarks below it.
        figures: of the curves.
        compared: what maps are read off.
        mapped: the form of maps; ``form``, if that can be told apart by pixels.
        nats, stderr: `(N,)` of the pairs.
        over: what is still to come at each level.
        settings: of the record.
    """

    form: str
    mean: Value
    headline: str
    about: str
    warnings: Sequence[str]
    summary: str
    figures: Sequence[str]
    compared: Estimate
    mapped: Form
    nats: Tensor
    stderr: Tensor
    over: Influence
    settings: Mapping[str, Any]

    @property
    def maps_add_up(self) -> bool:
        """Whether the map of a pair adds up to its nats."""
        return self.form == self.mapped


def _in_two(name: str, value: Value) -> list[Any]:
    bits = value.bits().value
    return [
        name,
        number(value.value, f"{value.value:.4f}"),
        number(value.stderr, f"{value.stderr:.4f}"),
        number(bits, f"{bits:.4f}"),
    ]


def _half(curve: Influence) -> str:
    if not curve.arrives:
        return ""
    sentence = f"Half of it has arrived at log-SNR {plus_minus(curve.half(), 2)}"
    if curve.convention is not None:
        sentence += f", {AXIS_NAMES['tau']} = {plus_minus(curve.half('tau'))}"
    return f"<p>{sentence}.</p>"


def _by_level(estimate: Estimate) -> str:
    """The curves of both forms in numbers."""
    curve = estimate.curve
    levels = curve.by_level(curve.logsnr).mean(0).tolist()
    forms = [(curve.by_level(getattr(curve, name)) / 2).mean(0).tolist() for name in ("gap", "orthogonal")]
    rows = (
        (f"{level:.2f}", f"{gap:.4f}", f"{orthogonal:.4f}")
        for level, gap, orthogonal in zip(levels, *forms, strict=True)
    )
    return table(rows, ("log-SNR", "gap", "orthogonal"), f"Mean over pairs, {PER_LOGSNR}")


def _still(over: Influence) -> str:
    """What is still to come, in numbers."""
    mean, stderr = (values.tolist() for values in over.mean())
    rows = ((f"{level:.2f}", f"{value:.4f}", f"{error:.4f}") for level, value, error in zip(over.logsnr.tolist(), mean, stderr, strict=True))  # fmt: skip
    return table(rows, ("log-SNR", "nats", "± stderr"), f"Mean over pairs, {STILL_TO_COME}")


def _influence(draw: Figures, name: str, over: Influence) -> str:
    axis = "logsnr" if over.convention is None else "tau"
    return draw(lambda ax: plot_influence({name: over}, axis=axis, ax=ax), title_of("influence"), _still(over))


def of_estimate(estimate: Estimate, convention: Convention | None, draw: Figures) -> PageReading:
    """Of pairs against the null prompt."""
    low, high = estimate.logsnr_range
    mean, certificate, edge = estimate.mean(), estimate.certificate, estimate.boundary
    over, form = influence(estimate, convention), str(estimate.integrand)
    forms = table(
        (_in_two(name, estimate.using(name).mean()) for name in OF_PRETRAINED),
        ("form", "nats", "± stderr", "bits"),
        "Mean over pairs, by each form",
    )
    return PageReading(
        form,
        mean,
        f"{plus_minus(mean)} nats",
        f"mean over {len(estimate)} pairs, {form} form, log-SNR {low:.2f} to {high:.2f}, {estimate.evaluations:,} evaluations",
        estimate.verdict.told,
        forms
        + f"<p>Certificate ({CERTIFICATE}): {plus_minus(certificate, 4)} nats. "
        + f"Estimated beyond the range: {edge.low.value:.4f} below, {edge.high.value:.4f} above.</p>"
        + _half(over),
        (
            draw(lambda ax: plot_mmse(estimate, ax=ax), title_of("mmse")),
            draw(lambda ax: plot_curves(estimate, ax=ax), title_of("curves"), _by_level(estimate)),
            _influence(draw, form, over),
        ),
        estimate,
        form_of(estimate.integrand),
        estimate.nats,
        estimate.stderr,
        over,
        estimate.settings,
    )


def of_filter(result: Filtered, convention: Convention | None, draw: Figures) -> PageReading:
    """Of pairs against candidates."""
    mean, compared, below = result.mean(), result.against_mixture, result.below
    over = result.influence(convention)
    entropy = result.entropy_by_level[:, -1]
    readings = {
        "log q, a bound": mean,
        "log q of each pair as it is": mean_over_pairs(result.nats),
        "entropy of q": mean_over_pairs(entropy),
        "gap to the mixture": compared.using("gap").mean(),
        "orthogonal to it": compared.using("orthogonal").mean(),
    }
    low, high = float(result.logsnr[0]), float(result.logsnr[-1])
    figures = [
        draw(lambda ax: plot_curves(compared, ax=ax), title_of("mixture"), _by_level(compared)),
        _influence(draw, "log q of each pair as it is", over),
    ]
    audited = "" if result.evidence.null is None else _audit(Audit(result), figures, draw)
    words = _words(result)
    if words:
        figures.append(draw(lambda ax: plot_words(words, ax=[ax]), title_of("words"), _told(words)))
    return PageReading(
        "log q",
        mean,
        f"{plus_minus(mean)} nats or more",
        f"mean over {len(result)} pairs and {result.mixture.slots.shape[1]} candidates each, log-SNR {low:.2f} to {high:.2f} in "
        f"{len(result.logsnr) - 1} steps, {result.evaluations:,} evaluations",
        result.verdict.told,
        table(
            (_in_two(name, value) for name, value in readings.items()),
            ("reading", "nats", "± stderr", "bits"),
            "Mean over pairs, by each reading; the first believes evidence as far as other pairs say",
        )
        + f"<p>Never above {result.mixture.ceiling:.4f} nats. Settled from log-SNR {result.settled:.2f} on. Estimated below the "
        + f"path's noisy end, and not in the bound: {plus_minus(below, 4)} nats.</p>"
        + _half(over)
        + audited,
        figures,
        compared,
        "gap",
        result.nats,
        result.stderr,
        over,
        result.settings,
    )


def _audit(audit: Audit, figures: list[str], draw: Figures) -> str:
    """How far the null branch is from the mixture, as a paragraph; its curve is added to the figures."""
    figures.append(draw(lambda ax: plot_audit(audit, ax=ax), title_of("audit")))
    said = "".join(f"<p>{escape(line)}</p>" for line in audit.lines())
    return f'<h2>The null branch</h2><div class="audit">{said}</div>'


def _told(words: Mapping[str, Value]) -> str:
    rows = ((name, f"{value.value:.4f}", f"{value.stderr:.4f}") for name, value in words.items())
    return table(rows, ("word", "nats", "± stderr"), "Mean over pairs, each given the others")


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
