"""One progress bar for the whole of what a user asked for, with a total that is reached and the time that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

_WHOLE: ContextVar[Moves | None] = ContextVar("whole", default=None)
# Of several measurements nobody wants the number of parts that are done, which is no whole number.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


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
        options: of tqdm.
        unit: of what is counted.
    """
    whole_bar = _WHOLE.get()
    if whole_bar is not None:
        share = _Share(whole_bar, total)
        yield share
        share.finish()
        return
    with tqdm(**{"total": total, "desc": name, "unit": unit, "leave": False, **options}) as one:
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
