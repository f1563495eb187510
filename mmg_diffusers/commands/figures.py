"""Figures from records. Takes records, returns matplotlib figures; needs the extra ``plot``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.influence import Axis, Influence
from mmg_diffusers.measure.estimate import Estimate, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"gap": "#3367a8", "orthogonal": "#c4581c"}


def plot_curves(estimate: Estimate, *, ax: Axes | None = None, title: str = "") -> Figure:
    """The integrand along log-SNR, gap and orthogonal, averaged over pairs with bands of two standard errors.

    Args:
        estimate: measured on levels that all pairs share, or with stratified ones.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
    """
    figure, axes = _axes(ax)
    curve = estimate.curve
    levels = curve.by_level(curve.logsnr).mean(0).numpy()
    for name in ("orthogonal", "gap"):
        values = curve.by_level(getattr(curve, name)).numpy() / 2
        mean = values.mean(0)
        band = 2 * values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros_like(mean)
        form = estimate.using(name).mean()
        axes.plot(levels, mean, color=_COLOURS[name], label=f"{name}: {form.value:.2f} ± {form.stderr:.2f} nats")
        axes.fill_between(levels, mean - band, mean + band, color=_COLOURS[name], alpha=0.2, linewidth=0)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="log-SNR", ylabel="nats per unit of log-SNR", title=title)
    axes.legend(frameon=False)
    return figure


def plot_mmse(estimate: Estimate, *, ax: Axes | None = None, title: str = "") -> Figure:
    """The two denoising errors along log-SNR; half the area between them is the information (gap form).

    Args:
        estimate: measured on levels that all pairs share, or with stratified ones.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
    """
    figure, axes = _axes(ax)
    curve = estimate.curve
    levels, given, alone = (
        curve.by_level(values).mean(0).numpy() for values in (curve.logsnr, curve.error, curve.error + curve.gap)
    )
    gap = estimate.using("gap").mean()
    axes.plot(levels, alone, color="0.25", label="without the condition")
    axes.plot(levels, given, color=_COLOURS["gap"], label="with it")
    axes.fill_between(
        levels, given, alone, color=_COLOURS["gap"], alpha=0.2, linewidth=0,
        label=f"half the area: {gap.value:.2f} ± {gap.stderr:.2f} nats",
    )  # fmt: skip
    axes.set(xlabel="log-SNR", ylabel="E |eps - prediction|²", title=title)
    axes.legend(frameon=False)
    return figure


_AXIS_NAMES: Mapping[Axis, str] = {"logsnr": "log-SNR", "timestep": "timestep", "tau": "diffusion time τ"}


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
        axis: what noise levels are told in; models whose levels differ meet on ``"tau"``.
        ax: axes to draw into; a new figure by default.
        title: above the axes.
        ceiling: a value to mark, such as the exact information, in nats.

    Raises:
        ValueError: as `Influence.on` does.
    """
    figure, axes = _axes(ax)
    for name, influence in influences.items():
        mean, stderr = (value.numpy() for value in influence.mean())
        levels = influence.on(axis).numpy()
        (line,) = axes.plot(levels, mean, label=f"{name}: {mean[0]:.2f} ± {stderr[0]:.2f} nats")
        axes.fill_between(levels, mean - 2 * stderr, mean + 2 * stderr, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(0, color="0.6", linewidth=0.8)
    if ceiling is not None:
        axes.axhline(ceiling, color="0.6", linewidth=0.8, linestyle="--", label=f"exact: {ceiling:.2f} nats")
    axes.set(xlabel=f"{_AXIS_NAMES[axis]} of the noise level", ylabel="nats still to come", title=title)
    for label in axes.legend(frameon=False).get_texts():
        label.set_parse_math(False)
    return figure


def lay_over(image: NDArray[np.floating], information: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """A grey image with a non-negative map laid over it, as pixels `(H, W, 3)` in [0, 1].

    Args:
        image: `(H, W, 3)` in [0, 1].
        information: `(h, w)`, of any resolution.
        top: what is drawn as the brightest colour.
    """
    import matplotlib

    height, width = image.shape[:2]
    rows = (np.arange(height) * information.shape[0]) // height
    columns = (np.arange(width) * information.shape[1]) // width
    colour = matplotlib.colormaps["magma"](np.clip(information[rows][:, columns] / top, 0, 1))[..., :3]
    grey = np.asarray(image, dtype=float).mean(-1, keepdims=True)
    return 0.7 * colour + 0.3 * grey


def plot_maps(
    images: Sequence[NDArray[np.floating]],
    maps: Tensor,
    *,
    titles: Sequence[str] = (),
    columns: int = 4,
    unit: str = "nats",
) -> Figure:
    """Images, and below each the same with its map of information laid over it; one scale for all maps.

    Args:
        images: N images `(H, W, 3)` in [0, 1].
        maps: `(N, h, w)`, of any resolution.
        titles: above the images.
        columns: images in a row.
        unit: what the maps are in.
    """
    import matplotlib.pyplot as plt

    count = len(images)
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(1.9 * columns + 0.6, 4.0 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    values = maps.numpy()
    top = max(float(np.abs(values).max()), 1e-12)
    signed = float(values.min()) < 0
    scale = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if signed else {"cmap": "magma", "vmin": 0.0, "vmax": top}
    drawn = None
    for k in range(count):
        above, below = axes[2 * (k // columns), k % columns], axes[2 * (k // columns) + 1, k % columns]
        height, width = images[k].shape[:2]
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        above.imshow(images[k])
        below.imshow(np.asarray(images[k]).mean(-1), cmap="gray", vmin=0, vmax=1)
        drawn = below.imshow(values[k], extent=extent, alpha=0.7, interpolation="bilinear", **scale)
        if k < len(titles):
            above.set_title(titles[k], fontsize=7, parse_math=False)  # a caption may speak of dollars
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label=f"{unit} per latent pixel")
    return figure


def plot_map_grid(
    images: NDArray[np.floating], maps: Mapping[str, Tensor], *, titles: Sequence[str] = ()
) -> Figure:  # fmt: skip
    """A column an image, a row a kind of map; every row has its own scale, up to the 99.5th percentile of its sizes.

    Args:
        images: `(N, H, W, 3)` in [0, 1].
        maps: `(N, h, w)` by name. Rows that are negative somewhere are drawn in two colours, blue below 0.
        titles: above the images.
    """
    import matplotlib.pyplot as plt

    count, rows = len(images), len(maps) + 1
    figure, axes = plt.subplots(
        rows, count, figsize=(1.5 * count + 0.8, 1.5 * rows), layout="constrained", squeeze=False
    )
    # Square pictures leave the names of the rows too little room at the edge.
    figure.set_layout_engine("constrained", w_pad=0.1)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for k in range(count):
        axes[0, k].imshow(images[k])
        if k < len(titles):
            axes[0, k].set_title(titles[k], fontsize=7, parse_math=False)
    for row, (name, values) in enumerate(maps.items(), start=1):
        top = max(float(values.abs().quantile(0.995)), 1e-12)
        signed = float(values.min()) < 0
        scale = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if signed else {"cmap": "magma", "vmin": 0.0, "vmax": top}
        drawn = None
        for k in range(count):
            height, width = images[k].shape[:2]
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axes[row, k].imshow(np.asarray(images[k]).mean(-1), cmap="gray", vmin=0, vmax=1)
            drawn = axes[row, k].imshow(values[k].numpy(), extent=extent, alpha=0.7, interpolation="bilinear", **scale)
        axes[row, 0].set_ylabel(name, fontsize=8)
        if drawn is not None:
            figure.colorbar(drawn, ax=list(axes[row]), shrink=0.8)
    return figure


def plot_pointwise(measured: Tensor, exact: Tensor, *, ax: Axes | None = None, title: str = "") -> Figure:
    """Measured against exact pointwise information, `(N,)` nats each."""
    figure, axes = _axes(ax)
    low = float(min(measured.min(), exact.min())) - 0.2
    high = float(max(measured.max(), exact.max())) + 0.2
    axes.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    axes.scatter(exact.numpy(), measured.numpy(), s=8, alpha=0.5, color=_COLOURS["gap"], linewidth=0)
    axes.set(xlabel="exact i(x; y) in nats", ylabel="measured", title=title, xlim=(low, high), ylim=(low, high))
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

    Args:
        words: by name, such as "colour" or "colour and shape", given the rest of the prompt.
        shared: for every two words, parts by name, such as redundancy and synergy.
        exact: true values, marked, by the names of `words`.
        ax: axes to draw into, a second one where there is `shared`; a new figure by default.
        title: above the axes.
    """
    import matplotlib.pyplot as plt

    rows = [len(words), *([len(shared)] if shared else [])]
    if ax is None:
        height = 0.32 * len(words) + 0.75 * (rows[1] if shared else 0) + 1.4
        figure, made = plt.subplots(
            len(rows), 1, figsize=(6, height), layout="constrained", squeeze=False, height_ratios=[1, 2.2][: len(rows)]
        )
        axes: Sequence[Axes] = list(made[:, 0])
    else:
        axes = ax
        figure, _ = _axes(axes[0])
    place = np.arange(len(words))[::-1]
    values = np.array([tuple(value) for value in words.values()])
    axes[0].barh(
        place, values[:, 0], xerr=2 * np.nan_to_num(values[:, 1]), height=0.6, color=_COLOURS["gap"], alpha=0.8
    )
    known = (
        [(row, exact[name]) for row, name in zip(place, words, strict=True) if name in (exact or {})] if exact else []
    )
    if known:
        axes[0].plot([v for _, v in known], [row for row, _ in known], "k|", markersize=14, label="exact")
        axes[0].legend(frameon=False)
    axes[0].set_yticks(place, list(words), fontsize=8)
    axes[0].axvline(0, color="0.6", linewidth=0.8)
    axes[0].set(xlabel="nats, given the rest of the prompt", title=title)
    if shared:
        names = list(next(iter(shared.values())))
        place = np.arange(len(shared))[::-1].astype(float)
        width = 0.8 / len(names)
        for k, name in enumerate(names):
            values = np.array([tuple(parts[name]) for parts in shared.values()])
            axes[1].barh(
                place + 0.4 - (k + 0.5) * width,
                values[:, 0],
                xerr=2 * np.nan_to_num(values[:, 1]),
                height=width,
                label=name,
            )
        axes[1].set_yticks(place, list(shared), fontsize=8)
        axes[1].axvline(0, color="0.6", linewidth=0.8)
        axes[1].set(xlabel="nats of two words")
        axes[1].legend(frameon=False, fontsize=8)
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
        axis: what noise levels are told in.
        halves: where the first prompt begins to win half of the time, and where half of the information has arrived, marked.
        title: above the curves.

    Raises:
        ValueError: as `Influence.on` does.
    """
    import matplotlib.pyplot as plt

    count, few = images.shape[:2]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 4.2 + 0.5 * few), layout="constrained", height_ratios=[4, max(1.0, few)]
    )
    marks = top.errorbar(at, share, yerr=2 * stderr, marker="o", label="share that follows the first prompt")
    arrived, error = (value.numpy() for value in influence.arrived())
    levels = influence.on(axis).numpy()
    (line,) = top.plot(levels, arrived, label="share of the information that has arrived")
    top.fill_between(levels, arrived - 2 * error, arrived + 2 * error, color=line.get_color(), alpha=0.2, linewidth=0)
    for value, colour in zip(halves or (), (marks.lines[0].get_color(), line.get_color()), strict=False):
        top.axvline(value, color=colour, linewidth=0.8, linestyle="--")
    top.axhline(0.5, color="0.7", linewidth=0.8)
    top.set(xlabel=f"{_AXIS_NAMES[axis]} of the switch", title=title, ylim=(-0.05, 1.05))
    top.legend(frameon=False)
    order = np.argsort(at)
    width = images.shape[3]
    bottom.imshow(np.concatenate([np.concatenate(list(images[k]), 0) for k in order], 1))
    bottom.set_xticks((np.arange(count) + 0.5) * width, [f"{at[k]:.2f}" for k in order], fontsize=8)
    bottom.set(yticks=[], xlabel=f"pictures, by the {_AXIS_NAMES[axis]} of the switch")
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
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 0.22 * len(names) + 1.2), layout="constrained")
    place = np.arange(len(names))[::-1]
    for width, shade in ((0.1, "0.94"), (0.05, "0.88")):
        ax.axvspan(-width, width, color=shade)
    ax.axvline(0, color="0.6", linewidth=0.8)
    bars = 2 * np.nan_to_num(spread)
    ax.errorbar(error, place, xerr=bars, fmt="o", markersize=3, color=_COLOURS["gap"], linewidth=1)
    ax.set_yticks(place, list(names), fontsize=7)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel="estimate - truth, nats (bars: 2 sd over seeds)", title=title)
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
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(ratios), figsize=(3.2 * len(ratios), 3), layout="constrained", squeeze=False)
    for ax, (name, (rows, value, error)) in zip(panels[0], ratios.items(), strict=True):
        target, tolerance = targets[name]
        ax.axhspan(target - tolerance, target + tolerance, color="0.9")
        ax.axhline(target, color="0.6", linewidth=0.8)
        ax.errorbar(rows, value, yerr=2 * error, marker="o", color=_COLOURS["gap"])
        ax.set(xlabel="rows seen", title=name, xticks=list(rows))
    figure.suptitle(title)
    return figure


def _axes(ax: Axes | None) -> tuple[Figure, Axes]:
    if ax is not None:
        figure = ax.get_figure(root=True)
        assert figure is not None
        return figure, ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6, 4), layout="constrained")
