"""Where ``mmg-diffusers`` starts: without its extra it says how to install that."""

from __future__ import annotations

import sys

from mmg_diffusers.checks import needs


def main() -> None:
    """Run the command line."""
    try:
        for package in ("typer", "rich"):
            needs(package, "cli")
    except ModuleNotFoundError as error:
        print(f"mmg-diffusers: {error}", file=sys.stderr)
        sys.exit(2)
    from mmg_diffusers.commands.app import app

    app()
