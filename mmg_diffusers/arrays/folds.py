"""Networks that are fitted side by side to parts of the same pairs, and what they measure joined: cross-fitting.

Every pair is measured by a network that did not see it, and none is wasted; the parts decide together when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.arrays.base import Roles
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.fitting import FitSettings, fit, paired
from mmg_diffusers.arrays.losses import BINS, losses
from mmg_diffusers.arrays.networks import VectorNetwork, part_of
from mmg_diffusers.arrays.preprocess import Preprocessing, fit_turned
from mmg_diffusers.arrays.seeds import generator_of
from mmg_diffusers.arrays.values import named
from mmg_diffusers.arrays.workers import ALONE, Part, Place
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.value import mean_over_pairs

Data = Mapping[str, NDArray[np.generic]]

LOW, HIGH, HIGHEST = -8.0, 12.0, 22.0
# Cells in which a column's mean is taken, and how much more of a variance the one direction has to tell than the other.
CELLS, CLEARLY = 128, 0.1
# Held-out pairs and noises of each that are looked at at the clean end, and how many errors information there has to show.
AT_END, NOISES, SIGMAS = 1000, 4, 2
# Pairs below which they are cut into folds.
MANY = 3000
# What the error of a mean over folds is called in a record.
FOLDS = "folds"


@dataclass(frozen=True)
class Asked:
    """What is fitted: I(diffused; given | base), by networks of a width; the variable that is in neither is diffused.

    `high` is where the range of levels ends at the least.
    """

    given: tuple[str, ...] = ("y",)
    base: tuple[str, ...] = ()
    width: int = 64
    high: float = HIGH

    def roles(self, data: Data, preprocessing: Preprocessing) -> tuple[str, tuple[str, ...]]:
        """The variable to diffuse, and those that are given.

        Without a base the smaller of two is diffused, since mutual information is symmetric.

        Raises:
            ValueError: unless one variable is left to diffuse.
        """
        sizes = preprocessing.sizes
        left = [name for name in data if name not in (*self.given, *self.base)]
        if len(left) != 1:
            raise ValueError(
                f"expected one variable beside given={named(self.given)} and base={named(self.base)}, got {named(left) or 'none'}"
            )
        diffused, given = left[0], tuple(self.given)
        if not self.base and len(given) == 1:
            # Labels are indicators, which are harder to denoise than what they label.
            def hardness(name: str) -> tuple[bool, int]:
                return preprocessing.variables[name].classes is not None, sizes[name]

            diffused, other = sorted((diffused, given[0]), key=hardness)[:2]
            if hardness(diffused) == hardness(other) == (False, 1):
                diffused, other = _easier(data, diffused, other)
            given = (other,)
        return diffused, given


def fit_members(
    parts: Sequence[tuple[Data, Data]],
    asked: Asked,
    settings: FitSettings | None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[int], object] | None = None,
    origin: Mapping[str, Any] | None = None,
    place: Place = ALONE,
) -> list[FittedModel]:
    """Fit one network to each part, side by side in one stack, over one range of levels.

    Args:
        parts: of each member the pairs to fit, and others that decide when to stop: the mean over members does.
        asked: what is fitted.
        settings: of the training; chosen from the data's width by default.
        seed, checkpoint, progress, origin: as in `fit`.
        place: this process among those that fit the stack together; the models of its own part of it are returned.

    Raises:
        ValueError: as `Preprocessing.fit` and `fit` do.
    """
    # A step of turns costs half as much as one of the network that follows.
    most = 2 * (settings or FitSettings()).steps
    made = [fit_turned(train, held, most, seed) for train, held in parts]
    preprocessings = [preprocessing for preprocessing, _ in made]
    part = place.part(len(parts))
    if any(other.sizes != preprocessings[0].sizes for other in preprocessings):
        # One part keeps a column that another leaves out: no stack, but one range, so that they can be joined.
        alone = [
            fit_members([one], replace(asked, high=HIGHEST), settings, seed=seed, progress=progress)
            for one in parts[part.mine]
        ]
        steps = torch.tensor([models[0].fitted.steps for models in alone])
        others = int(part.all(steps).sum()) - int(steps.sum())
        if progress is not None and others:
            progress(others)
        return [model for models in alone for model in models]
    preprocessing = preprocessings[0]
    sizes = preprocessing.sizes
    diffused, given = asked.roles(parts[0][0], preprocessing)
    ready = [(p(train), p(held)) for p, (train, held) in zip(preprocessings, parts, strict=True)]
    settings = settings or FitSettings.for_size(sum(sizes.values()))
    rho = max((float(p.correlations.max()) for p in preprocessings if len(p.correlations)), default=0.0)
    high = float(np.clip(-math.log(1 - rho**2) + 7, asked.high, HIGHEST))
    roles = paired(diffused, given, asked.base)
    covariance = torch.stack([p.covariance for p in preprocessings])
    while True:
        network = VectorNetwork(
            sizes, covariance, logsnr_range=(LOW, high), width=asked.width, waves=settings.waves, seed=seed
        )
        if place.processes > 1:
            network = part_of(network, part.mine)
        fitted = fit(
            network,
            _stacked([train for train, _ in ready], longest=True, part=part),
            _stacked([held for _, held in ready], longest=False, part=part),
            roles,
            settings,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
            origin=origin,
            part=part,
        )
        network.eval().requires_grad_(False)
        if high >= HIGHEST or fitted.settled or not lies_beyond(network, ready, roles, seed, part):
            break
        # The branches still differ at the clean end: information lies beyond.
        high = HIGHEST
        checkpoint = checkpoint and checkpoint.with_name(f"{checkpoint.stem}-wide{checkpoint.suffix}")
    networks = [network] if network.members == 1 else [network.member(k) for k in range(network.members)]
    for member in networks:
        member.eval().requires_grad_(False)
    record = {"fit": asdict(settings), "fit_seed": seed, "width": asked.width, "range": [LOW, high]}
    return [
        FittedModel(
            preprocessing,
            member,
            diffused,
            given,
            tuple(asked.base),
            replace(fitted, network=member, turned=() if turned is None else turned.rounds),
            {**record, "pairs_fitted": len(next(iter(train.values())))},
        )
        for (preprocessing, turned), member, (train, _) in zip(made[part.mine], networks, parts[part.mine], strict=True)
    ]


@dataclass(frozen=True)
class Fold:
    """Pairs to fit, pairs that decide when to stop, and pairs to measure, by name."""

    train: Data
    held: Data
    own: Data


def fit_and_measure(
    place: Place,
    folds: Sequence[Fold],
    asked: Asked,
    settings: FitSettings,
    estimator: MMG | MINDE | None,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> tuple[list[Estimate], FittedModel]:
    """Fit a network to each fold, and measure its own pairs.

    Args:
        place: this process among those that do so together: of its own folds the estimates, and the model of the first, are returned.
        folds, asked, settings, estimator, seed, progress: as of `fit_members` and `FittedModel.estimate`.
    """
    parts = [(fold.train, fold.held) for fold in folds]
    models = fit_members(parts, asked, settings, seed=seed, progress=progress, place=place)
    mine = place.part(len(folds)).mine
    measured = [
        model.estimate(folds[k].own, estimator=estimator, seed=(seed + k) % 2**63)
        for k, model in zip(range(mine.start, mine.stop), models, strict=True)
    ]
    return measured, models[0]


def lies_beyond(
    network: VectorNetwork,
    ready: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]],
    roles: tuple[Roles, ...],
    seed: int,
    part: Part | None = None,
) -> bool:
    """Whether held-out pairs show information at the clean end of the range, beyond chance.

    Branches of a short training on few pairs differ there for no other reason than that they are not trained.
    """
    part = part or Part.whole(network.members)
    held = _stacked([held for _, held in ready], longest=False, part=part)
    data = {name: (v if v.ndim == 3 else v[None])[:, :AT_END].float().repeat(1, NOISES, 1) for name, v in held.items()}
    count = next(iter(data.values())).shape[1]
    generator = generator_of(seed)
    low, high = network.logsnr_range
    logsnr = high - (high - low) / BINS * torch.rand(count, generator=generator).double()
    eps = {name: part.noise(count, v.shape[-1], generator) for name, v in data.items()}
    with torch.no_grad():
        errors, _ = losses(network, data, roles, logsnr.expand(network.members, -1), eps)
    apart = (errors[0] - errors[1]).reshape(network.members, NOISES, -1).mean(1).double()
    apart = part.all(apart).flatten()
    return float(apart.mean()) > SIGMAS * float(apart.std()) / math.sqrt(len(apart))


def _stacked(parts: Sequence[Mapping[str, Tensor]], longest: bool, part: Part) -> dict[str, Tensor]:
    """`(E, N, d)` by name, of the members trained here: parts of different lengths repeat their first pairs to the longest, or end
    at the shortest.
    """
    if len(parts) == 1:
        return dict(parts[0])
    lengths = [len(next(iter(values.values()))) for values in parts]
    count = max(lengths) if longest else min(lengths)
    return {
        name: torch.stack(
            [
                values[name][torch.arange(count) % length]
                for values, length in zip(parts[part.mine], lengths[part.mine], strict=True)
            ]
        )
        for name in parts[0]
    }


def joined(estimates: Sequence[Estimate]) -> tuple[Estimate, dict[str, float]]:
    """The estimates of all folds as one, its pairs numbered anew, and what its error is larger for trainings that differ.

    Folds are measured by networks of their own, so that their means scatter by more than their pairs do.
    """
    first, start = estimates[0], 0
    if len(estimates) == 1:
        return first, {}
    curves: list[Curve] = []
    for estimate in estimates:
        curves.append(replace(estimate.curve, pair_ids=start + torch.arange(len(estimate))))
        start += len(estimate)
    settings = {**first.settings, FOLDS: len(estimates)}
    notes = tuple(dict.fromkeys(note for estimate in estimates for note in estimate.notes))
    whole = replace(first, curve=Curve.merge(curves), settings=settings, notes=notes)
    means = torch.tensor([estimate.mean().value for estimate in estimates], dtype=torch.float64)
    more = mean_over_pairs(means).stderr ** 2 - whole.mean().stderr ** 2
    return whole, {FOLDS: math.sqrt(max(more, 0.0))}


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
