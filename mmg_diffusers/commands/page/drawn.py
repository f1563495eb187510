"""Figures as SVG that takes the colours of the page around it, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from itertools import count
from typing import TYPE_CHECKING

from mmg_diffusers.commands.figures.base import pyplot, subplots
from mmg_diffusers.commands.page.look import INKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REFERRED = re.compile(r"(?:url\(#|href=\"#)([\w.-]+)")


class Figures:
    """The figures of one page, whose names do not meet."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, draw: Callable[[Axes], object], about: str, table: str = "") -> str:
        """A figure of the size of a phone, so that its letters can be read on one, with its title, and its numbers below.

        Args:
            draw: into the axes that it is given.
            about: what it shows, also for those who cannot see it.
            table: its numbers, folded away.
        """
        plt = pyplot()
        with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page", "axes.unicode_minus": False}):
            figure, axes = subplots(figsize=(4.6, 3.5))
            draw(axes)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        picture = coloured_by_page(buffer.getvalue(), f"f{next(self._numbers)}", about)
        folded = f"<details><summary>Its numbers</summary>{table}</details>" if table else ""
        return f"<figure>{picture}<figcaption>{escape(about)}</figcaption>{folded}</figure>"


def coloured_by_page(svg: str, name: str, about: str) -> str:
    """What matplotlib wrote, to stand in a page: inks of the page's style, ids of its own, nothing that is not drawn.

    Args:
        svg: the file.
        name: what ids begin with.
        about: the figure's name for those who cannot see it.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    referred = set(_REFERRED.findall(svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in referred else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    svg = re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg)
    # What has no colour of its own is black, and so are letters, which the style colours.
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda found: INKS.get(found[0], found[0]), svg)
    svg = re.sub(r"<svg\b", f'<svg role="img" aria-label="{escape(about)}"', svg, count=1)
    svg = re.sub(
        r'(<svg\b[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    return re.sub(r">\s+<", "><", svg).strip()
