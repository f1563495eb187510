"""What all figures share: colours, axes, and that matplotlib is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import needs
from mmg_diffusers.files.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"gap": "#3367a8", "orthogonal": "#c4581c"}


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


def new_axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The axes to draw into, and their figure; new ones by default."""
    if ax is None:
        return pyplot().subplots(figsize=(6, 4), layout="constrained")
    part: Any = ax.figure  # a figure, or a part of one, which knows the whole
    return part.figure, ax


def save_figure(figure: Figure, path: Path, *, dpi: int = 110) -> Path:
    """Write a figure, whole or not at all, and close it; returns the path.

    Raises:
        OSError: when it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format=path.suffix.lstrip(".") or "png")
    pyplot().close(figure)
    write_whole(path, picture.getvalue())
    return path
