"""Checks of plain values. Their messages say what was passed, and what was expected."""

from __future__ import annotations

import math
import operator
import os
import sys
import warnings
from dataclasses import fields
from html import escape
from importlib import import_module
from pathlib import Path
from reprlib import Repr
from typing import Any, SupportsFloat, SupportsIndex, cast

# Counts, seeds and ids travel in 64-bit integers.
MOST = 2**63 - 1
# Characters of a value, and of another error's text, that a message shows, and of a result's own repr.
LONGEST, LONGEST_ERROR, LONGEST_REPR = 80, 400, 320


class _Short(Repr):
    """A repr that shortens what is inside of containers, too, without writing it out first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxarray = 6
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, LONGEST, LONGEST, LONGEST

    def repr1(self, x: object, level: int) -> str:
        if isinstance(x, (bytes, bytearray, memoryview)):
            body = x.nbytes if isinstance(x, memoryview) else len(x)
            return repr(x) if body <= 16 and not isinstance(x, memoryview) else f"<{body:,} bytes>"
        if isinstance(x, str) and len(x) > LONGEST:
            return f"{x[: LONGEST - 24]!r}... ({len(x):,} characters)"
        if isinstance(x, int) and x.bit_length() > 200:  # Python refuses to write out the longest
            return f"<an integer of {x.bit_length():,} bits>"
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if isinstance(shape, tuple) and dtype is not None and math.prod(shape) > 4:
            return f"<{type(x).__name__} {tuple(shape)} of {str(dtype).removeprefix('torch.')}>"
        return super().repr1(x, level)

    def repr_instance(self, x: object, level: int) -> str:
        try:
            text = repr(x)
        except Exception:  # a value that cannot even be shown must not hide what is wrong with it
            return f"<{type(x).__name__}>"
        return text if len(text) <= self.maxother else f"{text[: self.maxother - 4]} ..."


_SHORT = _Short()


def shown(value: object) -> str:
    """Show a value in a message: its repr, cut if it is long; the size of bytes and arrays."""
    text = _SHORT.repr(value)
    return text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST - 4]} ..."


class Brief:
    """A dataclass whose repr names its fields, and shortens what they hold: a notebook shows it in a line or two.

    The subclass is a dataclass with ``repr=False``.
    """

    def __repr__(self) -> str:
        held = [(item.name, getattr(self, item.name)) for item in fields(cast("Any", self))]
        text = ", ".join(f"{name}={shown(value)}" for name, value in held if value is not None)
        return f"{type(self).__name__}({text if len(text) <= LONGEST_REPR else f'{text[: LONGEST_REPR - 4]} ...'})"

    def _repr_html_(self) -> str:
        """What a notebook shows: what `print` does."""
        return f"<pre>{escape(str(self))}</pre>"


def reason(error: BaseException) -> str:
    """Quote another library's error, cut if it is long: some of them print the data that they could not read."""
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 4]} ..."


def whole(value: object, name: str, least: int, hint: str = "") -> int:
    """Return a whole number as an `int`; numpy's are taken too.

    Args:
        value: what was passed.
        name: how the user knows it.
        least: the smallest that is allowed.
        hint: what the number counts, unless the name says it.

    Raises:
        TypeError: for anything but a whole number; a truth value is none.
        ValueError: for less than `least`, or for more than 64 bits hold.
    """
    try:
        if isinstance(value, bool):
            raise TypeError("a truth value")
        number = operator.index(cast("SupportsIndex", value))
    except TypeError as error:  # no number at all, an array of several, or a tensor of floats
        raise TypeError(f"{name} is {shown(value)}, a {type(value).__name__}; expected a whole number") from error
    if number < least:
        raise ValueError(f"{name} is {shown(number)}; expected at least {least}{hint}")
    if number > MOST:
        raise ValueError(f"{name} is {shown(number)}; expected at most {MOST}, what 64 bits hold")
    return number


def finite(value: object, name: str) -> float:
    """Return a finite number as a `float`; numpy's and one-element tensors are taken too.

    Raises:
        TypeError: for anything but a real number; text and truth values are none.
        ValueError: for NaN or infinity.
    """
    refused = TypeError(f"{name} is {shown(value)}, a {type(value).__name__}; expected a number")
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise refused
    try:
        number = float(value)
    except (TypeError, ValueError) as error:  # an array or a tensor of several
        raise refused from error
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; expected a finite number")
    return number


def two_ends(value: object, name: str, unbounded: bool = False) -> tuple[float, float]:
    """Return the noisy end and the clean one of a part of the log-SNR axis.

    Args:
        value: what was passed.
        name: how the user knows it.
        unbounded: whether ends may be infinite.

    Raises:
        TypeError: for anything but numbers.
        ValueError: for more or fewer than two of them, or NaN.
    """
    of_type(value, (tuple, list), name, "two numbers, the noisy end and the clean one")
    assert isinstance(value, (tuple, list))
    if len(value) != 2:
        raise ValueError(f"{name} is {shown(value)}; expected two numbers, the noisy end and the clean one")
    infinite = (-math.inf, math.inf) if unbounded else ()
    low, high = (float(end) if end in infinite else finite(end, f"an end of {name}") for end in value)
    return low, high


def of_type(value: object, kind: type | tuple[type, ...], name: str, expected: str) -> None:
    """Refuse a value of another type.

    Raises:
        TypeError: says what was expected.
    """
    if not isinstance(value, kind):
        got = f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"
        raise TypeError(f"{name} is {got}; expected {expected}")


def callback(value: object, name: str = "progress") -> None:
    """Refuse a callback that cannot be called; ``None`` is no callback.

    Raises:
        TypeError: says what was expected.
    """
    if value is not None and not callable(value):
        raise TypeError(
            f"{name} is {shown(value)}; expected a function of the number of steps done, such as a bar's update"
        )


def needs(package: str, extra: str) -> None:
    """Import an optional package, before any work that would miss it at its end.

    Args:
        package: the name it is imported by.
        extra: of this package, that installs it.

    Raises:
        ModuleNotFoundError: when it is not installed; says how to install it.
    """
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise  # it is there, and something that it needs is not
        raise ModuleNotFoundError(
            f"{package} is not installed; pip install 'mmg-diffusers[{extra}]'", name=package
        ) from error


def file_path(value: str | os.PathLike[str], name: str) -> Path:
    """Return a path.

    Raises:
        TypeError: for anything but text or a path.
    """
    of_type(value, (str, os.PathLike), name, "a path, as text or pathlib.Path")
    return Path(value)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of this package that the call came from."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mmg_diffusers":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def somebody_looks() -> bool:
    """Whether a bar that moves would be seen: stderr is a terminal or a notebook's, and no pipe and no file."""
    stream = sys.stderr
    return stream is not None and (stream.isatty() or type(stream).__module__.startswith("ipykernel"))
