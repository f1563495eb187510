"""Mutual information of two arrays from samples alone: the library's second front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.arrays.fitting import Fit, FitSettings, fit, paired
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing
from mmg_diffusers.arrays.networks import MultiDenoiser, VectorNetwork, View
from mmg_diffusers.arrays.preprocess import Preprocessing, as_array
from mmg_diffusers.checks import callback, file_path, finite, of_type, shown, whole
from mmg_diffusers.denoisers.forwards import auto_batch_size, device_of
from mmg_diffusers.files.records import pack, read_record, unpack, within
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG
from mmg_diffusers.measure.proposals import gap_fitted

Data = Mapping[str, NDArray[np.generic]]

FEWEST = 200
LOW, HIGH, HIGHEST = -8.0, 12.0, 22.0

FORMAT = "mmg_diffusers.FittedModel/1"
# What a file may ask to be built.
_NETWORKS = {"VectorNetwork": VectorNetwork, "ImageNetwork": ImageNetwork}
_PREPROCESSINGS = {"Preprocessing": Preprocessing, "ImagePreprocessing": ImagePreprocessing}


def pairs_in(data: Mapping[str, Sized], fewest: int) -> int:
    """How many pairs variables hold, at least `fewest`.

    Raises:
        ValueError: for none or too few, or variables of different lengths.
    """
    counts = {name: len(values) for name, values in data.items()}
    if not counts:
        raise ValueError("there are no variables; expected two or more by name, such as {'x': x, 'y': y}")
    if len(set(counts.values())) > 1:
        raise ValueError(f"variables differ in length: {counts}; expected one row a pair in each")
    count = next(iter(counts.values()))
    if count < fewest:
        raise ValueError(f"got {count} pairs; expected at least {fewest}, of which a part is held out to be measured")
    return count


def check_estimator(estimator: MMG | MINDE | None) -> None:
    """Raise a TypeError for what is neither nothing nor an estimator."""
    of_type(estimator, (MMG, MINDE, type(None)), "estimator", "one such as MMG('gap')")


@dataclass(frozen=True)
class FittedModel:
    """A network fitted to pairs, ready to measure other pairs of the same law.

    `diffused` names the variable that is denoised; the others are given.
    """

    preprocessing: Preprocessing | ImagePreprocessing
    network: MultiDenoiser
    diffused: str
    given: tuple[str, ...]
    base: tuple[str, ...]
    fitted: Fit
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def denoiser(self) -> View:
        """The denoiser that estimators take."""
        return self.network.view(self.diffused)

    def prepare(self, data: Mapping[str, ArrayLike | Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Pairs as estimators take them: x, the condition and the context (empty where there is none).

        Raises:
            ValueError: for variables other than those of the fit, in name, width or kind, or of different lengths.
        """
        fitted = self.preprocessing.names
        if set(data) != set(fitted):
            raise ValueError(f"got the variables {', '.join(data)}; expected those of the fit, {', '.join(fitted)}")
        ready = self.preprocessing(data)
        pairs_in(ready, 1)
        cond = {name: ready[name].float() for name in (*self.base, *self.given)}
        return ready[self.diffused].float(), cond, {name: cond[name] for name in self.base}

    def estimate(
        self,
        data: Mapping[str, ArrayLike | Tensor],
        *,
        estimator: MMG | MINDE | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Estimate:
        """Measure pairs that took no part in the fit.

        Args:
            data: values of every variable by name, N rows each.
            estimator: by default 16 levels where a pilot saw the gap, antithetic noise, the "balanced" form.
            seed: names the noise.
            batch_size: rows per forward pass; by default chosen from the size of the largest variable.
            progress: called with the number of noisy variables done.

        Raises:
            ValueError: as `prepare` does.
        """
        check_estimator(estimator)
        x, cond, base = self.prepare(data)
        given = base or None
        if batch_size is None:
            # A label is small, and the network sees it beside a picture.
            largest = max(self.network.shapes.values(), key=math.prod)
            batch_size = auto_batch_size(torch.Size(largest), device_of(self.denoiser, x))
        if estimator is None:
            rule = gap_fitted(self.denoiser, x, cond, given, seed=seed, batch_size=batch_size)
            estimator = MMG("balanced", rule, antithetic=True)
        found = estimator(
            self.denoiser,
            x,
            cond,
            given,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            settings={
                **self.settings,
                "diffused": self.diffused,
                "fit_steps": self.fitted.steps,
                "fit_gain_nats": round(self.fitted.gained, 5),
            },
        )
        return replace(found, notes=(*found.notes, *self.preprocessing.notes))

    # ---- files ----

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with the weights, the preprocessing, and the rest as JSON in its header.

        Raises:
            TypeError: for a network of one's own; the library would not know how to build it again.
        """
        kind = type(self.network).__name__
        if not isinstance(self.network, tuple(_NETWORKS.values())):
            raise TypeError(f"a {kind} cannot be saved; expected one of {', '.join(_NETWORKS)}. Save its state_dict()")
        prepared, tensors = self.preprocessing.state()
        record = {
            "format": FORMAT,
            "network": {"kind": kind, "config": self.network.config},
            "preprocessing": {"kind": type(self.preprocessing).__name__, "record": prepared},
            "diffused": self.diffused,
            "given": list(self.given),
            "base": list(self.base),
            "fitted": {
                "steps": self.fitted.steps,
                "seconds": self.fitted.seconds,
                "gained": self.fitted.gained,
                "settled": self.fitted.settled,
                "rounds": list(self.fitted.rounds),
            },
            "settings": dict(self.settings),
        }
        named = {f"preprocessing/{key}": value for key, value in tensors.items()}
        named |= {f"network/{key}": value.cpu() for key, value in self.network.state_dict().items()}
        path = file_path(path, "the path of the fitted model")
        write_whole(path, pack(named, record))
        return path

    @classmethod
    def load(cls, path: str | Path) -> FittedModel:
        """Read what `save` wrote. Nothing in the file is executed.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file is truncated, pickled, or no model of this library.
        """
        body = read_record(path, "fitted model")
        try:
            tensors, record = unpack(body, FORMAT)
            weights, made = within(tensors, "network"), record["network"]
            network = _NETWORKS[made["kind"]](covariance=weights["covariance"], **made["config"])
            network.load_state_dict(weights)
            network.eval().requires_grad_(False)
            prepared, fitted = record["preprocessing"], record["fitted"]
            preprocessing = _PREPROCESSINGS[prepared["kind"]].from_state(
                prepared["record"], within(tensors, "preprocessing")
            )
            return cls(
                preprocessing,
                network,
                record["diffused"],
                tuple(record["given"]),
                tuple(record["base"]),
                Fit(network=network, **{**fitted, "rounds": tuple(fitted["rounds"])}),
                record["settings"],
            )
        except (SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is no complete fitted model of this library: {error}") from error


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
        width: of the network; wider where the Gaussian part already shows high information.
        seed: of the split, the weights and the batches.
        checkpoint: file to resume from.
        progress: called with the optimizer steps done.

    Raises:
        ValueError: for names that the data lack, and as `estimate_mi` does.
    """
    whole(seed, "seed", 0)
    whole(width, "width", 1)
    callback(progress)
    if settings is not None:
        of_type(settings, FitSettings, "settings", "FitSettings(...)")
    if not 0 < finite(held_out, "held_out") < 1:
        raise ValueError(f"held_out is {held_out}; expected a share between 0 and 1")
    for names, name in ((given, "given"), (base, "base")):
        of_type(names, (tuple, list), name, "a tuple of names of variables")
    checkpoint = None if checkpoint is None else file_path(checkpoint, "checkpoint")
    arrays = {name: as_array(values, name) for name, values in data.items()}
    count = pairs_in(arrays, FEWEST)
    unknown = [name for name in (*given, *base) if name not in arrays]
    if unknown:
        raise ValueError(f"there is no variable {shown(unknown[0])}; the data hold {', '.join(arrays)}")
    order = np.random.default_rng(seed).permutation(count)
    few = max(32, round(held_out * count))
    if count - few < FEWEST // 2:
        raise ValueError(f"held_out is {held_out}, which leaves {count - few} of {count} pairs to fit; lower it")
    parts = [{name: values[rows] for name, values in arrays.items()} for rows in (order[few:], order[:few])]
    preprocessing = Preprocessing.fit(parts[0])
    sizes = preprocessing.sizes
    left = [name for name in arrays if name not in (*given, *base)]
    if len(left) != 1:
        raise ValueError(f"expected one variable beside given={given} and base={base}, got {left}")
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
    while True:
        torch.manual_seed(seed)
        network = VectorNetwork(sizes, preprocessing.covariance, logsnr_range=(LOW, high), width=width)
        fitted = fit(
            network, train, other_part, assignments, settings, seed=seed, checkpoint=checkpoint, progress=progress
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
        {"fit": asdict(settings), "fit_seed": seed, "pairs_fitted": count - few, "width": width, "range": [LOW, high]},
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
    """Mutual information of x and y, from samples: fit a small denoiser to one part, measure another.

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
    whole(seed, "seed", 0)
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
