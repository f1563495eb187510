"""Prints the table of malformed inputs, with the error that each gets."""

import html
import logging
import tempfile
import warnings
from pathlib import Path

from mmg_diffusers import MMGPipeline, shapes_model
from tests.bad_inputs import ROWS
from tests.bad_inputs.room import PACKAGE, Room, no_network

LONGEST = 230


def answer(row, room) -> str:
    """The error that a row gets, in one line."""
    try:
        given = row.call(room)
    except Exception as error:
        kind = "exit status 2" if type(error).__name__ == "CommandFailed" else type(error).__name__
        said = " ".join(f"{kind}: {error}".replace(str(room.folder), "…").replace(f"{PACKAGE}/models/", "").split())
        return said if len(said) <= LONGEST else said[:LONGEST].rstrip() + " …"
    return f"NO ERROR, but {given!r}"


def cell(text: str) -> str:
    """Text that a Markdown table shows as it is."""
    for mark in "\\|*_`[":
        text = text.replace(mark, f"\\{mark}")
    return html.escape(text, quote=False)


def table() -> str:
    """The page."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    pipe = MMGPipeline.from_pretrained(shapes_model())
    pipe.set_progress_bar_config(disable=True)
    entries = len({row.entry for row in ROWS})
    lines = [
        "# What malformed input gets",
        "",
        f"{len(ROWS)} malformed inputs over {entries} groups of entry points, and the error that each gets. "
        "`tests/test_bad_inputs.py` holds them to it:",
        "no UNet, image encoder or small network runs before the refusal, the error is raised by the package and not deep "
        "in a dependency,",
        "and none yields a number. This page is what the command prints (… is a folder of its own):",
        "",
        "    python -m tests.bad_inputs > docs/bad_inputs.md",
        "",
        "| entry point | what is wrong | error |",
        "|---|---|---|",
    ]
    for row in ROWS:
        with tempfile.TemporaryDirectory() as folder, no_network():
            said = answer(row, Room(pipe, Path(folder)))
        lines.append(f"| {cell(row.entry)} | {cell(row.wrong)} | {cell(said)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
