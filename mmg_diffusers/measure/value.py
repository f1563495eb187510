"""Numbers with their standard errors and units, and means over pairs, which may be repeated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.measure.verdict import Finding

Labels = Sequence[Hashable] | Tensor
"""What tells which pairs belong together, one label a pair: the identity of an image, a prompt, a patient."""


class Value(tuple[float, float]):
    """A number and its standard error, in a unit; as a tuple, the two numbers: ``value, stderr = estimate.mean()``.

    Args:
        value, stderr: the two numbers; the standard error is not a number if it is not known.
        unit: what both are counted in: ``"nats"``, ``"bits"``, or the name of an axis of noise levels.
    """

    unit: str

    def __new__(cls, value: float, stderr: float, unit: str = "nats") -> Value:
        of_type(unit, str, "unit", "a word such as 'nats'")
        made = super().__new__(cls, (value, stderr))
        made.unit = unit
        return made

    def __getnewargs__(self) -> tuple[float, float, str]:
        return self.value, self.stderr, self.unit

    @property
    def value(self) -> float:
        """The number."""
        return self[0]

    @property
    def stderr(self) -> float:
        """Its standard error."""
        return self[1]

    def bits(self) -> Value:
        """The same in bits.

        Raises:
            ValueError: for something that is not counted in nats or bits.
        """
        if self.unit == "bits":
            return self
        if self.unit != "nats":
            raise ValueError(f"{self} is not an amount of information; only nats have a value in bits")
        return Value(self.value / math.log(2), self.stderr / math.log(2), "bits")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Value) and other.unit != self.unit:
            return False
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        return f"Value({shown(self.value)}, {shown(self.stderr)}, {shown(self.unit)})"

    def __str__(self) -> str:
        if math.isnan(self.stderr) and not math.isnan(self.value):
            return f"{self.value:.4f} {self.unit}, its error unknown"
        return f"{self.value:.4f} +- {self.stderr:.4f} {self.unit}"


def mean_over_pairs(nats: Tensor, stderr: Tensor | None = None, cluster: Labels | None = None) -> Value:
    """Mean of `(N,)` values with its standard error over pairs; of a single pair, with the pair's own, if known.

    Pairs are taken as independent draws unless `cluster` says which belong together; see `stderr_over_pairs`.

    Raises:
        TypeError, ValueError: as `stderr_over_pairs` does.
    """
    error = stderr_over_pairs(nats, cluster)
    return Value(float(nats.mean()), float(error if stderr is None or len(nats) > 1 else stderr[0]))


def stderr_over_pairs(values: Tensor, cluster: Labels | None = None) -> Tensor:
    """Standard error of the mean over pairs, `(N, *S) -> (*S)`; not a number for a single pair.

    Pairs that share a label need not be independent of each other. With residuals r_i summed within each of G clusters,

        stderr^2 = G / (G - 1) sum_g (sum_{i in g} r_i)^2 / N^2,

    the cluster-robust variance CR1 (Cameron and Miller 2015, eq. 11 and 12, for a mean). If every pair has a label of
    its own it is the usual standard error; if every pair is repeated k times under its label, it is that of the pairs
    before they were.

    Args:
        values: `(N, *S)`.
        cluster: one label a pair, of any hashable kind; by default all pairs are independent.

    Raises:
        TypeError: for labels that are not a list, or cannot be compared.
        ValueError: unless there is one label a pair, or if all pairs share one.
    """
    count = len(values)
    if cluster is None:
        return values.std(0) / count**0.5 if count > 1 else torch.full_like(values[0], torch.nan)
    number = _numbered(cluster, count)
    groups = int(number.max()) + 1
    if count > 1 and groups == 1:
        raise ValueError("all pairs are in one cluster, which shows no spread; expected two clusters or more")
    if groups == 1:
        return torch.full_like(values[0], torch.nan)
    residual = values - values.mean(0)
    summed = torch.zeros((groups, *values.shape[1:]), dtype=values.dtype).index_add_(0, number, residual)
    return (groups / (groups - 1) * summed.square().sum(0)).sqrt() / count


def _numbered(cluster: Labels, count: int) -> Tensor:
    """`(N,)` int64: labels by number, in the order in which they appear."""
    if isinstance(cluster, str | bytes | Mapping) or not hasattr(cluster, "__len__"):
        raise TypeError(f"cluster is a {type(cluster).__name__}; expected a list with one label a pair")
    labels = cluster.tolist() if isinstance(cluster, Tensor) else list(cluster)
    if len(labels) != count:
        raise ValueError(f"got {len(labels)} cluster labels for {count} pairs; expected a label each")
    try:
        place = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    except TypeError as error:
        raise TypeError(f"a cluster label cannot be compared ({error}); expected text or numbers") from error
    if any(label is None or label != label for label in place):
        raise ValueError("a cluster label is None or not a number; expected a label for every pair")
    return torch.tensor([place[label] for label in labels])


def repeated(labels: Sequence[Hashable], noun: str) -> Finding | None:
    """What to say if pairs share an image (or a prompt), so that they are not independent; nothing if none do.

    Args:
        labels: one label a pair, such as the identity of its image.
        noun: what is repeated, such as "image".
    """
    times = Counter(labels)
    shared = [number for number in times.values() if number > 1]
    if not shared:
        return None
    article = "an" if noun[0] in "aeiou" else "a"
    return Finding(
        f"{sum(shared)} of {len(labels)} pairs share {article} {noun} with another pair ({len(times)} different ones, one in up to "
        f"{max(shared)} pairs), so that the standard error over pairs is too small; give mean(cluster=...) one label a pair",
        "pairs",
    )
