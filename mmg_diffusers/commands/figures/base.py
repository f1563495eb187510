"""What all figures share: colours, axes, and that matplotlib is there."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.analysis.influence import Axis
from mmg_diffusers.checks import finite, needs
from mmg_diffusers.commands.texts import AXIS_NAMES
from mmg_diffusers.files.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the forms, and in turn of whatever else is drawn; told apart by people who do not tell red from green (Okabe and Ito 2008).
COLOURS = {"gap": "#3367a8", "orthogonal": "#c4581c"}
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Of lines to read others by, of what stands behind, and of what has no colour of its own; pages have them lighter on dark paper.
GREY, QUIET, INK = "#999999", "#666666", "#000000"

# Inches that matplotlib draws by default, and the sizes here are meant for.
_SIZE = (6.4, 4.8)
# Inches of a figure of one panel.
_ONE = 6


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


_PAPER: Mapping[str, Any] = {
    "font.family": "serif",
    "mathtext.fontset": "dejavuserif",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "lines.linewidth": 1.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.dpi": 300,
    # Letters stay letters, which a paper's reader can search.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
}


def style(width: float = 3.4, **more: Any) -> AbstractContextManager[None]:
    """While inside, figures are as papers have them: small serif letters, thin lines, vectors with letters that can be searched.

    ``with style(): plot_mmse(out).savefig("mmse.pdf")`` draws a figure as wide as a column. Without it figures follow the reader's own
    `matplotlib.rcParams`.

    Args:
        width: of a figure with one panel, in inches; others are wider in proportion.
        more: other `matplotlib.rcParams`, with ``_`` in place of dots, such as ``font_family="sans-serif"``.

    Raises:
        ModuleNotFoundError: when matplotlib is not installed.
        ValueError: for a width that is not above 0, or a parameter that matplotlib does not have.
    """
    plt = pyplot()
    if finite(width, "width") <= 0:
        raise ValueError(f"width is {width:g}; expected inches, above 0")
    known = {name.replace(".", "_"): name for name in plt.rcParams}
    wrong = [name for name in more if name not in known]
    if wrong:
        raise ValueError(f"matplotlib has no parameter {wrong[0]}; expected one of rcParams, such as font_size")
    size = {"figure.figsize": [side * width / _ONE for side in _SIZE]}
    return plt.rc_context({**_PAPER, **size, **{known[name]: value for name, value in more.items()}})


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A new figure with its axes, which pyplot does not keep: a notebook shows it where a cell returns it, and only there.

    Args:
        rows, columns: of axes.
        options: of `matplotlib.pyplot.subplots`.
    """
    plt = pyplot()
    if "figsize" in options:
        # Sizes are meant for matplotlib's own; whoever sets another has all figures in proportion.
        scale = plt.rcParams["figure.figsize"][0] / _SIZE[0]
        options["figsize"] = tuple(scale * side for side in options["figsize"])
    figure, axes = plt.subplots(rows, columns, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def new_axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The axes to draw into, and their figure; new ones by default."""
    if ax is None:
        return subplots(figsize=(_ONE, 4))
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
    """Write a figure, whole or not at all; returns the path. Its ending says how: ``.png``, or vectors, ``.svg`` and ``.pdf``.

    Raises:
        OSError: when it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format=path.suffix.lstrip(".") or "png")
    write_whole(path, picture.getvalue())
    return path
