"""Runs over data sets, on one process or on many through accelerate: shard, measure, gather once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mmg_diffusers.checks import whole
from mmg_diffusers.estimators import MMG
from mmg_diffusers.pipeline import MMGPipeline
from mmg_diffusers.quadrature import Trapezoid
from mmg_diffusers.result import Integrand
from mmg_diffusers.runs import Outcome, Row, RunFolder, collect, rows_of_dataset, rows_of_table, run
from mmg_diffusers.tables import read_pairs


class Source:
    """Rows that can be gone through more than once: a path, a data set, or a list of mappings.

    Raises:
        ValueError: as `read_pairs` and `rows_of_dataset` do.
    """

    def __init__(self, source: str | Path | Iterable[Mapping[str, Any]], prompt: str | None = None) -> None:
        self._table = read_pairs(source, prompt) if isinstance(source, (str, Path)) else None
        self._dataset = None if isinstance(source, (str, Path)) else source
        self._prompt = prompt

    def __iter__(self) -> Any:
        if self._table is not None:
            return rows_of_table(self._table)
        assert self._dataset is not None
        return rows_of_dataset(self._dataset, self._prompt)

    def count(self) -> int | None:
        """Number of rows, where it is known beforehand."""
        held = self._table if self._table is not None else self._dataset
        return len(held) if hasattr(held, "__len__") else None  # pyright: ignore[reportArgumentType]


def run_dataset(
    pipe: MMGPipeline,
    source: str | Path | Iterable[Mapping[str, Any]],
    output: str | Path,
    *,
    prompt: str | None = None,
    integrand: Integrand = "auto",
    levels: int = 64,
    draws: int = 1,
    keep: Literal["pair", "pixel"] = "pair",
    seed: int = 0,
    batch_size: int | None = None,
    resize: bool = False,
    truncate: bool = True,
    strict: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Outcome | None:
    """Measure every pair of a data set; resumable, and sharded over the processes of an accelerate launch.

    OUTPUT gets one file a chunk of pairs as it is done, then ``pairs.parquet`` and ``estimate.safetensors``. A pair's
    numbers depend on the model, the settings, the seed and its place in the source: not on the number of processes, nor
    on interruptions (bit for bit on one device type).

    Args:
        pipe: the model.
        source: a folder or table (see `read_pairs`), a `datasets.Dataset`, map-style or streaming, or mappings.
        output: a folder of its own for every combination of data set, model and settings.
        prompt: for all images, where the source has none.
        integrand, levels, draws, keep, seed, batch_size, resize: as in ``pipe(images, prompts)``.
        truncate: whether prompts that are too long are cut, with a note; else they are bad pairs.
        strict: stop at the first bad pair; by default it is recorded with its reason.
        limit: only the first pairs.
        progress: whether the main process shows a bar.

    Returns:
        on the main process, the outcome; ``None`` on the others.

    Raises:
        ValueError: for a folder of another run, or a bad pair where `strict`.
        OSError: when the folder cannot be written to; what was finished is kept.
    """
    from accelerate import PartialState

    # An option that no pair can be measured with is no bad pair.
    MMG(integrand, Trapezoid(levels), draws)
    for value, name, least in ((seed, "seed", 0), (limit, "limit", 1), (batch_size, "batch_size", 1)):
        if value is not None:
            whole(value, name, least)
    state = PartialState()
    rows = Source(source, prompt)
    settings = {
        **pipe.describe(),
        "integrand": str(integrand),
        "levels": levels,
        "draws": draws,
        "keep": keep,
        "seed": seed,
        "resize": resize,
        "truncate": truncate,
        "prompt": prompt,
        "source": str(source) if isinstance(source, (str, Path)) else type(source).__name__,
        "limit": limit,
    }
    # One process makes the folder, so that two do not write its settings at once.
    with state.main_process_first():
        folder = RunFolder(output, settings)
    bar = pipe.progress_bar_config
    pipe.set_progress_bar_config(disable=True)

    def measure(part: Any) -> Any:
        members: list[Row] = list(part)
        if not truncate:
            for row in members:
                lost = pipe.codec.truncated(row.prompt)
                if lost is not None:
                    raise ValueError(f"the text encoder does not see {lost!r}, the end of {row.prompt!r}")
        contexts = [row.given for row in members]
        some = [given for given in contexts if given is not None]
        if some and len(some) < len(contexts):
            raise ValueError("some pairs of a chunk have a context and some have none; give all or none")
        return pipe(
            [row.image for row in members],
            [row.prompt for row in members],
            given=some or None,
            integrand=integrand,
            levels=levels,
            draws=draws,
            keep=keep,
            seed=seed,
            pair_ids=[row.place for row in members],
            batch_size=batch_size,
            resize=resize,
        )

    count = rows.count()
    try:
        run(
            measure,
            islice(iter(rows), limit),
            folder,
            rank=state.process_index,
            world=state.num_processes,
            strict=strict,
            total=count if limit is None or count is None else min(count, limit),
            progress=progress and state.is_main_process,
        )
    finally:
        pipe.set_progress_bar_config(**bar)
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    outcome = collect(islice(iter(rows), limit), folder)
    if not outcome.rows:
        raise ValueError("the source has no rows; expected at least one pair")
    if outcome.estimate is not None:
        outcome.estimate.save(Path(output) / "estimate.safetensors")
    outcome.to_pandas().to_parquet(Path(output) / "pairs.parquet")
    return outcome
