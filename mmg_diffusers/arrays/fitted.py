"""A network fitted to pairs: it measures other pairs, and keeps in a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser, View
from mmg_diffusers.arrays.fitting import Fit, FitSettings
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.values import named, pairs_in
from mmg_diffusers.checks import Brief, file_path, of_type
from mmg_diffusers.denoisers.forwards import auto_batch_size, device_of
from mmg_diffusers.files.records import pack, read_record, unpack, within
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG
from mmg_diffusers.measure.proposals import gap_fitted

FORMAT = "mmg_diffusers.FittedModel/1"
# What a file may ask to be built.
_NETWORKS = {"VectorNetwork": VectorNetwork, "ImageNetwork": ImageNetwork}
_PREPROCESSINGS = {"Preprocessing": Preprocessing, "ImagePreprocessing": ImagePreprocessing}


def check_estimator(estimator: MMG | MINDE | None) -> None:
    """Raise a TypeError for anything but an estimator or nothing."""
    of_type(estimator, (MMG, MINDE, type(None)), "estimator", "one such as MMG('gap')")


@dataclass(frozen=True, repr=False)
class FittedModel(Brief):
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
        """Make pairs ready for estimators: x, the condition and the context (empty if there is none).

        Raises:
            ValueError: for variables other than those of the fit, in name, width or kind, or of different lengths.
        """
        fitted = self.preprocessing.names
        if set(data) != set(fitted):
            raise ValueError(f"got the variables {named(data)}; expected those of the fit, {named(fitted)}")
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
        estimate = estimator(
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
                **({"turned_nats": [round(gain, 5) for gain in self.fitted.turned]} if self.fitted.turned else {}),
            },
        )
        return replace(estimate, notes=(*self._unfinished(estimate), *estimate.notes, *self.preprocessing.notes))

    def _unfinished(self, estimate: Estimate) -> tuple[str, ...]:
        """What there is to say of a training that still gained when its steps were used up."""
        fit = self.settings.get("fit", {})
        if "pilot" not in fit:
            return ()  # trained by a `Trainer`, which has looks and no rounds
        said = self.fitted.unfinished(FitSettings(**fit), estimate.mean().value)
        return () if said is None else (said,)

    # ---- files ----

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with the weights, the preprocessing, and the rest as JSON in its header.

        Raises:
            TypeError: for a network of another library, which could not be built again from the file.
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
                "turned": list(self.fitted.turned),
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
                Fit(
                    network=network,
                    **{**fitted, "rounds": tuple(fitted["rounds"]), "turned": tuple(fitted.get("turned", ()))},
                ),
                record["settings"],
            )
        except (SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is no complete fitted model of this library: {error}") from error
