"""How commands print, and how they end on an error."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

console = Console()
# Letters of a message that are printed; a value within it may be a file's whole content.
LONGEST = 2000


def shorten(text: str, most: int = LONGEST) -> str:
    """The text, or its beginning and its end where it is longer than `most` letters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text)} letters) ... {text[-half:]}"


def say(text: object) -> None:
    """Print a line as it is: no markup, no colours, no breaks."""
    console.print(shorten(str(text)), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an error as its message, and end with status 2: the message says what was expected and what to do."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        stderr = Console(stderr=True)
        stderr.print(f"[red]error:[/] {type(error).__name__}: ", end="")
        stderr.print(shorten(str(error)), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def with_messages(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are printed as messages, and whose warnings are not printed: records hold them as notes."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with errors_as_messages(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            command(*args, **kwargs)

    return run
