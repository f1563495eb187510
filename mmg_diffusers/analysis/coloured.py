"""Text whose words are coloured by what they say, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Orange tells and blue misinforms: told apart by those who are colour-blind too, and on white as on black.
TELLS, MISINFORMS = "230,120,20", "40,110,220"
# Of the strongest colour: black letters can be read on it over white paper, and white ones over black (contrast above 4.5).
_MOST = 0.6


def background(nats: float, top: float) -> str:
    """The colour behind a word, as CSS has it.

    Args:
        nats: of the word.
        top: nats of the strongest colour.
    """
    return f"rgba({TELLS if nats >= 0 else MISINFORMS},{_MOST * min(abs(nats) / top, 1.0):.2f})"


def coloured(text: str, told: Sequence[tuple[int, int, float, float, str]], top: float) -> str:
    """A paragraph of a text with some of its words coloured, each with its nats below it.

    Args:
        text: it is escaped.
        told: (first character, the one after the last, nats, standard error, a remark) of each word; those that overlap an
            earlier one are left out.
        top: nats of the strongest colour.
    """
    parts: list[str] = []
    at = 0
    for start, end, nats, stderr, remark in sorted(told):
        if start < at or end <= start:
            continue
        error = "" if stderr != stderr else f" ± {stderr:.2f}"
        parts += [
            escape(text[at:start]),
            f'<span style="background:{background(nats, top)};border-radius:3px;padding:0 2px" '
            f'title="{nats:.3f}{error} nats; {escape(remark)}">{escape(text[start:end])}'
            f'<sub style="font-size:.72em"> {nats:.2f}</sub></span>',
        ]
        at = end
    return f"<p>{''.join(parts)}{escape(text[at:])}</p>"
