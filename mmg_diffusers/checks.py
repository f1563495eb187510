"""Checks of plain values, which say what was passed, what was expected, and where."""

from __future__ import annotations

import math
import operator
import os
from importlib import import_module
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

# Counts, seeds and ids travel in 64-bit integers.
MOST = 2**63 - 1


def whole(value: object, name: str, least: int, hint: str = "") -> int:
    """A whole number, as an `int`; numpy's are taken too.

    Args:
        value: what was passed.
        name: how the user knows it.
        least: the smallest that is allowed.
        hint: what the number counts, where the name does not say it.

    Raises:
        TypeError: for what is no whole number, a truth value among them.
        ValueError: for less than `least`, or for more than 64 bits hold.
    """
    refused = TypeError(f"{name} is {value!r}, a {type(value).__name__}; expected a whole number")
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise refused
    try:
        number = operator.index(value)
    except TypeError as error:  # an array of several, or a tensor of floats
        raise refused from error
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}{hint}")
    if number > MOST:
        raise ValueError(f"{name} is {number}; expected at most {MOST}, what 64 bits hold")
    return number


def finite(value: object, name: str) -> float:
    """A finite number, as a `float`; numpy's and one-element tensors are taken too.

    Raises:
        TypeError: for what is no real number, text and truth values among them.
        ValueError: for NaN or infinity.
    """
    refused = TypeError(f"{name} is {value!r}, a {type(value).__name__}; expected a number")
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
    """The noisy end and the clean one of a part of the log-SNR axis.

    Args:
        value: what was passed.
        name: how the user knows it.
        unbounded: whether ends may be infinite.

    Raises:
        TypeError: for what are no numbers.
        ValueError: for not two of them, or NaN.
    """
    of_type(value, (tuple, list), name, "two numbers, the noisy end and the clean one")
    assert isinstance(value, (tuple, list))
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected two numbers, the noisy end and the clean one")
    infinite = (-math.inf, math.inf) if unbounded else ()
    low, high = (float(end) if end in infinite else finite(end, f"an end of {name}") for end in value)
    return low, high


def of_type(value: object, kind: type | tuple[type, ...], name: str, expected: str) -> None:
    """Raise a TypeError that says what was expected, unless the value is of that type."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"
        raise TypeError(f"{name} is {got}; expected {expected}")


def callback(value: object, name: str = "progress") -> None:
    """Raise a TypeError for something that is neither nothing nor can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {value!r}; expected a function of the number of steps done, such as a bar's update")


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
    """A path.

    Raises:
        TypeError: for what is neither text nor a path.
    """
    of_type(value, (str, os.PathLike), name, "a path, as text or pathlib.Path")
    return Path(value)
