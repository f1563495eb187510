"""One progress bar for the whole of what a user asked for, with a total that is reached and the time that is left."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

from mmg_diffusers.checks import somebody_looks

_WHOLE: ContextVar[Moves | None] = ContextVar("whole", default=None)
# Of several measurements nobody wants the number of parts that are done, which is no whole number.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


class _Beside(logging.Filter):
    """Leaves out what libraries beneath say of image processors that no measurement uses."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "requires torchvision" not in str(record.msg)


@contextmanager
def calm(bars: bool) -> Iterator[None]:
    """While inside, diffusers and transformers say nothing of parts that no measurement uses, and show bars of what they load or not.

    Args:
        bars: whether they are shown.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_transformers.get_logger()  # which makes the handlers
    handlers, beside = logging.getLogger("transformers").handlers, _Beside()
    shown = [one for one in (of_diffusers, of_transformers) if not bars and one.is_progress_bar_enabled()]
    for one in shown:
        one.disable_progress_bar()
    for handler in handlers:
        handler.addFilter(beside)
    try:
        yield
    finally:
        for one in shown:
            one.enable_progress_bar()
        for handler in handlers:
            handler.removeFilter(beside)


class Moves(Protocol):
    """What moves on: a bar, or a share of one."""

    def update(self, n: float = 1) -> object:
        """Move on by as much."""
        ...


@dataclass
class _Share:
    """A part of a bar."""

    of: Moves
    total: float | None
    done: float = 0.0

    def update(self, n: float = 1) -> None:
        """Move the bar on; of what nobody knows the size of it moves at the end alone."""
        if self.total:
            self._to(min(1.0, self.done + n / self.total))

    def finish(self) -> None:
        """Move the bar to the end of this part."""
        self._to(1.0)

    def _to(self, done: float) -> None:
        self.of.update(done - self.done)
        self.done = done


@contextmanager
def bar(total: int | None, name: str, options: Mapping[str, Any], unit: str = "z") -> Iterator[Moves]:
    """A bar of one measurement, or its share of the bar of the whole.

    The total is reached though some steps fall together, or candidates are not followed to the end.

    Args:
        total: how much there is to do, at most; ``None`` if nobody knows.
        name: what it says, unless it is a share.
        options: of tqdm; without any of where it is shown, there is none in a pipe.
        unit: of what is counted.
    """
    whole_bar = _WHOLE.get()
    if whole_bar is not None:
        share = _Share(whole_bar, total)
        yield share
        share.finish()
        return
    hidden = "file" not in options and not somebody_looks()
    with tqdm(**{"total": total, "desc": name, "unit": unit, "leave": False, "disable": hidden, **options}) as one:
        yield one
        if total is not None and one.n < total:
            one.update(total - one.n)


@contextmanager
def bar_of_parts(parts: int, name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """While inside, the bars of measurements are shares of one bar; wholes may hold wholes.

    Args:
        parts: how many measurements there are going to be.
        name: what the bar says.
        options: of tqdm.
    """
    with bar(parts, name, {"bar_format": _FORMAT, **options}) as one:
        token = _WHOLE.set(one)
        try:
            yield
        finally:
            _WHOLE.reset(token)
