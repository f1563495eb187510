"""What all figures share: colours, axes, and that matplotlib is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.analysis.influence import Axis
from mmg_diffusers.checks import needs
from mmg_diffusers.commands.texts import AXIS_NAMES
from mmg_diffusers.files.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the forms, and in turn of whatever else is drawn; told apart by people who do not tell red from green (Okabe and Ito 2008).
COLOURS = {"gap": "#3367a8", "orthogonal": "#c4581c"}
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def check_plotting() -> None:
    """Draw into files and not onto a screen; called before anything is measured whose end is a figure.

    Raises:
        ModuleNotFoundError: when matplotlib is not installed.
    """
    needs("matplotlib", "plot")
    import matplotlib

    matplotlib.use("Agg")


def pyplot() -> Any:
    """`matplotlib.pyplot`.

    Raises:
        ModuleNotFoundError: when matplotlib is not installed.
    """
    needs("matplotlib", "plot")
    import matplotlib.pyplot

    return matplotlib.pyplot


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A new figure with its axes, which pyplot does not keep: a notebook shows it where a cell returns it, and only there.

    Args:
        rows, columns: of axes.
        options: of `matplotlib.pyplot.subplots`.
    """
    plt = pyplot()
    figure, axes = plt.subplots(rows, columns, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def new_axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The axes to draw into, and their figure; new ones by default."""
    if ax is None:
        return subplots(figsize=(6, 4))
    part: Any = ax.figure  # a figure, or a part of one, which knows the whole
    return part.figure, ax


def colour_of(name: str, place: int) -> str:
    """The colour of a curve: of a form its own, else by its place in the figure."""
    return COLOURS.get(name, CYCLE[place % len(CYCLE)])


def set_noise_axis(axes: Axes, axis: Axis = "logsnr", of: str = "") -> None:
    """Name the axis of noise levels, and let it run from noise to image whatever it is counted in.

    Args:
        axes: drawn into already.
        axis: what levels are counted in.
        of: what the levels are of, such as "the switch".
    """
    axes.set_xlabel(f"{AXIS_NAMES[axis]}{f' of {of}' if of else ''}, from noise to image \N{RIGHTWARDS ARROW}")
    if axis != "logsnr" and not axes.xaxis_inverted():
        axes.invert_xaxis()


def save_figure(figure: Figure, path: Path, *, dpi: int = 110) -> Path:
    """Write a figure, whole or not at all; returns the path.

    Raises:
        OSError: when it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format=path.suffix.lstrip(".") or "png")
    write_whole(path, picture.getvalue())
    return path
