"""Numbers beside what they should be: pairs, words, switches, tasks, ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.influence import Axis, Influence
from mmg_diffusers.commands.figures.base import COLOURS, GREY, colour_of, new_axes, set_noise_axis, subplots
from mmg_diffusers.commands.texts import AXIS_NAMES, GIVEN_THE_REST
from mmg_diffusers.measure.value import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_pointwise(measured: Tensor, exact: Tensor, *, ax: Axes | None = None, title: str = "") -> Figure:
    """Measured against exact pointwise information, `(N,)` nats each."""
    figure, axes = new_axes(ax)
    low = float(min(measured.min(), exact.min())) - 0.2
    high = float(max(measured.max(), exact.max())) + 0.2
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
    axes.scatter(exact.numpy(), measured.numpy(), s=8, alpha=0.5, color=COLOURS["gap"], linewidth=0)
    axes.set(
        xlabel="exact i(x; y) in nats",
        ylabel="measured i(x; y) in nats",
        title=title,
        xlim=(low, high),
        ylim=(low, high),
    )
    axes.set_aspect("equal")
    return figure


def plot_words(
    words: Mapping[str, Value],
    shared: Mapping[str, Mapping[str, Value]] | None = None,
    *,
    exact: Mapping[str, float] | None = None,
    ax: Sequence[Axes] | None = None,
    title: str = "",
) -> Figure:
    """Information of words as bars, with lines of two standard errors, and below it what two words share.

    Of redundancy and synergy the difference is drawn, the interaction, which is 0 for words that have nothing to do with each other:
    by the definition of a pointwise minimum these are redundant and synergistic in equal measure.

    Args:
        words: by name, such as "colour" or "colour and shape", given the rest of the prompt.
        shared: for every two words, parts by name, the "interaction" among them.
        exact: true values, marked, by the names of `words`.
        ax: axes to draw into, a second one if there is `shared`; a new figure by default.
        title: above the axes.
    """
    rows = [len(words), *([len(shared)] if shared else [])]
    if ax is None:
        height = 0.32 * sum(rows) + 0.7 * len(rows) + 0.7
        figure, made = subplots(len(rows), 1, figsize=(6, height), squeeze=False, height_ratios=rows)
        axes: Sequence[Axes] = list(made[:, 0])
    else:
        axes = ax
        figure, _ = new_axes(axes[0])
    place = np.arange(len(words))[::-1]
    values = np.array([(value.value, value.stderr) for value in words.values()])
    axes[0].barh(place, values[:, 0], xerr=2 * np.nan_to_num(values[:, 1]), height=0.6, color=COLOURS["gap"], alpha=0.8)
    known = (
        [(row, exact[name]) for row, name in zip(place, words, strict=True) if name in (exact or {})] if exact else []
    )
    if known:
        axes[0].plot([v for _, v in known], [row for row, _ in known], "k|", markersize=14, label="exact")
        axes[0].legend(frameon=False)
    axes[0].set_yticks(place, list(words), fontsize="small")
    axes[0].axvline(0, color=GREY, linewidth=0.8)
    axes[0].set(xlabel=GIVEN_THE_REST, title=title)
    if shared:
        place = np.arange(len(shared))[::-1]
        values = np.array([(parts["interaction"].value, parts["interaction"].stderr) for parts in shared.values()])
        error = 2 * np.nan_to_num(values[:, 1])
        axes[1].barh(place, values[:, 0], xerr=error, height=0.6, color=colour_of("interaction", 0), alpha=0.8)
        axes[1].set_yticks(place, list(shared), fontsize="small")
        axes[1].axvline(0, color=GREY, linewidth=0.8)
        axes[1].set(xlabel="interaction of two words, nats\n(above 0 they tell the same, below 0 more together)")
    return figure


def plot_switching(
    at: NDArray[np.float64],
    share: NDArray[np.float64],
    stderr: NDArray[np.float64],
    influence: Influence,
    images: NDArray[np.floating],
    *,
    axis: Axis = "tau",
    halves: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Which prompt pictures follow when it is switched at each level, beside the information that has arrived by then.

    Args:
        at: `(S,)` the switches, on the axis.
        share, stderr: `(S,)` posterior of the first prompt, and its standard error, at each of them.
        influence: of the prompts.
        images: a few pictures of each, `(S, n, H, W, 3)` in [0, 1].
        axis: of the noise levels.
        halves: where the first prompt begins to win half of the time, and where half of the information has arrived, marked.
        title: above the curves.

    Raises:
        ValueError: as `Influence.on` does.
    """
    count, few = images.shape[:2]
    figure, (top, bottom) = subplots(2, 1, figsize=(8, 4.2 + 0.5 * few), height_ratios=[4, max(1.0, few)])
    marks = top.errorbar(
        at, share, yerr=2 * stderr, marker="o", color=colour_of("", 0), label="share that follows the first prompt"
    )
    arrived, error = (value.numpy() for value in influence.arrived())
    levels = influence.on(axis).numpy()
    (line,) = top.plot(levels, arrived, color=colour_of("", 1), label="share of the information that has arrived")
    top.fill_between(levels, arrived - 2 * error, arrived + 2 * error, color=line.get_color(), alpha=0.2, linewidth=0)
    for value, colour in zip(halves or (), (marks.lines[0].get_color(), line.get_color()), strict=False):
        top.axvline(value, color=colour, linewidth=0.8, linestyle="--", label=f"half of it: {value:.2f}")
    top.axhline(0.5, color=GREY, linewidth=0.8)
    top.set(ylabel="share", title=title, ylim=(-0.05, 1.05))
    set_noise_axis(top, axis, "the switch")
    top.legend(frameon=False)
    order = np.argsort(at) if axis == "logsnr" else np.argsort(at)[::-1]  # from noise to image, as above
    width = images.shape[3]
    bottom.imshow(np.concatenate([np.concatenate(list(images[k]), 0) for k in order], 1))
    bottom.set_xticks((np.arange(count) + 0.5) * width, [f"{at[k]:.2f}" for k in order], fontsize="small")
    bottom.set(yticks=[], xlabel=f"pictures, by the {AXIS_NAMES[axis]} of the switch")
    bottom.spines[:].set_visible(False)
    return figure


