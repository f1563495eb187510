"""Runs on one process or on many: shard, measure, gather once."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mmg_diffusers.checks import whole
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.runs.shards import Measure, Outcome, RunFolder, collect, run


def run_everywhere(
    measure: Measure,
    source: Source,
    output: str | Path,
    settings: Mapping[str, Any],
    *,
    strict: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Outcome | None:
    """Measure every pair of a source, sharded over the processes of one launch (see `this_process`); resumable.

    OUTPUT gets one file a chunk of pairs as it is done, then ``pairs.parquet`` and ``estimate.safetensors``.

    Args:
        measure: measures the rows of one chunk.
        source: the same rows on every process.
        output: a folder of its own for every combination of data set, model and settings.
        settings: what the numbers depend on, as JSON can hold it.
        strict: stop at the first bad pair; by default it is recorded with its reason.
        limit: only the first pairs.
        progress: whether the main process shows a bar, which counts the pairs of all processes.

    Returns:
        on the main process, the outcome; ``None`` on the others.

    Raises:
        ValueError: for a folder of another run, a source without rows, or a bad pair where `strict`.
        OSError: when the folder cannot be written to; what was finished is kept.
    """
    if limit is not None:
        whole(limit, "limit", 1)
    state = this_process()
    folder = RunFolder(output, {**settings, "source": source.name, "limit": limit})
    count = source.count()
    found = run(
        measure,
        islice(iter(source), limit),
        folder,
        rank=state.process_index,
        world=state.num_processes,
        strict=strict,
        total=count if limit is None or count is None else min(count, limit),
        progress=progress and state.is_main_process,
    )
    if not found:
        raise ValueError("the source has no rows; expected at least one pair")
    outcome = None
    if state.is_main_process:
        outcome = collect(folder, found)
        outcome.save(folder.folder)
    state.wait_for_everyone()
    return outcome
