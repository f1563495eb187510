"""Curves along noise levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.influence import Axis, Influence
from mmg_diffusers.commands.figures.base import COLOURS, new_axes
from mmg_diffusers.commands.texts import AXIS_NAMES, PER_LOGSNR, STILL_TO_COME, plus_minus
from mmg_diffusers.measure.estimate import Estimate

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
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="log-SNR", ylabel=PER_LOGSNR, title=title)
    axes.legend(frameon=False)
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
    axes.plot(levels, mean, color="0.25", label=f"null from it: {plus_minus(audit.distance, 2)} nats")
    axes.fill_between(levels, mean - band, mean + band, color="0.25", alpha=0.2, linewidth=0)
    axes.set(xlabel="log-SNR", ylabel=PER_LOGSNR, title=title)
    axes.legend(frameon=False)
    return figure


def plot_mmse(estimate: Estimate, *, ax: Axes | None = None, title: str = "") -> Figure:
    """The two denoising errors along log-SNR; half the area between them is the information (gap form).

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
    gap = estimate.using("gap").mean()
    axes.plot(levels, alone, color="0.25", label="without the condition")
    axes.plot(levels, given, color=COLOURS["gap"], label="with it")
    axes.fill_between(
        levels, given, alone, color=COLOURS["gap"], alpha=0.2, linewidth=0,
        label=f"half the area: {plus_minus(gap, 2)} nats",
    )  # fmt: skip
    axes.set(xlabel="log-SNR", ylabel="E |eps - prediction|²", title=title)
    axes.legend(frameon=False)
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
    for name, influence in influences.items():
        mean, stderr = (value.numpy() for value in influence.mean())
        levels = influence.on(axis).numpy()
        (line,) = axes.plot(levels, mean, label=f"{name}: {plus_minus((mean[0], stderr[0]), 2)} nats")
        axes.fill_between(levels, mean - 2 * stderr, mean + 2 * stderr, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(0, color="0.6", linewidth=0.8)
    if ceiling is not None:
        axes.axhline(ceiling, color="0.6", linewidth=0.8, linestyle="--", label=f"exact: {ceiling:.2f} nats")
    axes.set(xlabel=f"{AXIS_NAMES[axis]} of the noise level", ylabel=STILL_TO_COME, title=title)
    for label in axes.legend(frameon=False).get_texts():
        label.set_parse_math(False)
    return figure
