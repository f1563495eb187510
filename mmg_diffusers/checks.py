"""Checks of plain values, which say what was passed, what was expected, and where."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def whole(value: SupportsIndex, name: str, least: int, hint: str = "") -> int:
    """A whole number, as an `int`; numpy's are taken too.

    Args:
        value: what was passed.
        name: how the user knows it.
        least: the smallest that is allowed.
        hint: what the number counts, where the name does not say it.

    Raises:
        TypeError: for what is no whole number, a truth value among them.
        ValueError: for less than `least`.
    """
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is {value!r}, a {type(value).__name__}; expected a whole number")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}{hint}")
    return number
