"""What was there of a work that goes on: told once it is known to be of the same work, to whoever listens.

Python's logging carries it, under the name ``mmg_diffusers.resumed``; the command line listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("mmg_diffusers.resumed")


def tell(text: str) -> None:
    """Say what was there."""
    _LOG.info(text)


@contextmanager
def told_to(say: Callable[[str], None]) -> Iterator[None]:
    """While inside, what was there is told to a function too."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    listener, before = Listener(logging.INFO), _LOG.level
    _LOG.addHandler(listener)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(listener)
        _LOG.setLevel(before)
