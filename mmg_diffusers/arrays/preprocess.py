"""Maps that keep mutual information and make variables easy to denoise, fitted on the training part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.arrays.columns import Array, Column
from mmg_diffusers.arrays.turns import Turned, Turns, fit_turns
from mmg_diffusers.arrays.values import LARGEST, as_array, named
from mmg_diffusers.checks import shown
from mmg_diffusers.files.records import within

__all__ = ["Column", "Preprocessing", "Variable", "as_array"]

# So few different floats, each met so often in the mean, look like labels.
FEW, TIES = 32, 10
# Squared correlations above 1 minus this mean that one variable determines the other.
DETERMINED = 1e-10
# Pairs whose order is compared first.
ORDERED = 5000


@dataclass(frozen=True)
class Variable:
    """What is done to one variable: columns one by one, then a matrix, then turns if there are any; or labels to indicators.

    `keep` are the columns that are used, of `width` in the data.
    """

    name: str
    keep: NDArray[np.int64]
    columns: tuple[Column, ...]
    matrix: Array
    width: int
    classes: NDArray[np.generic] | None = None
    notes: tuple[str, ...] = ()
    turns: Turns | None = None

    def check(self, values: NDArray[np.generic]) -> None:
        """Raise a ValueError for values of another kind or width than those of the fit."""
        expected = "integer labels, one column" if self.classes is not None else f"{self.width} columns of floats"
        if (values.ndim == 1) != (self.classes is not None) or (values.ndim == 2 and values.shape[1] != self.width):
            raise ValueError(f"{self.name} has shape {values.shape} and dtype {values.dtype}; expected {expected}")

    def coordinates(self, values: NDArray[np.generic]) -> Array:
        """Map the columns one by one, before the matrix: `(N, d)`."""
        if self.classes is not None:
            labels = values.reshape(len(values))
            unknown = np.setdiff1d(labels, self.classes)
            if len(unknown):
                raise ValueError(
                    f"{self.name} has the label {shown(unknown[0].item())}, which the training part lacks; add pairs of it"
                )
            # The last class is known by the absence of all others.
            return (labels[:, None] == self.classes[None, :-1]).astype(float) - self._shares
        chosen = np.asarray(values, dtype=float)[:, self.keep]
        return np.stack([column(chosen[:, k]) for k, column in enumerate(self.columns)], 1)

    @property
    def _shares(self) -> Array:
        return np.array([column.mean for column in self.columns])

    def __call__(self, values: NDArray[np.generic]) -> Tensor:
        """Make values ready for a network: `(N, d)` float64."""
        ready = torch.from_numpy(self.coordinates(values) @ self.matrix)
        return ready if self.turns is None else self.turns.apply_to(ready)


@dataclass(frozen=True)
class Preprocessing:
    """Invertible maps of several variables, and the Gaussian law of what they give.

    Args of `fit`: names to `(N, d)` arrays, or `(N,)` integer labels.
    """

    variables: Mapping[str, Variable]
    covariance: Tensor
    correlations: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of the fit."""
        return tuple(self.variables)

    @property
    def sizes(self) -> dict[str, int]:
        """Coordinates of each variable after the maps."""
        return {name: variable.matrix.shape[1] for name, variable in self.variables.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return tuple(note for variable in self.variables.values() for note in variable.notes)

    def __call__(self, data: Mapping[str, ArrayLike | Tensor]) -> dict[str, Tensor]:
        """Make raw values ready, `(N, d)` or labels: `(N, d')` float64.

        Raises:
            ValueError: as `as_array` does, for a variable that was not fitted or is of another width or kind, and for a
                label that is new.
        """
        unknown = [name for name in data if name not in self.variables]
        if unknown:
            raise ValueError(f"no variable {shown(unknown[0])}; fitted were {named(self.variables)}")
        ready: dict[str, Tensor] = {}
        for name, values in data.items():
            array = as_array(values, name)
            self.variables[name].check(array)
            ready[name] = self.variables[name](array)
        return ready

    # ---- as a file keeps it ----

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Take everything out for a file: what JSON can hold, and tensors by name."""
        record: dict[str, Any] = {}
        tensors = {"covariance": self.covariance, "correlations": torch.from_numpy(self.correlations)}
        for name, variable in self.variables.items():
            columns = variable.columns
            record[name] = {
                "width": variable.width,
                "notes": list(variable.notes),
                "labels": None if variable.classes is None else str(variable.classes.dtype),
            }
            parts = {
                "keep": torch.from_numpy(variable.keep),
                "matrix": torch.from_numpy(variable.matrix),
                "mean": torch.tensor([column.mean for column in columns], dtype=torch.float64),
                "deviation": torch.tensor([column.deviation for column in columns], dtype=torch.float64),
                "ends": torch.tensor([column.ends for column in columns], dtype=torch.float64),
            }
            if variable.turns is not None:
                record[name]["turns"] = variable.turns.config
                parts |= {f"turns/{key}": value for key, value in variable.turns.state_dict().items()}
            if variable.classes is not None:
                parts["classes"] = torch.from_numpy(variable.classes.astype(np.int64))
            for k, column in enumerate(columns):
                if column.ranks is not None:
                    parts[f"knots.{k}"] = torch.from_numpy(column.ranks.x)
                    parts[f"pieces.{k}"] = torch.from_numpy(column.ranks.c)
            tensors |= {f"{name}/{key}": value for key, value in parts.items()}
        return record, tensors

    @staticmethod
    def from_state(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preprocessing:
        """Make anew what `state` gave.

        Raises:
            KeyError: for what is missing.
        """
        from scipy.interpolate import PPoly

        variables: dict[str, Variable] = {}
        for name, kept in record.items():
            there = within(tensors, name)
            turns = None
            if "turns" in kept:
                turns = Turns(**kept["turns"]).double().requires_grad_(False)
                turns.load_state_dict(within(there, "turns"))
            parts = {key: value.numpy() for key, value in there.items()}
            columns = tuple(
                Column(
                    float(parts["mean"][k]),
                    float(parts["deviation"][k]),
                    PPoly.construct_fast(parts[f"pieces.{k}"], parts[f"knots.{k}"]) if f"knots.{k}" in parts else None,
                    (float(parts["ends"][k][0]), float(parts["ends"][k][1])),
                )
                for k in range(len(parts["mean"]))
            )
            classes = None if kept["labels"] is None else parts["classes"].astype(kept["labels"])
            variables[name] = Variable(
                name, parts["keep"], columns, parts["matrix"], kept["width"], classes, tuple(kept["notes"]), turns
            )
        return Preprocessing(variables, tensors["covariance"], tensors["correlations"].numpy())

    @staticmethod
    def fit(data: Mapping[str, NDArray[np.generic]]) -> Preprocessing:
        """Fit to the training part.

        Two variables are whitened and turned into their canonical-correlation basis; correlations that noise explains
        are dropped. More variables are whitened one by one.

        Raises:
            ValueError: for constant columns, or variables of which one determines the other.
        """
        raw = {name: _columns_of(name, values) for name, values in data.items()}
        coordinates = {name: variable.coordinates(data[name]) for name, variable in raw.items()}
        count = len(next(iter(coordinates.values())))
        _refuse_monotone({name: values for name, values in data.items() if raw[name].classes is None})
        white = {name: _whitening(values) for name, values in coordinates.items()}
        names = list(raw)
        width = sum(values.shape[1] for values in coordinates.values())
        if count <= width:
            raise ValueError(
                f"{named(names)} have {width} columns in all, which need more than {count} pairs to fit; add pairs, or leave columns out"
            )
        if len(names) == 2:
            labels = all(raw[name].classes is not None for name in names)
            basis = _canonical({name: coordinates[name] @ white[name] for name in names}, labels)
            if basis is not None:
                turn, law, rho = basis
                return Preprocessing(_with(raw, {name: white[name] @ turn[name] for name in names}), law, rho)
            # Nothing linear to gain by turning the axes.
            matrices = {name: np.eye(values.shape[1]) for name, values in coordinates.items()}
            blocks = [np.cov(values, rowvar=False).reshape(values.shape[1], -1) for values in coordinates.values()]
            law = torch.block_diag(*(torch.from_numpy(block + 1e-6 * np.eye(len(block))) for block in blocks))
            return Preprocessing(_with(raw, matrices), law, np.zeros(min(matrices[name].shape[0] for name in names)))
        joined = np.concatenate([_centred(coordinates[name] @ white[name]) for name in names], 1)
        law = joined.T @ joined / (count - 1)
        values = np.linalg.eigvalsh(law)
        if values[0] < DETERMINED:
            raise ValueError(_determined(names))
        return Preprocessing(_with(raw, white), torch.from_numpy(law))

    def turned(self, turns: Mapping[str, Turns], data: Mapping[str, NDArray[np.generic]]) -> Preprocessing:
        """Put turns behind, and the canonical basis of what they give.

        Args:
            turns: of the variables that are turned, of two in all.
            data: training part.

        Raises:
            ValueError: for variables of which one determines the other.
        """
        behind = {name: replace(v, turns=turns.get(name)) for name, v in self.variables.items()}
        given = {name: variable(data[name]).numpy() for name, variable in behind.items()}
        white = {name: _whitening(values) for name, values in given.items()}
        basis = _canonical({name: given[name] @ white[name] for name in given}, labels=False)
        if basis is None:
            return self
        turn, law, rho = basis
        for name, variable in behind.items():
            matrix = white[name] @ turn[name]
            if variable.turns is None:
                behind[name] = replace(variable, matrix=variable.matrix @ matrix)
            else:
                last = variable.turns.then(torch.from_numpy(given[name].mean(0)), torch.from_numpy(matrix))
                behind[name] = replace(variable, turns=last)
        return Preprocessing(behind, law, rho)


def fit_turned(
    train: Mapping[str, NDArray[np.generic]], held_out: Mapping[str, NDArray[np.generic]], steps: int, seed: int
) -> tuple[Preprocessing, Turned | None]:
    """Fit to the training part, and look for turns of two variables of numbers that held-out pairs confirm.

    Raises:
        ValueError: as `Preprocessing.fit` does.
    """
    plain = Preprocessing.fit(train)
    if len(plain.variables) != 2 or any(variable.classes is not None for variable in plain.variables.values()):
        return plain, None
    found = fit_turns(plain(train), plain(held_out), steps, seed)
    return (plain, None) if found is None else (plain.turned(found.turns, train), found)


def _canonical(white: Mapping[str, Array], labels: bool) -> tuple[dict[str, Array], Tensor, Array] | None:
    """Rotate two whitened variables to their canonical basis: matrices by name, the law there, and its correlations.

    Those that noise explains are 0; ``None`` if all are.

    Raises:
        ValueError: for variables of which one determines the other.
    """
    names, (one, two) = list(white), white.values()
    count = len(one)
    left, rho, right = np.linalg.svd(_centred(one).T @ _centred(two) / (count - 1))
    _refuse_determined(names, rho, labels)
    dims = sorted((one.shape[1], two.shape[1]))
    real = rho**2 >= 10 / count * max(1.0, dims[1] / 2)
    if not real.any():
        return None
    rho = np.where(real, rho, 0.0)
    law = np.eye(sum(dims))
    start = one.shape[1]
    for k, value in enumerate(rho):
        law[k, start + k] = law[start + k, k] = value
    return {names[0]: left, names[1]: right.T}, torch.from_numpy(law), rho


def _with(raw: Mapping[str, Variable], matrices: Mapping[str, Array]) -> dict[str, Variable]:
    return {name: replace(variable, matrix=matrices[name]) for name, variable in raw.items()}


def _centred(values: Array) -> Array:
    return values - values.mean(0)


def _columns_of(name: str, values: NDArray[np.generic]) -> Variable:
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        classes, counts = np.unique(values, return_counts=True)
        if len(classes) < 2:
            raise ValueError(f"{name} has a single label, {shown(classes[0].item())}; it carries no information")
        shares = counts[:-1] / counts.sum()
        columns = tuple(Column(float(share), 1.0) for share in shares)
        return Variable(name, np.arange(len(columns)), columns, np.eye(len(columns)), 1, classes)
    numbers = np.asarray(values, dtype=float)
    count, width = numbers.shape
    if count <= width:
        raise ValueError(
            f"{name} has {width} columns, which need more than {count} pairs; add pairs, or leave columns out"
        )
    spread = numbers.std(0)
    constant = np.flatnonzero(spread <= 1e-12 * np.abs(numbers).max(0) + 1 / LARGEST)
    if len(constant):
        raise ValueError(
            f"{name} has constant columns {constant.tolist()[:10]} (they spread by less than 1e-12 of their size, or "
            f"{1 / LARGEST}), which carry no information; remove them, or subtract a large mean"
        )
    columns = [Column.fit(numbers[:, k]) for k in range(numbers.shape[1])]
    mapped = np.stack([column(numbers[:, k]) for k, column in enumerate(columns)], 1)
    likeness = np.abs(np.corrcoef(mapped, rowvar=False).reshape(len(columns), -1))
    keep: list[int] = []
    for k in range(len(columns)):
        if not any(likeness[k, other] > 1 - DETERMINED for other in keep):
            keep.append(k)
    notes = [
        f"column {k} of {name} holds {few} different floats in {len(numbers)} pairs, and was taken for points on a line; if they "
        "are labels, pass them as integers"
        for k in range(len(columns))
        # The first values of most columns are enough to see it.
        if len(np.unique(numbers[:1000, k])) <= FEW
        and (few := len(np.unique(numbers[:, k]))) <= FEW
        and len(numbers) >= TIES * few
    ]
    if len(keep) < len(columns):
        gone = sorted(set(range(len(columns))) - set(keep))
        notes.append(f"columns {gone[:10]} of {name} repeat others and were left out")
    chosen = tuple(columns[k] for k in keep)
    return Variable(name, np.array(keep), chosen, np.eye(len(keep)), len(columns), notes=tuple(notes))


def _whitening(values: Array) -> Array:
    covariance = np.cov(values, rowvar=False).reshape(values.shape[1], -1)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    if eigenvalues[0] < 1e-12 * eigenvalues[-1]:
        raise ValueError("columns of one variable are linearly dependent; leave those out that others determine")
    # Symmetric, so that coordinates stay as near to where they were as whiteness allows.
    return vectors / np.sqrt(eigenvalues) @ vectors.T


def _determined(names: list[str]) -> str:
    return (
        f"one of {named(names)} is a deterministic function of the others, as far as these pairs tell: the mutual "
        "information is infinite. Were the same columns passed twice? Add the noise that the question is about, or leave the "
        "shared columns out"
    )


def _refuse_monotone(data: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse a column that orders the pairs just as a column of another variable does, forwards or backwards."""
    # What some of the pairs tell apart need not be sorted whole.
    if _ordered_alike({name: values[:ORDERED] for name, values in data.items()}) is not None:
        alike = _ordered_alike(data)
        if alike is not None:
            raise ValueError(_determined(list(alike)))


def _ordered_alike(data: Mapping[str, NDArray[np.generic]]) -> tuple[str, str] | None:
    """Two variables that hold columns of one order, or its reverse; columns with ties are left out."""
    seen: dict[bytes, str] = {}
    for name, values in data.items():
        orders: dict[bytes, str] = {}
        for column in np.asarray(values, dtype=float).T:
            if len(np.unique(column)) < len(column):
                continue  # two noisy columns may share a few values
            order = np.argsort(column)
            # One name for an order and its reverse.
            key = min(order.tobytes(), order[::-1].tobytes())
            if key in seen:
                return seen[key], name
            orders[key] = name
        seen |= orders
    return None


def _refuse_determined(names: list[str], rho: Array, labels: bool) -> None:
    if len(rho) and float(rho.max()) ** 2 > 1 - DETERMINED:
        if labels:
            raise ValueError(
                f"the labels {named(names)} share a part exactly; their mutual information is that of their table of "
                "counts, and needs no denoiser"
            )
        raise ValueError(_determined(names))
