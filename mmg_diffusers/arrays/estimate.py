"""Mutual information of two arrays from samples alone: the library's second front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.arrays.counts import Counted
from mmg_diffusers.arrays.determined import refuse_determined
from mmg_diffusers.arrays.discrete import kind_of
from mmg_diffusers.arrays.fitted import FittedModel, check_estimator
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.floors import Floors, read
from mmg_diffusers.arrays.folds import MANY, Asked, Fold, fit_and_measure, fit_members, joined
from mmg_diffusers.arrays.judging import again, disagreement, first, judge
from mmg_diffusers.arrays.rows import Rows, examine
from mmg_diffusers.arrays.values import as_array, named, pairs_in
from mmg_diffusers.arrays.workers import Crew
from mmg_diffusers.checks import callback, file_path, finite, of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG

Data = Mapping[str, NDArray[np.generic]]

FEWEST = 200
# Of few pairs more are held out, so that the end of training is no accident.
HELD_OUT, MOST_HELD_OUT = 350, 0.15
# Folds of few pairs, and the share that is measured of many.
FOLDS, SHARE = 5, 0.3
# Width of networks, and pairs a step and width where few pairs are cut into folds.
WIDTH, FEW_BATCH, FEW_WIDTH = 64, 128, 32


def fit_model(
    data: Mapping[str, ArrayLike | Tensor],
    *,
    given: tuple[str, ...] = ("y",),
    base: tuple[str, ...] = (),
    settings: FitSettings | None = None,
    held_out: float = 0.05,
    width: int = WIDTH,
    blocks: ArrayLike | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> FittedModel:
    """Fit the two denoisers of I(diffused; given | base) to pairs.

    Args:
        data: values by name, `(N, d)` floats or `(N,)` integer labels. The variable in neither `given` nor `base` is
            diffused; without `base` the smaller of the two is, since mutual information is symmetric.
        given, base: names.
        settings: of the training; chosen from the data's width by default.
        held_out: share of the pairs that decides when to stop.
        width: of the network.
        blocks: one label a pair; those of one block are not parted. By default each pair stands alone.
        seed: of the split, the weights and the batches.
        checkpoint: file to resume from. It holds the `Identity` of `data`, and what else is said here.
        progress: called with the optimizer steps done.

    Raises:
        ValueError: for names that the data lack, for a checkpoint of other data or other settings, and as `estimate_mi`
            does.
    """
    seed = _checked(settings, seed, progress)
    width, held_out = whole(width, "width", 1), _share(held_out, "held_out")
    for names, name in ((given, "given"), (base, "base")):
        of_type(names, (tuple, list), name, "a tuple of names of variables")
    checkpoint = None if checkpoint is None else file_path(checkpoint, "checkpoint")
    arrays = {name: as_array(values, name) for name, values in data.items()}
    count = pairs_in(arrays, FEWEST)
    unknown = [name for name in (*given, *base) if name not in arrays]
    if unknown:
        raise ValueError(f"there is no variable {shown(unknown[0])}; the data hold {named(arrays)}")
    few = max(32, round(held_out * count))
    if count - few < FEWEST // 2:
        raise ValueError(f"held_out is {held_out}, which leaves {count - few} of {count} pairs to fit; lower it")
    together = Rows() if blocks is None else examine(arrays, blocks)
    aside, kept = together.part(count, few / count, np.random.default_rng(seed))
    parts = [{name: values[rows] for name, values in arrays.items()} for rows in (kept, aside)]
    data_identity = str(Identity.of(arrays))
    origin = {
        "data": data_identity,
        "given": list(given),
        "base": list(base),
        "held_out": held_out,
        "width": width,
    }
    (model,) = fit_members(
        [(parts[0], parts[1])],
        Asked(tuple(given), tuple(base), width),
        settings,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        origin=origin,
    )
    return replace(model, settings={**model.settings, "fitted_to": data_identity})


def estimate_mi(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    given: ArrayLike | Tensor | None = None,
    test: tuple[ArrayLike | Tensor, ...] | None = None,
    test_share: float | None = None,
    folds: int | None = None,
    workers: int = 1,
    blocks: ArrayLike | None = None,
    estimator: MMG | MINDE | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Estimate | Counted:
    """Estimate the mutual information of x and y from samples: fit a small denoiser to one part, measure another.

    Cheap readings are taken first (nearest neighbours, the Gaussian part, tables of column pairs); they are kept in
    ``settings["readings"]``. A fit that finds less is made anew with other features and more steps, and if that does not help,
    the reading stands in its place, and a warning says which it is, and by how much it was missed. Two discrete variables are
    counted, and no network is fitted. Of information that is conditional on a third variable there are no readings: a part may
    tell more than the whole.

    Args:
        x, y: numpy arrays, tensors, lists or a column of a data set: `(N,)` or `(N, d)` floats (more axes are flattened),
            or `(N,)` integer labels. Row n of both is one pair.
        given: a third variable, for I(x; y | given).
        test: other pairs ``(x, y)`` or ``(x, y, given)`` to measure; by default some of those given.
        test_share: the share of the pairs that is measured by a network fitted to the others.
        folds: in place of it, into how many parts the pairs are cut, each of which is measured by a network fitted to the
            others, so that all are measured. By default 5 for fewer than 3,000 pairs, and a share of 0.3 of more. The
            networks are trained side by side, by as many threads as torch has.
        workers: processes that folds are shared among, of one thread each; no more than there are folds are started. They go in
            step, so that the number is that of one process up to rounding. Of 1,000 pairs two take no less time than one, of many
            more they do (docs/benchmarks.md). A script that asks for them does so beneath ``if __name__ == "__main__":``.
        blocks: one label a row, the same for rows that depend on each other, or how many rows in a row do. They are not parted,
            and count once in the error. By default copies of a row, and long pieces of a series.
        estimator: integrand and quadrature; see `FittedModel.estimate`.
        settings: of the training; with them there is no second fit.
        seed: of the split, the training and the noise.
        progress: called with the optimizer steps done.

    Returns:
        the record of the measured pairs: ``.mean()`` is the mutual information in nats with its standard error, whose parts
        beyond the pairs' own are in ``.allowance``; a `Counted` of two discrete variables.

    Raises:
        ValueError: for lengths that differ, too few pairs, values that are not finite, constant columns, variables of
            which one determines the other, or workers where one network is fitted.
        RuntimeError: when a worker has ended before its folds were measured.
    """
    seed = _checked(settings, seed, progress)
    workers = whole(workers, "workers", 1)
    check_estimator(estimator)
    names = ("x", "y") if given is None else ("x", "y", "c")
    values = (x, y) if given is None else (x, y, given)
    arrays = {name: as_array(value, name) for name, value in zip(names, values, strict=True)}
    count = pairs_in(arrays, FEWEST)
    by_default = folds is None
    folds, share = _cut(count, test, test_share, folds)
    rng = np.random.default_rng([seed, 1])
    others = None if test is None else _others(test, arrays)
    if others is not None:
        arrays = {name: np.concatenate([value, others[name]]) for name, value in arrays.items()}
    kinds = {name: kind_of(value, name) for name, value in arrays.items()}
    notes = tuple(note for kind in kinds.values() for note in kind.notes)
    ours = {name: value[:count] for name, value in arrays.items()}
    for name, value in ours.items():
        single = np.unique(value[:10]).size < 2 and np.unique(value).size < 2
        if single and value.ndim == 1:
            raise ValueError(f"{name} has a single label, {shown(value[0].item())}; it carries no information")
    discrete = [kind.discrete for kind in kinds.values()]
    if given is None and discrete[0] is not None and discrete[1] is not None:
        measured = slice(None) if others is None else slice(count, None)
        told = {"seed": seed, "told": "both variables are discrete, and their table of counts says it all"}
        return Counted.of(discrete[0][measured], discrete[1][measured], settings=told, notes=notes)
    if workers > 1 and folds is None:
        raise ValueError(
            f"workers is {workers}, and one network is fitted to a share of the pairs, which one process does; pass folds={FOLDS} in place of "
            "the share, or leave workers out"
        )
    refuse_determined(ours)
    rows = examine(ours, blocks)
    data = {name: kind.spread(rng) for name, kind in kinds.items()}
    if others is not None:
        parts = [(np.arange(count, len(data["x"])), np.arange(count))]
    elif folds is not None:
        blocks_of_rows = count if rows.blocks is None else int(rows.blocks.max()) + 1
        folds = min(folds, blocks_of_rows) if by_default else folds
        parts = rows.folds(count, folds, rng)
    else:
        parts = [rows.part(count, share, rng)]
    fewest = min(len(kept) for _, kept in parts)
    if fewest < FEWEST:
        raise ValueError(
            f"got {count} pairs, of which {f'folds={folds}' if folds else f'test_share={share}'} leaves {fewest} to fit; expected at least "
            f"{FEWEST}: pass more pairs, or {'more folds' if folds else 'a smaller share'}"
        )
    for name, kind in kinds.items():
        if kind.values.ndim == 1:
            for _, kept in parts:
                _refuse_unknown(data[name], kept, name)
    independent = rows.independent(count, FEWEST)
    size = sum(1 if value.ndim == 1 else value.shape[1] for value in data.values())
    # Few pairs need fewer weights, and fewer of them a step; several networks are trained at once.
    small = {} if folds is None or fewest >= MANY else {"batch": FEW_BATCH}
    usual = FitSettings.for_size(size, fewest, **small)
    measured = np.concatenate([aside for aside, _ in parts])
    those = Rows() if others is not None else rows.of(measured)
    base = () if given is None else ("c",)
    held_out = min(max(0.05, HELD_OUT / fewest), MOST_HELD_OUT)

    def taken(which: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        return {name: value[which] for name, value in data.items()}

    def by_one(how: FitSettings) -> tuple[list[Estimate], FittedModel]:
        aside, kept = parts[0]
        together = None if rows.blocks is None else rows.blocks[kept]
        model = fit_model(
            taken(kept), base=base, settings=how, held_out=held_out, blocks=together, seed=seed, progress=progress
        )
        return [model.estimate(taken(aside), estimator=estimator, seed=seed)], model

    def by_folds(how: FitSettings) -> tuple[list[Estimate], FittedModel]:
        cut = [(aside, kept, *rows.of(kept).part(len(kept), held_out, rng)) for aside, kept in parts]
        pieces = [Fold(taken(kept[fit]), taken(kept[held]), taken(aside)) for aside, kept, held, fit in cut]
        asked = Asked(base=base, width=FEW_WIDTH if small else WIDTH)
        done = crew.run(fit_and_measure, pieces, asked, how, estimator, seed, progress=progress)
        return [one for estimates, _ in done for one in estimates], done[0][1]

    def attempt(how: FitSettings) -> Estimate:
        estimates, model = by_one(how) if folds is None else by_folds(how)
        estimate, more = joined(estimates)
        return judge(estimate, model, floors, those, closed=estimator is None, more=more)

    # Others start while this process takes the readings.
    with Crew(min(workers, folds or 1)) as crew:
        floors = Floors()
        if given is None and independent is not None:
            floors = read(*(data[name][independent] for name in names), seed=seed)
        found = attempt(settings or first(usual, floors, size))
        if disagreement(found) > 0 and settings is None:
            second = attempt(again(usual, floors, size))
            found = min(found, second, key=disagreement)
    return replace(found, notes=(*rows.notes, *notes, *found.notes))


def _checked(settings: FitSettings | None, seed: int, progress: Callable[[int], object] | None) -> int:
    """Check what a fit and an estimate are both asked for; the seed."""
    callback(progress)
    if settings is not None:
        of_type(settings, FitSettings, "settings", "FitSettings(...)")
    return whole(seed, "seed", 0)


def _share(value: float, name: str) -> float:
    """Check a share of the pairs."""
    share = finite(value, name)
    if not 0 < share < 1:
        raise ValueError(f"{name} is {shown(value)}; expected a share between 0 and 1")
    return share


def _cut(count: int, test: object, test_share: float | None, folds: int | None) -> tuple[int | None, float]:
    """Into how many folds pairs are cut, or ``None``, and the share of them that is measured otherwise."""
    share = SHARE if test_share is None else _share(test_share, "test_share")
    given = {"test": test, "test_share": test_share, "folds": folds}
    several = [name for name, value in given.items() if value is not None]
    if folds is not None:
        folds = whole(folds, "folds", 2)
        if len(several) > 1:
            raise ValueError(
                f"{' and '.join(several)} are given; expected one of them, since each says which pairs are measured"
            )
    elif not several and count < MANY:
        folds = FOLDS
    return folds, share


def _others(test: tuple[ArrayLike | Tensor, ...], arrays: Data) -> dict[str, NDArray[np.generic]]:
    """The pairs to measure that were passed beside those to fit."""
    of_type(test, (tuple, list), "test", f"a tuple of {len(arrays)} arrays, as for the fit")
    if len(test) != len(arrays):
        raise ValueError(f"test holds {len(test)} arrays; expected {len(arrays)}, as for the fit")
    measured = {name: as_array(value, f"test {name}") for name, value in zip(arrays, test, strict=True)}
    pairs_in(measured, 1)
    for name, value in measured.items():
        if value.shape[1:] != arrays[name].shape[1:]:
            raise ValueError(f"test {name} has shape {value.shape}, {name} has {arrays[name].shape}")
    return measured


def _refuse_unknown(labels: NDArray[np.generic], kept: NDArray[np.int64], name: str) -> None:
    """Raise a ValueError for a label that the pairs to fit lack."""
    unknown = np.setdiff1d(labels, labels[kept])
    if len(unknown):
        times = int((labels == unknown[0]).sum())
        raise ValueError(
            f"{name} has the label {shown(unknown[0].item())} in {times} of {len(labels)} pairs, none of them among those to fit; merge rare "
            "labels into one, or pass numbers as floats"
        )
