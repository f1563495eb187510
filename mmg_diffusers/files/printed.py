"""What `print` shows of a result: a few lines in Python, and all of it on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

# Characters that `print` shows of a result, and what is said where that is not all.
SHORT, MORE = 400, "(all of it: .warnings())"
_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)


@contextmanager
def in_full() -> Iterator[None]:
    """Let results print all of their warnings, as on the command line, where there is nothing else that would tell them."""
    before = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(before)


def said_of(warning: str) -> str:
    """A line for a warning; what weighs nothing by its grade, such as which captions were read, is a note."""
    return f"{'note' if getattr(warning, 'grade', None) == 'trust' else 'warning'}: {warning}"


def in_short(lines: Sequence[str], warnings: Sequence[str]) -> str:
    """What `print` shows of a result: its lines, and as much of its warnings as leaves all of it below 400 characters (`in_full`: all)."""
    warnings = [said_of(warning) for warning in warnings]
    text = "\n".join(lines)
    if _WHOLE.get():
        return "\n".join([text, *warnings])
    for number, warning in enumerate(warnings):
        after = 0 if number + 1 == len(warnings) else len(MORE) + 1
        line, room = f"\n{warning}", SHORT - 1 - len(text)
        if len(line) + after <= room:
            text += line
            continue
        room -= len(MORE) + 1
        cut = line[: max(room - 4, 0)].rpartition(" ")[0]
        return f"{text}{cut} ...\n{MORE}" if len(cut) > 40 else f"{text}\n{MORE}"
    return text
