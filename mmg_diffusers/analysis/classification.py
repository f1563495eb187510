"""What is read off curves: which candidate explains a variable, and the information bound that follows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.calibration import (
    LOG_TRUST,
    Calibration,
    cross_fitted,
    even_edges,
    fit_trust,
    in_bands,
    posterior_of,
)
from mmg_diffusers.checks import MOST, Brief, needs, shown, whole
from mmg_diffusers.files.records import versions, within
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.judging import of_steps
from mmg_diffusers.measure.known import of_unknown_candidates
from mmg_diffusers.measure.measured import Record, prefixed, same_origin, to_merge
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

Parts = Mapping[str, Sequence[Hashable]]
"""What candidates are made of: for every kind of word, one label a candidate (its colour, its shape, ...)."""


@dataclass(frozen=True, repr=False)
class Classification(Record, Brief):
    """The posterior of N variables over K candidate conditions, and what it says about their information.

    It needs no unconditional branch. For any network, whatever its errors,

        I(X; Y) >= H(Y) + E log q(y | x)        (Barber and Agakov 2003)

    which is never above log K. `curve` holds the evidence, `prior` `(K,)` the probabilities of the candidates.
    """

    FORMAT = "mmg_diffusers.Classification/1"
    KIND = "classification"

    curve: CandidateCurve
    candidates: tuple[str, ...]
    prior: Tensor
    calibration: Calibration = field(default_factory=Calibration)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.calibration.check(len(self.candidates))

    def __len__(self) -> int:
        return len(self.curve.score)

    def __str__(self) -> str:
        surest = self.posterior.max(1).values
        return (
            f"posterior of {len(self)} variables over {len(self.candidates)} candidates, which hold {self.entropy:.3f} nats; the most "
            f"probable one (.best) has probability {float(surest.mean()):.3f} in the mean, and {float(surest.min()):.3f} at least"
        )

    def _bands(self, edges: Sequence[float]) -> Tensor:
        """Evidence by band, averaged over draws, `(N, B, K)`."""
        return in_bands(self.curve.score.mean(1), self.curve.logsnr[:-1], edges)

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(candidate | x), `(N, K)`."""
        trust = torch.tensor(self.calibration.trust, dtype=torch.float64)[None, :, None]
        evidence = (trust * self._bands(self.calibration.edges)).sum(1)
        if self.calibration.bias:
            evidence = evidence + torch.tensor(self.calibration.bias, dtype=torch.float64)
        return torch.log_softmax(self.prior.log() + evidence, dim=1)

    @property
    def posterior(self) -> Tensor:
        """q(candidate | x), `(N, K)`; rows sum to 1."""
        return self.log_posterior.exp()

    @property
    def best(self) -> list[str]:
        """The most probable candidate of every variable."""
        return [self.candidates[k] for k in self.log_posterior.argmax(1).tolist()]

    @property
    def entropy(self) -> float:
        """H(Y) in nats under the prior: the ceiling of any information about these candidates."""
        return float(-(self.prior * self.prior.log()).sum())

    def _index(self, truth: Sequence[str | int]) -> Tensor:
        return _places(truth, self.candidates, len(self))

    def pointwise(self, truth: Sequence[str | int]) -> Tensor:
        """log q(y | x) - log p(y) of the true candidates, `(N,)` nats.

        Raises:
            ValueError: for a true candidate that was not compared, or a wrong number of them.
        """
        index = self._index(truth)
        return self.log_posterior[torch.arange(len(self)), index] - self.prior.log()[index]

    def within(self, truth: Sequence[str | int], groups: Sequence[Hashable]) -> Tensor:
        """i(x; y | group of y), `(N,)` nats: what distinguishes a true candidate from others of its group.

        Args:
            truth: as in `pointwise`.
            groups: one label a candidate, such as its words but for the colour. What the groups share is the context.

        Raises:
            ValueError: as `pointwise` does, and unless there is one label a candidate.
        """
        return self.pointwise(truth) - self.of_group(truth, groups)

    def of_group(self, truth: Sequence[str | int], groups: Sequence[Hashable]) -> Tensor:
        """i(x; group of y), `(N,)` nats; with `within` it adds up to `pointwise`."""
        before, after = self.surprise(truth, groups)
        return before - after

    def surprise(self, truth: Sequence[str | int], groups: Sequence[Hashable]) -> tuple[Tensor, Tensor]:
        """-log p(group of y) and -log q(group of y | x), `(N,)` nats each."""
        if len(groups) != len(self.candidates):
            raise ValueError(f"got {len(groups)} groups for {len(self.candidates)} candidates; expected a label each")
        index = self._index(truth)
        labels = list(dict.fromkeys(groups))
        number = torch.tensor([labels.index(group) for group in groups])
        same = number[index][:, None] == number[None]
        outside = torch.where(same, 0.0, -torch.inf)
        return -torch.logsumexp(self.prior.log() + outside, 1), -torch.logsumexp(self.log_posterior + outside, 1)

    def bound(self, truth: Sequence[str | int]) -> Value:
        """Lower bound H(Y) + E log q(y | x) on the mutual information, with its standard error over pairs.

        It is a bound in expectation over pairs that were drawn from the prior and took no part in the calibration.
        """
        return self._bound(self.log_posterior, self._index(truth))

    def _bound(self, log_q: Tensor, index: Tensor) -> Value:
        value, stderr = mean_over_pairs(log_q[torch.arange(len(self)), index])
        return Value(self.entropy + value, stderr)

    def cross_fitted_bound(self, truth: Sequence[str | int]) -> Value:
        """The bound by evidence that is believed band by band as far as other pairs say: no pair is read by what was fitted on it.

        As `Filtered.mean` reads it; the calibration of this record is not used.

        Raises:
            ValueError: as `pointwise` does.
        """
        index = self._index(truth)
        bands = self._bands(_even_edges(self.curve))
        log_prior = self.prior.double().log().expand(len(bands), -1)
        return self._bound(posterior_of(bands, log_prior, cross_fitted(bands, log_prior, index)), index)

    def calibrate(
        self, truth: Sequence[str | int], edges: Sequence[float] | None = None, parts: Parts | None = None
    ) -> Calibration:
        """Fit the trust in each noise band to pairs of known truth, at the maximum of the posterior.

        Of several bands each trust has a normal prior of mean 1 and deviation 1/2, cut at 0: a band whose evidence misleads, as the
        ends of a network's range often do, is left out. The logarithm of a single trust has a normal prior of mean 0 and deviation
        1/2: if every fitted pair is classified right, the likelihood alone would trust without end. Use the result on *other* pairs
        with `calibrated`: any calibration gives a bound there.

        Args:
            truth: the true candidate of every variable, by name or index.
            edges: inner edges of noise bands in log-SNR; by default of four even ones, with parts of none. ``()`` fits one temperature.
            parts: what the candidates are made of, to fit a bias as well beside a single trust: one for every label, added up over a
                candidate's labels, with a standard normal prior (in nats) that holds it if the pairs say little.

        Raises:
            ValueError: as `pointwise` does, and for parts without one label a candidate.
        """
        index = self._index(truth)
        if edges is None:
            edges = () if parts else _even_edges(self.curve)
        bands = self._bands(edges)
        if edges and not parts:
            log_prior = self.prior.double().log().expand(len(bands), -1)
            Calibration(tuple(edges), (1.0,) * bands.shape[1])  # refuses edges that do not rise
            return Calibration(tuple(edges), tuple(fit_trust(bands, log_prior, index).tolist()))
        membership = _membership(parts or {}, len(self.candidates))
        log_trust = torch.zeros(len(edges) + 1, dtype=torch.float64, requires_grad=True)
        of_label = torch.zeros(membership.shape[1], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [log_trust, of_label], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            evidence = (log_trust.exp()[None, :, None] * bands).sum(1) + membership @ of_label
            value = torch.nn.functional.cross_entropy(self.prior.log() + evidence, index)
            held = of_label.square().sum() / 2 + (log_trust / LOG_TRUST).square().sum() / 2
            value = value + held / len(index)
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        bias = tuple((membership @ of_label.detach()).tolist()) if parts else ()
        return Calibration(tuple(float(edge) for edge in edges), tuple(log_trust.detach().exp().tolist()), bias)

    def calibrated(self, calibration: Calibration) -> Classification:
        """The same evidence read with another calibration; no network is called."""
        return replace(self, calibration=calibration)

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about this posterior before it."""
        return (*self.notes, *of_steps(self.curve.logsnr), *of_unknown_candidates(self.curve))

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, the most probable candidate, its probability, and log q of every candidate."""
        needs("pandas", "data")
        import pandas

        columns = {
            "pair": self.curve.pair_ids.numpy(),
            "best": self.best,
            "probability": self.posterior.amax(1).numpy(),
        }
        columns |= {f"log q: {name}": self.log_posterior[:, k].numpy() for k, name in enumerate(self.candidates)}
        return pandas.DataFrame(columns)

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The evidence and the prior as tensors, and everything else; for files."""
        tensors, record = self.curve.packed()
        return prefixed("curve", tensors) | {"prior": self.prior}, {
            "curve": record,
            "candidates": list(self.candidates),
            "calibration": asdict(self.calibration),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Classification:
        """From what `packed` gave."""
        curve = CandidateCurve.unpacked(within(tensors, "curve"), record["curve"])
        calibration = Calibration(**{name: tuple(values) for name, values in record["calibration"].items()})
        made = (record["settings"], record["versions"], unpacked_notes(record["notes"]))
        return cls(curve, tuple(record["candidates"]), tensors["prior"], calibration, *made)

    @staticmethod
    def merge(parts: Sequence[Classification]) -> Classification:
        """Join the posteriors of different pairs over the same candidates.

        Raises:
            ValueError: for none, for other candidates, priors, calibrations, levels, settings or versions, or if a pair
                appears twice.
        """
        first = to_merge(parts, Classification)
        for other in parts:
            for name in ("candidates", "calibration"):
                one, another = getattr(first, name), getattr(other, name)
                if one != another:
                    raise ValueError(f"the {name} of two classifications differ: {one!s:.80} and {another!s:.80}")
            if not torch.equal(other.prior, first.prior):
                raise ValueError("the priors of two classifications differ; classify all shards with one")
        notes = same_origin(parts, "classification")
        curve = CandidateCurve.merge([part.curve for part in parts])
        return Classification(
            curve, first.candidates, first.prior, first.calibration, first.settings, first.versions, notes
        )


def _even_edges(curve: CandidateCurve) -> tuple[float, ...]:
    return even_edges(float(curve.logsnr[0]), float(curve.logsnr[-1]))


def _membership(parts: Parts, count: int) -> Tensor:
    """`(count, labels)` which labels each candidate has, a column for every label of every part."""
    columns: list[list[float]] = []
    for name, labels in parts.items():
        if len(labels) != count:
            raise ValueError(
                f"part {shown(name)} has {len(labels)} labels for {count} candidates; expected a label each"
            )
        columns += [[float(label == other) for label in labels] for other in dict.fromkeys(labels)]
    return torch.tensor(columns, dtype=torch.float64).reshape(-1, count).T


def _places(truth: Sequence[str | int], candidates: Sequence[str], count: int) -> Tensor:
    """Where the true candidates of so many variables stand among the candidates, `(count,)`.

    Raises:
        TypeError, ValueError: for what is none of them, or a wrong number of them.
    """
    if isinstance(truth, str) or not hasattr(truth, "__len__"):
        raise TypeError(f"the true candidates are {shown(truth)}; expected a list of {count} names or indices")
    if len(truth) != count:
        raise ValueError(f"got {len(truth)} true candidates for {count} variables")
    place = {name: k for k, name in enumerate(candidates)}
    unknown = [y for y in truth if isinstance(y, str) and y not in place]
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is not among the {len(place)} candidates; add it and classify again")
    numbers = [place[y] if isinstance(y, str) else whole(y, "a true candidate", -MOST) for y in truth]
    for y, number in zip(truth, numbers, strict=True):
        # Names that are numbers of classes invite to be passed as numbers, which are places here.
        if not isinstance(y, str) and place.get(str(number), number) != number:
            raise ValueError(
                f'{number} is the name of the candidate at place {place[str(number)]}; give names as text, "{number}", and places as '
                "numbers only if no name is one"
            )
    index = torch.tensor(numbers)
    if int(index.min()) < 0 or int(index.max()) >= len(place):
        raise ValueError(f"candidate indices must lie in 0..{len(place) - 1}")
    return index
