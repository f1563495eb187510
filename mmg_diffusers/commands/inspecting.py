"""What a model is, for a command."""

from __future__ import annotations

from mmg_diffusers.commands.console import console, shorten
from mmg_diffusers.commands.inputs import Networks
from mmg_diffusers.pipelines.inspection import inspect_model


def inspect(networks: Networks) -> None:
    """Print what is found in a model; no network is run.

    Raises:
        TypeError, ValueError, OSError: for what is no model or cannot be read.
    """
    from rich.table import Table

    table = Table(show_header=False)
    found = inspect_model(networks.place, null=networks.null, variant=networks.variant, revision=networks.revision)
    for name, value in found.rows().items():
        table.add_row(name, shorten(value))
    console.print(table)