def plot_errors(names: Sequence[str], error: Sequence[float], spread: Sequence[float], *, title: str = "") -> Figure:
    """Estimate less truth of many tasks, one a row, with bars of two standard deviations.

    Args:
        names: of the tasks, from the top.
        error: in nats.
        spread: standard deviation over seeds; NaN draws no bar.
        title: above the axes.
    """
    figure, ax = subplots(figsize=(7, 0.22 * len(names) + 1.2))
    place = np.arange(len(names))[::-1]
    for width, shade in ((0.1, "0.94"), (0.05, "0.88")):
        ax.axvspan(-width, width, color=shade)
    ax.axvline(0, color=GREY, linewidth=0.8)
    bars = 2 * np.nan_to_num(spread)
    ax.errorbar(error, place, xerr=bars, fmt="o", markersize=3, color=COLOURS["gap"], linewidth=1)
    ax.set_yticks(place, list(names), fontsize="x-small")
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel="estimate - truth, nats\n(bars: 2 sd over seeds; grey: within 0.05 and 0.1)", title=title)
    ax.margins(y=0.01)
    return figure


def plot_ratios(
    ratios: Mapping[str, tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]],
    targets: Mapping[str, tuple[float, float]],
    *,
    title: str = "",
) -> Figure:
    """Ratios along the rows that are seen, a panel each, with bars of two standard errors.

    Args:
        ratios: rows, value and standard error by name.
        targets: what each should be, and by how much it may miss that.
        title: above the panels.
    """
    figure, panels = subplots(1, len(ratios), figsize=(3.2 * len(ratios), 3), squeeze=False)
    for ax, (name, (rows, value, error)) in zip(panels[0], ratios.items(), strict=True):
        target, tolerance = targets[name]
        ax.axhspan(target - tolerance, target + tolerance, color="0.9")
        ax.axhline(target, color=GREY, linewidth=0.8)
        ax.errorbar(rows, value, yerr=2 * error, marker="o", color=COLOURS["gap"])
        ax.set(xlabel="rows seen", title=name, xticks=list(rows))
    figure.suptitle(title)
    return figure
