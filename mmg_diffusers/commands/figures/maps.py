"""Maps laid over their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.figures.base import subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


# Frames of a video that are drawn.
_FRAMES = 5
# How much of a picture the brightest place of a map hides.
_OPAQUE = 0.85


def strip(
    frames: NDArray[np.floating], maps: NDArray[np.float64], most: int = _FRAMES
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Some frames of a video beside each other, from its first to its last, and their maps.

    Args:
        frames: `(F, H, W, 3)`, F pictures.
        maps: `(F, h, w)`, or `(T, h, w)` of latents; of these, the last picture is shown that each was made of.
        most: frames that are shown.

    Returns:
        `(H, n W, 3)` and `(h, n w)`.
    """
    chosen = np.unique(np.linspace(0, len(maps) - 1, min(most, len(maps))).round().astype(int))
    pictures = chosen * (len(frames) - 1) // max(len(maps) - 1, 1)
    return np.concatenate(list(frames[pictures]), 1), np.concatenate(list(maps[chosen]), 1)


def _flat(images: Sequence[NDArray[np.floating]], maps: Tensor) -> tuple[list[NDArray[np.floating]], Tensor]:
    """Images and maps as they are; videos and theirs as strips."""
    if maps.ndim == 3:
        return list(images), maps
    strips = [strip(image, values) for image, values in zip(images, maps.numpy(), strict=True)]
    return [image for image, _ in strips], torch.from_numpy(np.stack([values for _, values in strips]))


def lay_over(image: NDArray[np.floating], information: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """A grey image with a non-negative map laid over it, as pixels `(H, W, 3)` in [0, 1].

    Args:
        image: `(H, W, 3)` in [0, 1].
        information: `(h, w)`, of any resolution.
        top: what is drawn as the brightest colour.
    """
    needs("matplotlib", "plot")
    import matplotlib

    height, width = image.shape[:2]
    rows = (np.arange(height) * information.shape[0]) // height
    columns = (np.arange(width) * information.shape[1]) // width
    colour = matplotlib.colormaps["magma"](np.clip(information[rows][:, columns] / top, 0, 1))[..., :3]
    grey = np.asarray(image, dtype=float).mean(-1, keepdims=True)
    return 0.7 * colour + 0.3 * grey


def _over(
    ax: Axes,
    picture: NDArray[np.floating],
    values: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    scale: Mapping[str, Any],
) -> AxesImage:
    """A picture in its own brightness, and over it a map, the more opaque the larger its value, with a line at half of the scale."""
    ax.imshow(np.clip(picture, 0, 1))
    share = np.clip(np.abs(values) / scale["vmax"], 0, 1)
    drawn = ax.imshow(values, extent=extent, alpha=_OPAQUE * share, interpolation="bilinear", **scale)
    if share.max() > 0.5 > share.min():
        ax.contour(share, levels=[0.5], colors="white", linewidths=0.6, extent=extent, origin="upper")
    return drawn


def plot_maps(
    images: Sequence[NDArray[np.floating]],
    maps: Tensor,
    *,
    titles: Sequence[str] = (),
    columns: int = 4,
    unit: str = "nats",
) -> Figure:
    """Images, and below each the same with its map of information laid over it; one scale for all maps. Of videos some frames.

    Args:
        images: N images `(H, W, 3)` in [0, 1], or videos `(F, H, W, 3)`.
        maps: `(N, h, w)`, of any resolution; of videos `(N, F, h, w)`, or `(N, T, h, w)` of latents.
        titles: above the images.
        columns: images in a row.
        unit: what the maps are in.
    """
    images, maps = _flat(images, maps)
    count, wide = len(images), 1.9 * max(1.0, images[0].shape[1] / images[0].shape[0] / 2)
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = subplots(2 * rows, columns, figsize=(wide * columns + 0.6, 4.0 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    values = maps.numpy()
    top = max(float(np.abs(values).max()), 1e-12)
    signed = float(values.min()) < 0
    scale = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if signed else {"cmap": "plasma", "vmin": 0.0, "vmax": top}
    drawn = None
    for k in range(count):
        above, below = axes[2 * (k // columns), k % columns], axes[2 * (k // columns) + 1, k % columns]
        height, width = images[k].shape[:2]
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        above.imshow(images[k])
        drawn = _over(below, images[k], values[k], extent, scale)
        if k < len(titles):
            above.set_title(titles[k], fontsize="x-small", parse_math=False)  # a caption may speak of dollars
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label=f"{unit} per latent pixel")
    return figure


def plot_map_grid(
    images: NDArray[np.floating], maps: Mapping[str, Tensor], *, titles: Sequence[str] = ()
) -> Figure:  # fmt: skip
    """A column an image, a row a kind of map; each row with a scale up to the 99.5th percentile of its sizes.

    Args:
        images: `(N, H, W, 3)` in [0, 1], or videos `(N, F, H, W, 3)`, of which some frames are drawn.
        maps: `(N, h, w)` by name, of videos `(N, F, h, w)`. Rows that are negative somewhere are drawn in two colours, blue below 0.
        titles: above the images.
    """
    flat = {name: _flat(list(images), values) for name, values in maps.items()}
    pictures = next((pictures for pictures, _ in flat.values()), list(images))
    count, rows = len(images), len(maps) + 1
    wide = 1.5 * max(1.0, pictures[0].shape[1] / pictures[0].shape[0])
    figure, axes = subplots(rows, count, figsize=(wide * count + 0.8, 1.5 * rows), squeeze=False)
    # Square pictures leave the names of the rows too little room at the edge.
    figure.set_layout_engine("constrained", w_pad=0.1)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for k in range(count):
        axes[0, k].imshow(pictures[k])
        if k < len(titles):
            axes[0, k].set_title(titles[k], fontsize="x-small", parse_math=False)
    for row, (name, (_, values)) in enumerate(flat.items(), start=1):
        top = max(float(values.abs().quantile(0.995)), 1e-12)
        signed = float(values.min()) < 0
        scale = (
            {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if signed else {"cmap": "plasma", "vmin": 0.0, "vmax": top}
        )
        drawn = None
        for k in range(count):
            height, width = pictures[k].shape[:2]
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            drawn = _over(axes[row, k], pictures[k], values[k].numpy(), extent, scale)
            axes[row, k].set_xlabel(f"{float(values[k].sum()):.2f} nats", fontsize="xx-small", labelpad=1)
        axes[row, 0].set_ylabel(name, fontsize="small")
        if drawn is not None:
            figure.colorbar(drawn, ax=list(axes[row]), shrink=0.8, label="nats per pixel")
    return figure
