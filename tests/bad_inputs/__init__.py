"""Malformed inputs over every public entry point, each with the error that it must get.

python -m tests.bad_inputs > docs/bad_inputs.md    # what each gets
"""

from tests.bad_inputs import (
    arrays,
    commands,
    core,
    densities,
    early,
    families,
    fitting,
    labels,
    models,
    options,
    pictures,
    readings,
    tables,
    uses,
    videos,
)

ROWS = tuple(
    row
    for part in (
        pictures,
        videos,
        options,
        models,
        families,
        tables,
        arrays,
        labels,
        core,
        densities,
        readings,
        uses,
        fitting,
        commands,
        early,
    )
    for row in part.ROWS
)
