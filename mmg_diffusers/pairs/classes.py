"""Classes as prompts: numbers, for models that are told classes in place of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import Self

from mmg_diffusers.checks import whole

# Columns whose numbers are classes, also if they are written out: of folders of images, and of webdataset shards.
CLASS_COLUMNS = ("label", "cls")


class ClassNumber(str):
    """A prompt that is a class by its number: ``pipe(images, [207, 3])`` makes some. Its text is the number's.

    Wherever prompts are text, it is text; a model that is told text refuses it.

    Args:
        number: of the class, from 0; numpy's and torch's are taken too.
        name: what a data set calls the class, to hold against the model's own names.

    Raises:
        TypeError: for anything but a whole number; a truth value is none.
        ValueError: for a negative one.
    """

    name: str | None

    def __new__(cls, number: object, name: str | None = None) -> Self:
        made = super().__new__(cls, whole(number, "the number of a class", 0))
        made.name = name
        return made

    def __getnewargs__(self) -> tuple[int, str | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return int(self), self.name


def _is_number(value: object) -> bool:
    """Whether a value is a whole number; truth values are none."""
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, np.integer)):
        return True
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0 and _holds_numbers(value)


def _holds_numbers(values: Tensor | np.ndarray[Any, Any]) -> bool:
    kind = str(values.dtype).removeprefix("torch.")
    return kind.startswith(("int", "uint"))


def as_prompt(value: Any) -> Any:
    """A whole number as a `ClassNumber`; anything else as it is, for others to look at.

    Raises:
        ValueError: for a negative number.
    """
    return ClassNumber(value) if _is_number(value) else value


def prompt_in(column: str, value: Any, names: Sequence[str] = ()) -> Any:
    """What a cell of a column of prompts holds, as a prompt: a whole number is a class, also if it is written out in a column of labels;
    anything else is as it is, for others to look at.

    Args:
        column: its name.
        value: of the cell.
        names: what the data set calls the classes of the column, in their order.
    """
    written = isinstance(value, str) and column in CLASS_COLUMNS and value.strip().isdecimal()
    number: Any = int(value) if written else value
    if not _is_number(number) or number < 0:
        return value
    return ClassNumber(number, names[int(number)] if number < len(names) else None)


@dataclass(frozen=True)
class ClassNames:
    """What a data set calls the classes of its columns, in their order; empty for one that does not say."""

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Mapping[str, Any]) -> ClassNames:
        """Of the features of a `datasets.Dataset`: its columns of `ClassLabel`."""
        labels = {column: feature for column, feature in features.items() if type(feature).__name__ == "ClassLabel"}
        return cls({column: feature.names for column, feature in labels.items() if feature.names})

    def prompt(self, column: str, value: Any) -> Any:
        """A cell as a prompt, as `prompt_in` reads it."""
        return prompt_in(column, value, self.columns.get(column, ()))


def as_prompts(values: Any) -> Any:
    """The same for each of a list, or of an array or tensor `(N,)` of whole numbers."""
    if isinstance(values, (Tensor, np.ndarray)):
        return (
            [as_prompt(value) for value in values.tolist()] if values.ndim == 1 and _holds_numbers(values) else values
        )
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return [as_prompt(value) for value in values]
    return values


def name_of(prompt: Any) -> Any:
    """What a data set calls a class, in place of its number; anything else, and a class without a name, as it is."""
    return prompt.name if isinstance(prompt, ClassNumber) and prompt.name else prompt
