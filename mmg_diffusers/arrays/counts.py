"""Two discrete variables: their table of counts says it all, and no network is fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.arrays.columns import Array
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.measured import Measured
from mmg_diffusers.measure.value import Labels, Value
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes

# With fewer pairs than this in the mean occupied cell the corrected bias is no longer small beside the rest.
FULL = 5.0
# The share of pairs that are alone in their cell, up to which so many cells are known that the bias is.
ALONE = 0.02


@dataclass(frozen=True)
class Table:
    """A table of counts, and the information of its cells, in nats.

    `plug_in` is the information of the shares as they are, and `nats` what the jackknife leaves of it after its bias,
    about (rows - 1)(columns - 1) / 2n, is taken off (Quenouille 1956). `stderr` is the infinitesimal jackknife's,
    the spread of the pointwise information, together with what independent variables scatter by, sqrt(df / 2) / n, which
    the first does not know.
    """

    counts: NDArray[np.int64]

    @staticmethod
    def of(x: NDArray[np.generic], y: NDArray[np.generic]) -> Table:
        """Count the pairs of two label columns, `(N,)` each."""
        _, row = np.unique(x, return_inverse=True)
        _, column = np.unique(y, return_inverse=True)
        counts = np.zeros((row.max() + 1, column.max() + 1), dtype=np.int64)
        np.add.at(counts, (row, column), 1)
        return Table(counts)

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return int(self.counts.sum())

    @property
    def occupied(self) -> int:
        """How many cells hold a pair."""
        return int((self.counts > 0).sum())

    @property
    def freedom(self) -> int:
        """Degrees of freedom of independence, of rows and columns that hold a pair."""
        rows, columns = (int((self.counts.sum(axis) > 0).sum()) for axis in (1, 0))
        return (rows - 1) * (columns - 1)

    @cached_property
    def pointwise(self) -> Array:
        """Log of p(x, y) / p(x) p(y) for every cell, 0 for empty ones."""
        counts = self.counts.astype(float)
        expected = counts.sum(1, keepdims=True) * counts.sum(0) / max(self.count, 1)
        return np.log(np.where(counts > 0, counts, 1) / np.where(counts > 0, expected, 1))

    @cached_property
    def plug_in(self) -> float:
        """The information of the shares, never below 0, in nats."""
        return float((self.counts * self.pointwise).sum() / self.count)

    @cached_property
    def _without_one(self) -> tuple[Array, Array]:
        """Of every occupied cell: how many pairs it holds, and the information of the table less one of them."""
        n, counts = self.count, self.counts.astype(float)
        row, column = counts.sum(1, keepdims=True), counts.sum(0, keepdims=True)

        def less(values: Array) -> Array:
            # x ln x falls by this when one of x is left out.
            fewer = np.maximum(values - 1, 1)
            return values * np.log(np.maximum(values, 1)) - (values - 1) * np.log(fewer)

        whole = n * self.plug_in - n * math.log(n)  # sum n_ij ln n_ij - sum n_i ln n_i - sum n_j ln n_j
        left = whole - less(counts) + less(row) + less(column)
        seen = counts > 0
        return counts[seen], left[seen] / (n - 1) + math.log(n - 1)

    @cached_property
    def nats(self) -> float:
        """The information, its bias taken off; may be below 0."""
        held, left = self._without_one
        n = self.count
        return n * self.plug_in - (n - 1) * float((held * left).sum() / n)

    @cached_property
    def stderr(self) -> float:
        """The standard error of `nats`."""
        share = self.counts / self.count
        spread = float((share * np.square(self.pointwise - self.plug_in)).sum())
        return math.sqrt(spread / self.count + max(self.freedom, 1) / 2 / self.count**2)

    @cached_property
    def unsure(self) -> float:
        """How much of the bias may be left, in nats: 0 if the cells that were met hold enough pairs, and few hold a single one.

        Two ways to take the bias off are compared, the jackknife and the degrees of freedom of the cells that were met. The
        share of pairs that are alone in a cell tells how many cells were not met (Good 1953): of them, too, the bias may come.
        """
        alone = float((self.counts == 1).sum()) / self.count
        if self.count >= FULL * self.occupied and alone <= ALONE:
            return 0.0
        rows, columns = (int((self.counts.sum(axis) > 0).sum()) for axis in (1, 0))
        met = max(self.occupied - rows - columns + 1, 0) / 2 / self.count
        return abs(self.nats - (self.plug_in - met)) + alone**2 * min(self.freedom / 2 / self.count, self.plug_in)

    @cached_property
    def chance(self) -> float:
        """The probability of so much plug-in information in independent variables: the G test's p-value."""
        from scipy.stats import chi2

        return float(chi2.sf(2 * self.count * self.plug_in, self.freedom)) if self.freedom else 1.0


@dataclass(frozen=True, repr=False)
class Counted(Measured):
    """Mutual information of two discrete variables by their table of counts; no network was fitted.

    `nats[i]` is the log of p(x_i, y_i) / p(x_i) p(y_i) in the table, less the bias of the whole; `mean` has the jackknife's
    standard error. `chance` is the p-value of independence.

    Args:
        table: of counts.
        row, column: `(N,)` int64, the cell of every pair.
    """

    FORMAT = "mmg_diffusers.Counted/1"
    KIND = "estimate by counts"

    table: Table
    row: Tensor
    column: Tensor
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(x: NDArray[np.generic], y: NDArray[np.generic], **named: Any) -> Counted:
        """Count two label columns, `(N,)` each."""
        row, column = (
            torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64)) for values in (x, y)
        )
        return Counted(Table.of(x, y), row.flatten(), column.flatten(), **named)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def pair_ids(self) -> Tensor:
        return torch.arange(len(self.row))

    @property
    def nats(self) -> Tensor:
        cells = torch.from_numpy(self.table.pointwise)[self.row, self.column]
        return cells + (self.table.nats - self.table.plug_in)

    @property
    def stderr(self) -> Tensor:
        """Zeros: no noise was drawn."""
        return torch.zeros(len(self.row), dtype=torch.float64)

    @property
    def chance(self) -> float:
        """The p-value of independence, by the G test."""
        return self.table.chance

    def mean(self, cluster: Labels | None = None) -> Value:
        """The information of the table with its jackknife error, or the error over clusters if that is larger; and that of the bias."""
        error = self.table.stderr
        if cluster is not None:
            error = max(error, super().mean(cluster).stderr)
        return Value(self.table.nats, math.hypot(error, self.table.unsure))

    def warnings(self) -> tuple[str, ...]:
        said = list(self.notes)
        held = self.table.count / self.table.occupied
        if held < FULL:
            said.append(
                f"the {self.table.occupied} cells that were met hold {held:.1f} pairs in the mean, and {FULL:g} are needed for the "
                "bias to be taken off well: add pairs, or merge rare labels"
            )
        return tuple(said)

    def __str__(self) -> str:
        rows, columns = self.table.counts.shape
        line = f"{self.mean()} over {len(self)} pairs (table of {rows} x {columns} counts, p = {self.chance:.2g})"
        return in_short([line], self.verdict.told)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"counts": torch.from_numpy(self.table.counts), "row": self.row, "column": self.column}
        return tensors, {
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Counted:
        """From what `packed` gave."""
        return cls(
            Table(tensors["counts"].numpy()),
            tensors["row"],
            tensors["column"],
            record["settings"],
            record["versions"],
            unpacked_notes(record["notes"]),
        )
