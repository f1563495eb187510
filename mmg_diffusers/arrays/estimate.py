"""Mutual information of two arrays from samples alone: the library's second front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.arrays.counts import Counted
from mmg_diffusers.arrays.determined import refuse_determined
from mmg_diffusers.arrays.discrete import kind_of
from mmg_diffusers.arrays.fitted import FittedModel, check_estimator
from mmg_diffusers.arrays.fitting import FitSettings, fit, paired
from mmg_diffusers.arrays.floors import Floors, read
from mmg_diffusers.arrays.judging import again, disagreement, first, judge
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.rows import Rows, examine
from mmg_diffusers.arrays.values import as_array, named, pairs_in
from mmg_diffusers.checks import callback, file_path, finite, of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG

Data = Mapping[str, NDArray[np.generic]]

FEWEST = 200
LOW, HIGH, HIGHEST = -8.0, 12.0, 22.0
# Cells in which a column's mean is taken, and how much more of a variance the one direction has to tell than the other.
CELLS, CLEARLY = 128, 0.1
# Of few pairs more are held out, so that the end of training is no accident.
HELD_OUT, MOST_HELD_OUT = 350, 0.15


def fit_model(
    data: Mapping[str, ArrayLike | Tensor],
    *,
    given: tuple[str, ...] = ("y",),
    base: tuple[str, ...] = (),
    settings: FitSettings | None = None,
    held_out: float = 0.05,
    width: int = 64,
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
    seed, width, held_out = whole(seed, "seed", 0), whole(width, "width", 1), finite(held_out, "held_out")
    callback(progress)
    if settings is not None:
        of_type(settings, FitSettings, "settings", "FitSettings(...)")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share between 0 and 1")
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
    preprocessing = Preprocessing.fit(parts[0])
    sizes = preprocessing.sizes
    left = [name for name in arrays if name not in (*given, *base)]
    if len(left) != 1:
        raise ValueError(
            f"expected one variable beside given={named(given)} and base={named(base)}, got {named(left) or 'none'}"
        )
    diffused = left[0]
    if not base and len(given) == 1:
        # Labels are indicators, which are harder to denoise than what they label.
        def hardness(name: str) -> tuple[bool, int]:
            return preprocessing.variables[name].classes is not None, sizes[name]

        diffused, other = sorted((diffused, given[0]), key=hardness)[:2]
        if hardness(diffused) == hardness(other) == (False, 1):
            diffused, other = _easier(parts[0], diffused, other)
        given = (other,)
    train, other_part = (preprocessing(part) for part in parts)
    settings = settings or FitSettings.for_size(sum(sizes.values()))
    rho = float(preprocessing.correlations.max()) if len(preprocessing.correlations) else 0.0
    high = float(np.clip(-math.log(1 - rho**2) + 7, HIGH, HIGHEST))
    assignments = paired(diffused, given, base)
    data_identity = str(Identity.of(arrays))
    origin = {
        "data": data_identity,
        "given": list(given),
        "base": list(base),
        "held_out": held_out,
        "width": width,
    }
    while True:
        network = VectorNetwork(
            sizes, preprocessing.covariance, logsnr_range=(LOW, high), width=width, waves=settings.waves, seed=seed
        )
        fitted = fit(
            network,
            train,
            other_part,
            assignments,
            settings,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
            origin=origin,
        )
        network.eval().requires_grad_(False)
        if high >= HIGHEST or fitted.settled:
            break
        # The branches still differ at the clean end: information lies beyond.
        high = HIGHEST
        checkpoint = checkpoint and checkpoint.with_name(f"{checkpoint.stem}-wide{checkpoint.suffix}")
    return FittedModel(
        preprocessing,
        network,
        diffused,
        tuple(given),
        tuple(base),
        fitted,
        {
            "fit": asdict(settings),
            "fit_seed": seed,
            "pairs_fitted": len(kept),
            "fitted_to": data_identity,
            "width": width,
            "range": [LOW, high],
        },
    )


def _easier(data: Data, first: str, second: str) -> tuple[str, str]:
    """Order two columns by which of them the other tells better in the mean: that one is diffused.

    The wave y = sin(x) has one place for every x, and many x for every y, which take long to denoise.
    """
    columns = [np.asarray(data[name], dtype=float)[:, 0] for name in (first, second)]
    shares: list[float] = []
    for target, source in (columns, columns[::-1]):
        cell = np.argsort(np.argsort(source, kind="stable"), kind="stable") * CELLS // len(source)
        ranks = np.argsort(np.argsort(target, kind="stable"), kind="stable") / len(target)
        means = np.bincount(cell, ranks) / np.maximum(np.bincount(cell), 1)
        shares.append(float(means.var() / ranks.var()))
    return (second, first) if shares[1] > shares[0] + CLEARLY else (first, second)


def estimate_mi(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    given: ArrayLike | Tensor | None = None,
    test: tuple[ArrayLike | Tensor, ...] | None = None,
    test_share: float = 0.3,
    blocks: ArrayLike | None = None,
    estimator: MMG | MINDE | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Estimate | Counted:
    """Estimate the mutual information of x and y from samples: fit a small denoiser to one part, measure another.

    Cheap readings are taken first (nearest neighbours, the Gaussian part, tables of column pairs); they are kept in
    ``settings["readings"]``. A fit that finds less is made anew with other features and more steps, and if that does not help,
    a warning says which reading it missed, and by how much. Two discrete variables are counted, and no network is fitted.

    Args:
        x, y: numpy arrays, tensors, lists or a column of a data set: `(N,)` or `(N, d)` floats (more axes are flattened),
            or `(N,)` integer labels. Row n of both is one pair.
        given: a third variable, for I(x; y | given).
        test: other pairs ``(x, y)`` or ``(x, y, given)`` to measure; by default a share of those given.
        test_share: that share.
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
        ValueError: for lengths that differ, too few pairs, values that are not finite, constant columns, or variables of
            which one determines the other.
    """
    seed = whole(seed, "seed", 0)
    check_estimator(estimator)
    names = ("x", "y") if given is None else ("x", "y", "c")
    values = (x, y) if given is None else (x, y, given)
    arrays = {name: as_array(value, name) for name, value in zip(names, values, strict=True)}
    count = pairs_in(arrays, FEWEST)
    if not 0 < finite(test_share, "test_share") < 1:
        raise ValueError(f"test_share is {test_share}; expected a share between 0 and 1")
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
    refuse_determined(ours)
    rows = examine(ours, blocks)
    data = {name: kind.spread(rng) for name, kind in kinds.items()}
    if others is not None:
        aside, kept = np.arange(count, len(data["x"])), np.arange(count)
    else:
        aside, kept = rows.part(count, test_share, rng)
        if len(kept) < FEWEST:
            raise ValueError(
                f"got {count} pairs, of which test_share={test_share} leaves {len(kept)} to fit; expected at least {FEWEST}: "
                "pass more pairs, or a smaller share"
            )
    for name, kind in kinds.items():
        if kind.values.ndim == 1:
            _refuse_unknown(data[name], kept, name)
    independent = rows.independent(count, FEWEST)
    floors = Floors()
    if given is None and independent is not None:
        floors = read(*(data[name][independent] for name in names), seed=seed)
    fitted = {name: value[kept] for name, value in data.items()}
    measured = {name: value[aside] for name, value in data.items()}
    size = sum(1 if value.ndim == 1 else value.shape[1] for value in data.values())
    chosen = settings or first(FitSettings.for_size(size, len(kept)), floors, size)
    those = Rows() if others is not None else rows.of(aside)

    def attempt(how: FitSettings) -> Estimate:
        model = fit_model(
            fitted,
            base=() if given is None else ("c",),
            settings=how,
            held_out=min(max(0.05, HELD_OUT / len(kept)), MOST_HELD_OUT),
            blocks=None if rows.blocks is None else rows.blocks[kept],
            seed=seed,
            progress=progress,
        )
        estimate = model.estimate(measured, estimator=estimator, seed=seed)
        return judge(estimate, model, floors, those, closed=estimator is None)

    found = attempt(chosen)
    if disagreement(found) > 0 and settings is None:
        second = attempt(again(FitSettings.for_size(size, len(kept)), floors, size))
        found = min(found, second, key=disagreement)
    return replace(found, notes=(*rows.notes, *notes, *found.notes))


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
