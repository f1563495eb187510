"""Options that belong together, written once: a dataclass of options stands as one parameter of a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import ArgumentInfo

PAIRS, RUN, HOW, MODEL = HEADINGS = ("Pairs", "Run", "How", "Model")
"""What groups of options stand under in a help, in this order."""


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with an option for each field of the dataclasses among its parameters: arguments first, then its own options, then theirs.

    A field's annotation is that of an option or argument, and its default is the option's. The command itself is handed the
    dataclasses.

    Raises:
        TypeError: when two options have the same name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, list[str]]] = {}
    own, others = [], []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            own.append(_option(parameter.name, kind, parameter.default))
            continue
        assert isinstance(kind, type)
        held = get_type_hints(kind, include_extras=True)
        options = [
            _option(item.name, _under(held[item.name], kind), _default(item)) for item in fields(kind) if item.init
        ]
        groups[parameter.name] = (kind, [option.name for option in options])
        others += options
    options = [*own, *others]
    # Arguments stand in the order of the groups, a model before what it is asked about; options of the command itself come first.
    arguments = sorted((one for one in options if _is_argument(one)), key=lambda one: one not in others)
    headed = sorted((one for one in others if not _is_argument(one)), key=_heading)
    options = [*arguments, *(one for one in own if not _is_argument(one)), *headed]
    names = [option.name for option in options]
    if len(set(names)) < len(names):
        raise TypeError(f"{command.__name__} has an option twice: {sorted(names)}")

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        packed = {name: kind(**{key: given.pop(key) for key in keys}) for name, (kind, keys) in groups.items()}
        return command(**packed, **given)

    return signed(run, options)


def signed(run: Callable[..., Any], options: list[inspect.Parameter]) -> Callable[..., Any]:
    """Give a function the signature that the command line reads."""
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    # `typing.get_type_hints` would look through it to the function that is wrapped.
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def _under(annotation: Any, kind: type) -> Any:
    """The annotation of an option, shown under the heading that its group has."""
    value, *parts = get_args(annotation)
    heading = getattr(kind, "HEADING", None)
    moved = [copy(part) for part in parts]
    for part in moved:
        if heading is not None and not isinstance(part, ArgumentInfo):
            part.rich_help_panel = heading
    return Annotated[(value, *moved)]  # type: ignore[return-value]


def _heading(option: inspect.Parameter) -> int:
    shown = next((part.rich_help_panel for part in option.annotation.__metadata__), None)
    return HEADINGS.index(shown) if shown in HEADINGS else -1


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(item: Any) -> Any:
    return inspect.Parameter.empty if item.default is MISSING else item.default


def _is_argument(option: inspect.Parameter) -> bool:
    return any(isinstance(part, ArgumentInfo) for part in getattr(option.annotation, "__metadata__", ()))
