"""What commands answer: lines and tables on a screen, one JSON document with ``--json``, and where things were written."""

from __future__ import annotations

import inspect
import json as as_json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmg_diffusers.commands.console import console, errors_as_messages, of_a_shell, say, shorten
from mmg_diffusers.commands.options import Json
from mmg_diffusers.commands.signature import expanded, signed
from mmg_diffusers.files.printed import in_full

if TYPE_CHECKING:
    from rich.console import Console

    from mmg_diffusers.measure.measured import Measured
    from mmg_diffusers.measure.value import Value

# Rows of a table on screen; files have all.
MOST = 12
# What the mean is called whose error is over pictures, some of which stand in several pairs.
BY_PICTURE = "mean, clustered by picture"
# Letters of a cell.
WIDEST = 60


@dataclass(frozen=True)
class Grid:
    """A table: drawn on a terminal, Markdown elsewhere.

    Args:
        columns: their names; those after the first few that hold text are numbers.
        rows: cells, as text.
        texts: how many columns hold text.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def show(self) -> None:
        """Print it."""
        few = [[shorten(cell, WIDEST) for cell in row] for row in self.rows[:MOST]]
        if not console.is_terminal:
            lines = ["---"] * self.texts + ["--:"] * (len(self.columns) - self.texts)
            say("\n".join(f"| {' | '.join(row)} |" for row in (self.columns, lines, *few)))
        else:
            from rich import box
            from rich.table import Table

            table = Table(box=box.SIMPLE_HEAD)
            for place, name in enumerate(self.columns):
                table.add_column(name, justify="left" if place < self.texts else "right", no_wrap=place >= self.texts)
            for row in few:
                table.add_row(*(cell.replace("[", r"\[") for cell in row))
            console.print(table)
        if len(self.rows) > MOST:
            say(f"and {len(self.rows) - MOST} more rows, in the files")


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Args:
        values: what ``--json`` prints: numbers with their units, standard errors, verdict and findings.
        says: for a screen: lines, `Grid` tables, or what rich prints.
        wrote: files, told of at the end.
        status: of the process.
    """

    values: Mapping[str, Any]
    says: Sequence[object] = ()
    wrote: Sequence[Path] = ()
    status: int = 0

    def show(self, json: bool, on: Console | None = None) -> None:
        """Print it, as JSON or for a reader.

        Args:
            json: whether as JSON.
            on: what tables of rich are drawn on, if it is not the terminal.

        Raises:
            typer.Exit: for a status other than 0.
        """
        if json:
            held = plain({**self.values, "wrote": [str(path) for path in self.wrote]})
            sys.stdout.write(as_json.dumps(held, indent=1, allow_nan=False) + "\n")
        else:
            for one in self.says:
                if isinstance(one, Grid):
                    one.show()
                elif hasattr(one, "__rich_console__"):
                    (on or console).print(one)
                else:
                    with in_full():
                        say(of_a_shell(str(one)))
            if BY_PICTURE in self.values:
                say(f"{BY_PICTURE}: {self.values[BY_PICTURE]}")
            for path in self.wrote:
                say(f"wrote {path}")
        if self.status:
            raise typer.Exit(self.status)


def of_record(result: Measured, rows: Any = None) -> dict[str, Any]:
    """A record as ``--json`` prints it.

    Args:
        result: what was measured.
        rows: its table, one row a pair, if it is not `to_pandas`.
    """
    from mmg_diffusers.measure.verdict import mapping_of

    held: Any = result
    table = held.to_pandas() if rows is None else rows
    more = {name: getattr(held, name) for name in ("certificate", "logsnr_range", "evaluations") if hasattr(held, name)}
    found = mapping_of(result.verdict)
    clustered = by_picture(result, list(table["image"])) if "image" in table and len(table) == len(result) else {}
    return {
        "kind": result.KIND,
        "mean": result.mean(),
        "pairs": len(result),
        "verdict": found["verdict"],
        "findings": [{**one, "text": of_a_shell(one["text"])} for one in found["findings"]],
        **clustered,
        **more,
        "rows": {"unit": "nats", "table": table.to_dict("records")},
        "settings": dict(getattr(held, "settings", {})),
        "versions": dict(getattr(held, "versions", {})),
        "notes": [of_a_shell(str(note)) for note in getattr(held, "notes", ())],
    }


def by_picture(result: Measured, pictures: Sequence[str]) -> dict[str, Value]:
    """The mean over pairs with its standard error over pictures, by its name; nothing unless a picture stands in several pairs.

    Args:
        result: what was measured.
        pictures: a name of each pair's picture; empty of one that is known by none.
    """
    names = [name or f"pair {place}" for place, name in enumerate(pictures)]
    if not 1 < len(set(names)) < len(names):
        return {}
    return {BY_PICTURE: result.mean(cluster=names)}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; what is no number is null."""
    if isinstance(value, Mapping):
        return {str(name): plain(held) for name, held in value.items()}
    unit = getattr(value, "unit", None)
    if unit is not None and isinstance(value, tuple):
        return {"value": plain(value[0]), "stderr": plain(value[1]), "unit": unit}
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    listed = getattr(value, "tolist", None)
    if listed is not None:
        return plain(listed())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def place(output: Path | None, usual: str, makes: Sequence[str], overwrite: bool) -> Path:
    """Where results go, so that none are lost: by default the first of runs/NAME, runs/NAME-2, ... that holds none yet.

    Args:
        output: what was asked for.
        usual: the folder by default.
        makes: files that are going to be written.
        overwrite: whether they may take the place of others.

    Raises:
        ValueError: when the folder that was asked for holds one of them.
    """
    if output is not None:
        there = next((name for name in makes if (output / name).exists()), None)
        if there is not None and not overwrite:
            raise ValueError(f"{output} holds {there} already; choose another --output, or add --overwrite")
        return output
    number, folder = 1, Path(usual)
    while not overwrite and any((folder / name).exists() for name in makes):
        number += 1
        folder = Path(f"{usual}-{number}")
    return folder


def as_command(command: Callable[..., Answer | None]) -> Callable[..., None]:
    """What the command line registers: options of groups written out, ``--json``, errors as messages, warnings kept to the records."""
    whole = expanded(command)
    options = [*inspect.signature(whole).parameters.values()]
    options.append(inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json))

    def run(*, json: bool = False, **given: Any) -> None:
        with errors_as_messages():
            # Whatever a library prints meanwhile is not a part of the document.
            with redirect_stdout(sys.stderr) if json else nullcontext():
                answer = whole(**given)
            if answer is not None:
                answer.show(json)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__wrapped__ = command  # type: ignore[attr-defined]
    return signed(run, options)
