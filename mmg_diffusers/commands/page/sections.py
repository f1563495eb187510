"""The parts of a page below its curves: where, noise levels, words, two captions, other models, the pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.preference import Preference
from mmg_diffusers.commands.figures import plot_influence, strip
from mmg_diffusers.commands.page.drawn import Figures
from mmg_diffusers.commands.page.html import Cell, number, picture_of, source_of, table, warned
from mmg_diffusers.commands.page.readings import PageReading
from mmg_diffusers.commands.page.views import stack
from mmg_diffusers.commands.texts import plus_minus, title_of
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.influence import Influence
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.value import mean_over_pairs

# Pairs with maps, pairs in the table, and noise levels of the slider: a page should open on a phone.
MOST_MAPS, MOST_ROWS, BANDS = 12, 200, 7
_NOISY = 64
# Maps are drawn up to this quantile of their sizes, so that one bright pixel does not fade all others.
_TOP = 0.995

Pixels = NDArray[np.floating]


@dataclass(frozen=True)
class Chosen:
    """The pairs that a page shows in full: all of them, or those that tell most, least, and about the median.

    Args:
        groups: places of pairs, by what they have in common.
    """

    groups: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, nats: torch.Tensor, most: int = MOST_MAPS) -> Chosen:
        """Those of pairs with these nats `(N,)`."""
        order = nats.argsort(descending=True, stable=True).tolist()
        each = max(1, min(most, len(order)) // 3)
        if len(order) < 3:
            return cls({"All pairs": order})
        rest = order[each:-each]
        start = max(0, (len(rest) - each) // 2) if len(order) > most else 0
        between = rest[start : start + each] if len(order) > most else rest
        name = "In the middle" if len(order) > most else "Between"
        return cls({"Tell most": order[:each], name: between, "Tell least": order[-each:]})

    @property
    def places(self) -> list[int]:
        """All of them, by falling nats."""
        return [place for group in self.groups.values() for place in group]


def still(picture: Pixels) -> Pixels:
    """A picture as it is; of a video its middle frame."""
    return picture if picture.ndim == 3 else picture[len(picture) // 2]


def _top(maps: Sequence[Pixels]) -> float:
    return max(float(np.quantile(np.abs(np.stack(maps)), _TOP)), 1e-12)


def _bands(reading: PageReading, places: Sequence[int]) -> tuple[list[tuple[float, float]], list[Pixels]]:
    """Bands of log-SNR, and the maps of the chosen pairs in each, `(P, *pixels)`; none if maps were not kept by level."""
    grid = reading.compared.curve.grid()
    if (
        f"{reading.mapped}_levels" not in reading.compared.curve.maps
        and "gap_levels" not in reading.compared.curve.maps
    ):
        return [], []
    if grid is None or len(grid[0]) < 3:
        return [], []
    low, high = reading.compared.logsnr_range
    edges = np.linspace(low, high, min(BANDS, len(grid[0]) - 1) + 1).tolist()
    bands = list(pairwise(edges))
    try:
        maps = [reading.compared.pixel_map(reading.mapped, band)[0][list(places)].numpy() for band in bands]
    except ValueError:  # another quadrature than the one that bands can be read off
        return [], []
    return bands, maps


def _noisy(picture: Pixels, bands: Sequence[tuple[float, float]], over: Influence) -> str:
    """One picture at the middle of each band."""
    small = np.asarray(picture_of(still(picture), _NOISY), dtype=float) / 255
    x = 2 * torch.from_numpy(small).movedim(2, 0)[None] - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made: list[str] = []
    for low, high in bands:
        level = torch.tensor([(low + high) / 2], dtype=torch.float64)
        noisy = ((add_noise(x, level, noise)[0] + 1) / 2).clamp(0, 1).movedim(0, 2).numpy()
        told = f"log-SNR\u00a0{float(level):.1f}"
        if over.convention is not None:
            told += f", τ\u00a0{float(over.convention.tau(level)[0]):.2f}"
        made.append(
            f'<figure><img src="{source_of(picture_of(noisy))}" alt="The picture at {told}"><figcaption>{told}</figcaption></figure>'
        )
    return (
        '<p class="quiet">From noise to image: the first of the pictures below at the middle of each band, with the noise in its pixels, '
        f'to be seen; the network\'s is in its own variable.</p><div class="axis">{"".join(made)}</div>'
    )


def _slider(bands: Sequence[tuple[float, float]], tops: Sequence[float]) -> str:
    """Hidden until the script shows it: without one the maps are of all levels."""
    told = ["All noise levels", *(f"log-SNR {low:.2f} to {high:.2f}" for low, high in bands)]
    said = [f"{name}; strongest colour {top:.3f} nats a latent pixel" for name, top in zip(told, tops, strict=True)]
    return (
        f'<div class="slider" hidden data-bands=\'{escape(json.dumps(said), quote=True)}\'><label for="level">Noise levels of the maps</label>'
        f'<input id="level" type="range" min="0" max="{len(bands)}" value="0" step="1" aria-valuetext="{escape(said[0])}">'
        f'<output for="level">{escape(said[0])}</output></div>'
    )


def _how_read(reading: PageReading) -> str:
    if reading.maps_add_up:
        return f"{reading.mapped} form, as in the table: each map adds up to its pair's nats"
    return f"{reading.mapped} form, which adds up to its own column of the table; {reading.form} itself has no pixels"


def where(reading: PageReading, images: Mapping[int, Pixels], prompts: Sequence[str], chosen: Chosen) -> str:
    """Maps over the chosen pictures, those that tell most first, with a slider over noise levels; nothing without maps."""
    if not reading.compared.curve.maps:
        return ""
    places = chosen.places
    whole = reading.compared.pixel_map(reading.mapped)[0][places].double().numpy()
    bands, parts = _bands(reading, places)
    tops = [_top([whole]), *[_top(parts)] * len(parts)] if parts else [_top([whole])]
    made: dict[int, str] = {}
    for at, place in enumerate(places):
        maps = [whole[at], *(part[at] for part in parts)]
        picture = images[place]
        sums = [f"{float(values.sum()):.3f}" for values in maps]
        flat = [strip(picture, values)[1] if picture.ndim == 4 else values for values in maps]
        shown = strip(picture, whole[at])[0] if picture.ndim == 4 else picture
        nats = f"{reading.form}: {float(reading.nats[place]):.3f} nats" if not reading.maps_add_up else ""
        told = f"{escape(reading.mapped)}: <b data-nats='{escape(json.dumps(sums), quote=True)}'>{sums[0]}</b> nats"
        made[place] = (
            f'<figure class="view" data-pair="{int(reading.compared.pair_ids[place])}">'
            f"{stack(shown, flat, tops, prompts[place], f'Map of what this says about the picture: {prompts[place]}')}"
            f"<figcaption>{escape(prompts[place])}<br>{told}{f'<br>{escape(nats)}' if nats else ''}<br>{_arrived(reading.over, place)}"
            "</figcaption></figure>"
        )
    groups = "".join(
        f'<h3>{escape(name)}</h3><div class="views">{"".join(made[place] for place in group)}</div>'
        for name, group in chosen.groups.items()
        if group
    )
    slider = _noisy(images[places[0]], bands, reading.over) + _slider(bands, tops) if bands else ""
    return (
        f'<section class="where"><h2>Where, and at which noise level</h2><p class="quiet">{title_of("map")}, {escape(_how_read(reading))}. '
        f"Orange tells, blue misinforms, clear says nothing; one scale for all pictures, up to {tops[0]:.3f} nats a latent pixel in the "
        f"strongest colour.</p>{slider}{groups}</section>"
    )


def _arrived(over: Influence, place: int) -> str:
    one = over[slice(place, place + 1)]
    return f"half of it by log-SNR {one.half().value:.2f}" if one.arrives else "no half level"


def pairs_table(
    reading: PageReading,
    images: Mapping[int, Pixels],
    prompts: Sequence[str],
    likelihood: LogLikelihood | None,
    comparison: Preference | None,
    others: Mapping[str, Estimate | Filtered],
) -> str:
    """A row a pair, which the script sorts by any column."""
    columns: dict[str, tuple[list[float], list[float], int]] = {
        f"nats ({reading.form})": (reading.nats.tolist(), reading.stderr.tolist(), 3)
    }
    nan = [float("nan")] * len(prompts)
    for form in ("gap", "orthogonal"):
        if form != reading.form:
            columns[form] = (reading.compared.using(form).nats.tolist(), nan, 3)
    if likelihood is not None:
        columns["log p"] = (likelihood.nats.tolist(), likelihood.stderr.tolist(), 1)
    if comparison is not None:
        columns["a over b"] = (comparison.nats.tolist(), comparison.stderr.tolist(), 3)
    for name, other in others.items():
        columns[f"nats, {name}"] = (other.nats.tolist(), other.stderr.tolist(), 3)
    rows = (
        [
            Cell(picture=still(images[k])),
            Cell(prompts[k]),
            *(
                number(nats[k], f"{nats[k]:.{digits}f}{_error(errors[k], digits)}")
                for nats, errors, digits in columns.values()
            ),
        ]
        for k in range(min(len(prompts), MOST_ROWS))
    )
    left = f"<p>{len(prompts) - MOST_ROWS} more pairs are in the record.</p>" if len(prompts) > MOST_ROWS else ""
    caption = "Every pair; choose a column's name to sort by it" if len(prompts) > 1 else "The pair"
    return f"<h2>Pairs</h2>{table(rows, ('image', 'prompt', *columns), caption, text=(1,), sortable=True)}{left}"


def _error(stderr: float, digits: int = 3) -> str:
    return f" ± {stderr:.{digits}f}" if np.isfinite(stderr) else ""


def likely(found: LogLikelihood) -> str:
    """How likely the images are, in a line, and what has to be known of it."""
    mean, low, high = found.mean(), *found.logsnr_range
    given = "log p(image | prompt)" if found.settings.get("conditional") else "log p(image)"
    return (
        f"<h2>How likely</h2><p>{given} = {plus_minus(mean, 2)} nats in the mean: the density of the {escape(found.variable)}, "
        f"{found.dimensions} dimensions ({float(found.bits_per_dim().mean()):.3f} bits a dimension), at resolution "
        f"{found.ends.resolution:.3g} (log-SNR {low:.2f} to {high:.2f}, {found.evaluations:,} evaluations). "
        '<span class="quiet">A density has units and may exceed 1; the nats above are differences of two, which is what can be '
        f"compared.</span></p>{warned(found.verdict.told)}"
    )


def two_captions(found: Preference, images: Mapping[int, Pixels], chosen: Chosen) -> str:
    """Which of two captions fits better, and where."""
    share, mean = found.share(), found.mean()
    said = (
        f'<h2>Which of two captions fits better</h2><p>Caption a over caption b: <b id="over" data-number="{mean.value}">'
        f"{plus_minus(mean)}</b> nats in the mean over {len(found)} pairs; a fits better in {100 * share.value:.0f} % of them. "
        f"{escape(str(found.verdict).capitalize())}.</p>{warned(found.verdict.told)}"
    )
    if found.maps is None:
        return said
    places = chosen.places
    maps = found.pixel_map()[0][places].double().numpy()
    top = _top([maps])
    made: list[str] = []
    for values, place in zip(maps, places, strict=True):
        picture = images[place]
        shown, flat = strip(picture, values) if picture.ndim == 4 else (picture, values)
        about = f"Map of a over b; a: {found.a[place]}; b: {found.b[place]}"
        made.append(
            f'<figure class="view">{stack(shown, [flat], [top], found.a[place], about)}<figcaption>a: {escape(found.a[place])}<br>'
            f"b: {escape(found.b[place])}<br><b>{float(found.nats[place]):.3f}</b>{_error(float(found.stderr[place]))} nats"
            "</figcaption></figure>"
        )
    return (
        f'{said}<p class="quiet">Orange speaks for a, blue for b; up to {top:.3f} nats a pixel in the strongest colour. Each map adds up to '
        f'its pair\'s nats.</p><div class="views">{"".join(made)}</div>'
    )


def other_models(name: str, reading: PageReading, others: Mapping[str, Estimate | Filtered], draw: Figures) -> str:
    """The same pairs as other models read them: means, differences pair by pair, and where along the noise they speak."""
    rows = [(name, plus_minus(reading.mean), plus_minus(mean_over_pairs(reading.nats)))]
    rows += [
        (other, plus_minus(found.mean()), plus_minus(mean_over_pairs(found.nats))) for other, found in others.items()
    ]
    apart = "".join(
        f"<p>Pair by pair, {escape(name)} less {escape(other)}: {plus_minus(mean_over_pairs(reading.nats - found.nats))} nats.</p>"
        for other, found in others.items()
    )
    curves = {name: reading.over} | {other: found.influence() for other, found in others.items()}
    figure = draw(lambda ax: plot_influence(curves, ax=ax), f"{title_of('influence')}, by model")
    known = "".join(warned((f"{other}: {found.verdict}",)) for other, found in others.items())
    return (
        f"<h2>Two models</h2>{table(rows, ('model', 'nats', 'pair by pair'), 'Mean over the same pairs')}{apart}{known}"
        f'<p class="quiet">Noise levels are log-SNR of each model\'s own variable.</p><div class="figures">{figure}</div>'
    )
