"""Runs on one process or on many: shard, measure, gather once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import whole
from mmg_diffusers.files.records import versions
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.runs.parts import Expected, Part
from mmg_diffusers.runs.processes import this_process
from mmg_diffusers.runs.shards import Measure, Outcome, RunFolder, collect, run

if TYPE_CHECKING:
    from accelerate import PartialState


def run_everywhere(
    measure: Measure,
    source: Source,
    output: str | Path | Part,
    settings: Mapping[str, Any],
    *,
    strict: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Outcome | None:
    """Measure every pair of a source, sharded over the processes of one launch (see `this_process`); resumable.

    OUTPUT gets one file a chunk of pairs as it is done, then ``pairs.parquet`` and ``estimate.safetensors``. A run that goes on
    compares every picture with the one that was measured, and measures again what changed, and what could not be read
    before; `Outcome.notes` says so. It goes on with the versions of the packages that it began with.

    Args:
        measure: measures the rows of one chunk.
        source: the same rows on every process.
        output: a folder for it alone, another one for every combination of data set, model and settings; or a `Part`, which
            measures its share and leaves the others to other launches, whenever they are.
        settings: what the numbers depend on, as JSON can hold it.
        strict: stop at the first bad pair; by default it is recorded with its reason, and tried again by the next run if its
            picture could not be read, or has changed.
        limit: only the first pairs.
        progress: whether the main process shows a bar, which counts the pairs of all processes.

    Returns:
        on the main process, the outcome, of a part what the folder has so far; ``None`` on the others.

    Raises:
        ValueError: for a folder of another run, a source without rows, or a bad pair if `strict`.
        OSError: when the folder cannot be written to, or the pictures' folder is away; what was finished is kept.
    """
    if limit is not None:
        whole(limit, "limit", 1)
    state = this_process()
    part = output if isinstance(output, Part) else Part(output)
    folder = RunFolder(part.folder, {**settings, "source": source.name, "limit": limit, "versions": versions()})
    count = source.count()
    launch = _name_of_launch(state)
    done = run(
        measure,
        islice(iter(source), limit),
        folder,
        rank=state.process_index,
        world=state.num_processes,
        launch=launch,
        strict=strict,
        total=count if limit is None or count is None else min(count, limit),
        progress=progress and state.is_main_process,
        part=part,
    )
    if not done:
        raise ValueError("the source has no rows; expected at least one pair")
    outcome = None
    if state.is_main_process:
        listed = folder.shards.listed()
        complete = part.whole or len(listed) >= done
        if complete:
            outcome = collect(folder, done)
        else:
            outcome = Outcome.load(folder.folder) if listed else _of_nothing(folder.folder)
            if not any(map(part.has, range(done))):
                said = f"part {part.number}/{part.of} has no pairs, since all of them are in {done} chunk{'s' * (done > 1)}"
                outcome = replace(outcome, notes=(said, *outcome.notes))
        outcome = replace(outcome, notes=(*source.notes, *outcome.notes))
        if complete:
            outcome.save(folder.folder)
    state.wait_for_everyone()
    if launch is not None and state.is_main_process:
        folder.unmark(launch, state.num_processes)
    return outcome


def _of_nothing(folder: Path) -> Outcome:
    """What a run has before any of its parts that have pairs."""
    expected = Expected.load(folder)
    lacks = None if expected is None else expected.lacks((), 0)
    return Outcome(None, (), {}, () if lacks is None else (lacks,))


def _name_of_launch(state: PartialState) -> str | None:
    """A name that all processes of this launch know, and no others; ``None`` for one that is alone."""
    if state.num_processes == 1:
        return None
    from accelerate.utils import broadcast_object_list

    name = [secrets.token_hex(6)]
    broadcast_object_list(name)
    return name[0]
