"""Curves along noise levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.influence import Axis, Influence
from mmg_diffusers.analysis.typicality import over_reference
from mmg_diffusers.commands.figures.base import COLOURS, GREY, INK, QUIET, colour_of, new_axes, set_noise_axis, subplots
from mmg_diffusers.commands.texts import PER_LOGSNR, STILL_TO_COME, plus_minus
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.value import mean_over_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(estimate: Estimate, *, ax: Axes | None = None, title: str = "") -> Figure:
    """The integrand along log-SNR, gap and orthogonal, averaged over pairs with bands of two standard errors.

    Args:
        estimate: measured on levels that all pairs share, or with stratified ones.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
    """
    figure, axes = new_axes(ax)
    curve = estimate.curve
    levels = curve.by_level(curve.logsnr).mean(0).numpy()
    for name in ("orthogonal", "gap"):
        values = curve.by_level(getattr(curve, name)).numpy() / 2
        mean = values.mean(0)
        band = 2 * values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros_like(mean)
        form = estimate.using(name).mean()
        axes.plot(levels, mean, color=COLOURS[name], label=f"{name}: {plus_minus(form, 2)} nats")
        axes.fill_between(levels, mean - band, mean + band, color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(ylabel=PER_LOGSNR, title=title)
    set_noise_axis(axes)
    axes.legend(frameon=False, title="area, with bands of ±2 standard errors", title_fontsize="small")
    return figure


def plot_audit(audit: Audit, *, ax: Axes | None = None, title: str = "") -> Figure:
    """Along log-SNR: what separates the null branch from the mixture of candidates, beside what the true one tells against it.

    Args:
        audit: of two levels or more.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
    """
    figure, axes = new_axes(ax)
    levels, (distance, error) = audit.logsnr.numpy(), audit.by_level
    mean, band = distance.numpy(), 2 * error.nan_to_num(0.0).numpy()
    compared = (audit.filtered.compared.orthogonal.mean((0, 1)) / 2).numpy()
    axes.plot(levels, compared, color=COLOURS["orthogonal"], label="true candidate from the mixture")
    axes.plot(levels, mean, color=INK, label=f"null from it: {plus_minus(audit.distance, 2)} nats")
    axes.fill_between(levels, mean - band, mean + band, color=INK, alpha=0.2, linewidth=0)
    axes.set(xlabel="log-SNR", ylabel=PER_LOGSNR, title=title)
    axes.legend(frameon=False)
    return figure


def plot_mmse(estimate: Estimate | LogLikelihood, *, ax: Axes | None = None, title: str = "") -> Figure:
    """What the condition takes off the denoising error along log-SNR, whose area is the information (gap form); behind it both errors.

    Of a log-likelihood, what the network takes off the error of its Gaussian reference: the area is what it knows beyond that.
    Half of the difference of the errors is drawn with a band of two standard errors over pairs, since the errors themselves
    lie on each other wherever the condition says little; these are on a scale of their own, at the right.

    Args:
        estimate: measured on levels that all pairs share, or with stratified ones.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
    """
    figure, axes = new_axes(ax)
    curve = estimate.curve
    levels, given, alone = (
        curve.by_level(values).mean(0).numpy() for values in (curve.logsnr, curve.error, curve.error + curve.gap)
    )
    gap = curve.by_level(curve.gap).numpy() / 2
    mean = gap.mean(0)
    band = 2 * gap.std(0, ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.zeros_like(mean)
    behind = axes.twinx()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    if isinstance(estimate, LogLikelihood):
        first, second, area = (
            "error of the Gaussian (right)",
            "of the network (right)",
            mean_over_pairs(over_reference(estimate)),
        )
    else:
        first, second, area = (
            "error without the condition (right)",
            "error with it (right)",
            estimate.using("gap").mean(),
        )
    behind.plot(levels, alone, color=QUIET, linewidth=1, linestyle="--", label=first)
    behind.plot(levels, given, color=QUIET, linewidth=1, linestyle=":", label=second)
    behind.set(ylabel="E |eps - prediction|², log scale", yscale="log")
    axes.plot(levels, mean, color=COLOURS["gap"], label="half of their difference, ±2 standard errors")
    axes.fill_between(levels, mean - band, mean + band, color=COLOURS["gap"], alpha=0.35, linewidth=0)
    axes.fill_between(
        levels, 0, mean, color=COLOURS["gap"], alpha=0.15, linewidth=0, label=f"area: {plus_minus(area, 2)} nats"
    )
    axes.axhline(0, color=GREY, linewidth=0.8)
    # Room for the legend.
    low, high = axes.get_ylim()
    axes.set(ylabel=PER_LOGSNR, title=title, ylim=(low, high + 0.45 * (high - low)))
    set_noise_axis(axes)
    lines, names = (
        mine + theirs for mine, theirs in zip(*(a.get_legend_handles_labels() for a in (axes, behind)), strict=True)
    )
    axes.legend(lines, names, frameon=False, fontsize="small", loc="upper left")
    return figure


def plot_levels(pictures: Mapping[float, NDArray[np.floating]], estimate: Estimate, *, title: str = "") -> Figure:
    """One image at several noise levels, above what its condition tells at each of them (gap, with its band).

    Args:
        pictures: `(H, W, 3)` in [0, 1], by log-SNR.
        estimate: whose levels span those of the pictures.
        title: above the pictures.
    """
    figure, (top, bottom) = subplots(2, 1, figsize=(9, 4.2), height_ratios=[1, 2])
    low, high = estimate.logsnr_range
    levels = sorted(pictures)
    half = 0.45 * min(np.diff(levels)) if len(levels) > 1 else 0.5
    for level in levels:
        top.imshow(pictures[level], extent=(level - half, level + half, 0, 1), aspect="auto", interpolation="nearest")
    top.set(xlim=(low - half, high + half), ylim=(0, 1), yticks=[], title=title)
    top.set_xticks(levels, [f"{level:g}" for level in levels])
    top.spines[:].set_visible(False)
    plot_curves(estimate, ax=bottom)
    bottom.set_xlim(low - half, high + half)
    return figure


def plot_influence(
    influences: Mapping[str, Influence],
    *,
    axis: Axis = "logsnr",
    ax: Axes | None = None,
    title: str = "",
    ceiling: float | None = None,
) -> Figure:
    """What conditions still add at each noise level, averaged over pairs, with bands of two standard errors.

    Args:
        influences: by label, drawn into one figure; prompts, words or models.
        axis: of the noise levels; models whose levels differ meet on ``"tau"``.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
        ceiling: a value to mark, such as the exact information, in nats.

    Raises:
        ValueError: as `Influence.on` does.
    """
    figure, axes = new_axes(ax)
    for place, (name, influence) in enumerate(influences.items()):
        mean, stderr = (value.numpy() for value in influence.mean())
        levels, colour = influence.on(axis).numpy(), colour_of(name, place)
        axes.plot(levels, mean, color=colour, label=f"{name}: {plus_minus((mean[0], stderr[0]), 2)} nats")
        axes.fill_between(levels, mean - 2 * stderr, mean + 2 * stderr, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    if ceiling is not None:
        axes.axhline(ceiling, color=GREY, linewidth=0.8, linestyle="--", label=f"exact: {ceiling:.2f} nats")
    axes.set(ylabel=STILL_TO_COME, title=title)
    set_noise_axis(axes, axis)
    for label in axes.legend(frameon=False).get_texts():
        label.set_parse_math(False)
    return figure
