"""Benchmarks: estimators over tasks whose information is known, and what the library around the networks costs."""

from mmg_diffusers.commands.studies.benchmarks.tasks import (
    HEADLINE,
    Plan,
    Summary,
    measure_task,
    run,
    summarise,
    table,
    write,
)

__all__ = ["HEADLINE", "Plan", "Summary", "measure_task", "run", "summarise", "table", "write"]
