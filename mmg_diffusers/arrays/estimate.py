"""Mutual information of two arrays from samples alone: the library's second front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.arrays.fitted import FittedModel, check_estimator
from mmg_diffusers.arrays.fitting import FitSettings, fit, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.values import as_array, named, pairs_in
from mmg_diffusers.checks import callback, file_path, finite, of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG

Data = Mapping[str, NDArray[np.generic]]

FEWEST = 200
LOW, HIGH, HIGHEST = -8.0, 12.0, 22.0


def fit_model(
    data: Mapping[str, ArrayLike | Tensor],
    *,
    given: tuple[str, ...] = ("y",),
    base: tuple[str, ...] = (),
    settings: FitSettings | None = None,
    held_out: float = 0.05,
    width: int = 64,
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
    order = np.random.default_rng(seed).permutation(count)
    few = max(32, round(held_out * count))
    if count - few < FEWEST // 2:
        raise ValueError(f"held_out is {held_out}, which leaves {count - few} of {count} pairs to fit; lower it")
    parts = [{name: values[rows] for name, values in arrays.items()} for rows in (order[few:], order[:few])]
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
        network = VectorNetwork(sizes, preprocessing.covariance, logsnr_range=(LOW, high), width=width, seed=seed)
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
            "pairs_fitted": count - few,
            "fitted_to": data_identity,
            "width": width,
            "range": [LOW, high],
        },
    )


def estimate_mi(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    given: ArrayLike | Tensor | None = None,
    test: tuple[ArrayLike | Tensor, ...] | None = None,
    test_share: float = 0.3,
    estimator: MMG | MINDE | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Estimate:
    """Estimate the mutual information of x and y from samples: fit a small denoiser to one part, measure another.

    Args:
        x, y: numpy arrays, tensors, lists or a column of a data set: `(N,)` or `(N, d)` floats (more axes are flattened),
            or `(N,)` integer labels. Row n of both is one pair.
        given: a third variable, for I(x; y | given).
        test: other pairs ``(x, y)`` or ``(x, y, given)`` to measure; by default a share of those given.
        test_share: that share.
        estimator: integrand and quadrature; see `FittedModel.estimate`.
        settings: of the training.
        seed: of the split, the training and the noise.
        progress: called with the optimizer steps done.

    Returns:
        the record of the measured pairs: ``.mean()`` is the mutual information in nats with its standard error.

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
    if test is not None:
        of_type(test, (tuple, list), "test", f"a tuple of {len(names)} arrays, as for the fit")
        if len(test) != len(names):
            raise ValueError(f"test holds {len(test)} arrays; expected {len(names)}, as for the fit")
        measured = {name: as_array(value, f"test {name}") for name, value in zip(names, test, strict=True)}
        pairs_in(measured, 1)
        for name in names:
            if measured[name].shape[1:] != arrays[name].shape[1:]:
                raise ValueError(f"test {name} has shape {measured[name].shape}, {name} has {arrays[name].shape}")
        fitted = arrays
    else:
        if not 0 < finite(test_share, "test_share") < 1:
            raise ValueError(f"test_share is {test_share}; expected a share between 0 and 1")
        order = np.random.default_rng([seed, 1]).permutation(count)
        cut = max(1, round(test_share * count))
        if count - cut < FEWEST:
            raise ValueError(
                f"got {count} pairs, of which test_share={test_share} leaves {count - cut} to fit; expected at least {FEWEST}: "
                "pass more pairs, or a smaller share"
            )
        fitted = {name: value[order[cut:]] for name, value in arrays.items()}
        measured = {name: value[order[:cut]] for name, value in arrays.items()}
    for name in names:
        unknown = np.setdiff1d(measured[name], fitted[name]) if measured[name].ndim == 1 else []
        if len(unknown):
            raise ValueError(
                f"{name} has the label {shown(unknown[0].item())}, which the pairs to fit lack; add pairs of it"
            )
    base = () if given is None else ("c",)
    model = fit_model(fitted, base=base, settings=settings, seed=seed, progress=progress)
    return model.estimate(measured, estimator=estimator, seed=seed)
