"""What a prompt is compared with: the null prompt, a set of candidate prompts, or prompts sampled from the run's own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, shown, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.ceiling import ceiling_of
from mmg_diffusers.pairs.classes import as_prompts
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Masked, Prompt, check_text
from mmg_diffusers.pairs.variations import vary

if TYPE_CHECKING:
    from mmg_diffusers.measure.density import Density
    from mmg_diffusers.measure.estimate import Estimate
    from mmg_diffusers.measure.likelihood import LogLikelihood
    from mmg_diffusers.measure.measured import Measured

T = TypeVar("T")


class Bench(Protocol):
    """What a marginal measures with: a model that is ready, which `mmg_diffusers.pipelines.bench` makes of a pipeline."""

    def against_null(self, pairs: ImagePairs, plan: Plan) -> Estimate:
        """Compare each prompt with the model's own unconditional branch."""
        ...

    def log_likelihood(self, pairs: ImagePairs, density: Density, plan: Plan, conditional: bool) -> LogLikelihood:
        """Measure log p of each image, given its prompt or not."""
        ...

    def against_mixture(self, pairs: ImagePairs, mixture: Mixture, plan: Plan, marginal: Marginal) -> Measured:
        """Compare each prompt with the mixture of its candidates, along one noise path."""
        ...


class Marginal(ABC):
    """What a prompt is compared with. It checks the prompts, and measures.

    A new one is a subclass with these methods; nothing else asks which it is. `filters` says whether the true prompt is one of its
    candidates, so that there is a posterior.
    """

    filters: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """What records call it."""
        return type(self).__name__

    @property
    def note(self) -> str | None:
        """What a reader should be told; ``None`` if nothing."""
        return None

    @property
    @abstractmethod
    def candidates(self) -> int | None:
        """How many candidates a prompt is compared with, at most; ``None`` without any."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What a number depends on, as JSON can hold it: what runs are stamped with."""

    @abstractmethod
    def check(self, pairs: ImagePairs) -> None:
        """Refuse prompts and contexts that cannot be compared, before a network runs.

        Raises:
            ValueError: with the reason.
        """

    @abstractmethod
    def measure(self, bench: Bench, pairs: ImagePairs, plan: Plan) -> Measured:
        """Measure the pairs: an `Estimate` against the null prompt, a `Filtered` against candidates."""

    def stating(self, entropy: float) -> Marginal:
        """The same, with H(Y) of what prompts say, nats, that the user states.

        Raises:
            TypeError, ValueError: for an entropy that is none, or a marginal that knows it already.
        """
        raise ValueError(f"entropy is {shown(entropy)}; {self.label} know it by their prior, so leave it out")

    def texts(self, pairs: ImagePairs) -> Sequence[Prompt]:
        """The prompts that are going to be encoded for these pairs."""
        return pairs.texts

    @property
    def needs_all(self) -> bool:
        """Whether a run has to know all of its prompts before it measures the first pair; `over` takes them."""
        return False

    def over(self, prompts: Sequence[str], ids: Tensor) -> Marginal:
        """The marginal of a whole run whose pairs have these prompts and ids, so that a part of them is measured as if
        with all; by default itself.
        """
        return self


@dataclass(frozen=True)
class NullPrompt(Marginal):
    """The model's own unconditional branch, as in the papers.

    It is often not the marginal of the conditional branch: its estimate comes with a certificate, and a flag if the curve does
    not decay.

    Args:
        entropy: H(Y) of what the prompts say, nats, if they are labels of a known law: an estimate above it is warned of.

    Raises:
        TypeError, ValueError: for an entropy that is none.
    """

    entropy: float | None = None

    def __post_init__(self) -> None:
        ceiling_of(self.entropy, 0)

    @property
    def candidates(self) -> None:
        return None

    def stating(self, entropy: float) -> NullPrompt:
        return replace(self, entropy=entropy)

    def record(self) -> dict[str, Any]:
        stated = {} if self.entropy is None else {"entropy": self.entropy}
        return {"marginal": self.label, **stated}

    def check(self, pairs: ImagePairs) -> None:
        return None

    def measure(self, bench: Bench, pairs: ImagePairs, plan: Plan) -> Measured:
        return replace(bench.against_null(pairs, plan), ceiling=ceiling_of(self.entropy, len(pairs)))


class _Mixed(Marginal):
    """A marginal that is the mixture of each pair's candidates."""

    @abstractmethod
    def mixture(self, prompts: Sequence[str], ids: Tensor) -> Mixture:
        """The candidates of variables with these true prompts and ids."""

    def check(self, pairs: ImagePairs) -> None:
        if pairs.given is not None:
            raise ValueError(
                "given= belongs to the null prompt; groups= of `Candidates` makes the information conditional"
            )
        self.mixture(pairs.plain_prompts(), pairs.ids)

    def texts(self, pairs: ImagePairs) -> Sequence[Prompt]:
        return self.mixture(pairs.plain_prompts(), pairs.ids).used()[0]

    def measure(self, bench: Bench, pairs: ImagePairs, plan: Plan) -> Measured:
        return bench.against_mixture(pairs, self.mixture(pairs.plain_prompts(), pairs.ids), plan, self)


@dataclass(frozen=True)
class Candidates(_Mixed):
    """A set of prompts that the true one comes from; their mixture is the marginal, and no null prompt is needed.

    Args:
        prompts: at least two, all different: texts, or numbers of classes.
        prior: their probabilities, uniform by default.
        groups: one label a prompt, such as its words but for the colour. A prompt is then compared with those of its own
            group alone: information of what distinguishes them, given what they share.
        parts: what the prompts are made of: for every kind of word, one label a prompt; `vary` knows them.

    Raises:
        TypeError: for prompts that are neither text nor whole numbers.
        ValueError: for fewer than two prompts, the same one twice, or a prior or groups that do not fit.
    """

    prompts: Sequence[str]
    prior: Sequence[float] | None = None
    groups: Sequence[Hashable] | None = None
    parts: Mapping[str, Sequence[str]] | None = None

    @classmethod
    def vary(cls, prompt: str, words: Mapping[str, Sequence[str]]) -> Candidates:
        """All that a prompt could have said: each of some words as it is, or one of its alternatives in its place.

        ``Candidates.vary("a red circle on the left", {"red": ["blue", "green"], "left": ["right"]})`` are six.

        Args:
            prompt, words: see `mmg_diffusers.pairs.variations.vary`.

        Raises:
            TypeError, ValueError: as that does.
        """
        prompts, parts = vary(prompt, words)
        return cls(prompts, parts=parts)

    def __post_init__(self) -> None:
        if isinstance(self.prompts, str) or not isinstance(self.prompts, Iterable):
            raise TypeError(f"the candidates are {shown(self.prompts)}; expected a list of at least two prompts")
        names = tuple(as_prompts(list(self.prompts)))
        for place, name in enumerate(names):
            if not isinstance(name, Masked):
                check_text(name, f"candidate {place}")
        if len(names) < 2:
            raise ValueError(f"got {len(names)} candidates; expected a list of at least two prompts")
        object.__setattr__(self, "prompts", names)
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"candidates must differ; {shown(sorted(repeated)[0])} appears more than once")
        if self.prior is not None:
            prior = np.array([finite(share, "a prior probability") for share in _listed(self.prior, "prior")])
            if len(prior) != len(names) or not (prior > 0).all():
                raise ValueError(f"prior is {prior.tolist()[:8]}; expected {len(names)} positive probabilities")
            if abs(float(prior.sum()) - 1) > 1e-6:
                raise ValueError(f"the prior sums to {float(prior.sum()):.6f}; divide it by its sum")
        if self.groups is not None and len(_listed(self.groups, "groups")) != len(names):
            raise ValueError(f"got {len(self.groups)} groups for {len(names)} candidates; expected a label each")
        for part, labels in (self.parts or {}).items():
            if len(_listed(labels, f"the part {shown(part)}")) != len(names):
                raise ValueError(
                    f"the part {shown(part)} has {len(labels)} labels for {len(names)} candidates; expected one each"
                )

    @property
    def candidates(self) -> int:
        return len(self.prompts)

    def record(self) -> dict[str, Any]:
        groups = None if self.groups is None else [str(label) for label in self.groups]
        content = Identity.of(list(self.prompts), self.probability, groups)
        return {"marginal": self.label, "candidates": len(self.prompts), "content": content.digest}

    @property
    def probability(self) -> Tensor:
        """`(K,)` float64."""
        count = len(self.prompts)
        prior = np.full(count, 1 / count) if self.prior is None else np.asarray(self.prior, dtype=float)
        return torch.from_numpy(prior)

    def mixture(self, prompts: Sequence[str], ids: Tensor) -> Mixture:
        """The candidates of variables with these true prompts.

        Raises:
            ValueError: for a prompt that is not among the candidates.
        """
        place = {name: k for k, name in enumerate(self.prompts)}
        absent = [text for text in prompts if text not in place]
        if absent:
            raise ValueError(f"the prompt {shown(absent[0])} is not among the {len(place)} candidates; add it to them")
        true = [place[text] for text in prompts]
        labels = [0] * len(place) if self.groups is None else list(self.groups)
        members = [[k for k, label in enumerate(labels) if label == labels[own]] for own in true]
        width = max(len(own) for own in members)
        slots, prior = torch.zeros(len(true), width, dtype=torch.int64), torch.zeros(len(true), width).double()
        for row, own in enumerate(members):
            slots[row, : len(own)] = torch.tensor(own)
            prior[row, : len(own)] = self.probability[own] / self.probability[own].sum()
        truth = torch.tensor([own.index(k) for own, k in zip(members, true, strict=True)])
        return Mixture(tuple(self.prompts), slots, prior, truth)


@dataclass(frozen=True)
class Negatives(_Mixed):
    """Prompts of other pairs of the same run, drawn for each pair: InfoNCE's bound, which cannot exceed ln(count + 1).

    Args:
        count: how many other pairs lend their prompts; where some have the same prompt, it counts as often.
        seed: with a pair's id, names the draw.

    Raises:
        TypeError: for numbers that are not whole.
        ValueError: for a count below 1, or a negative seed.
    """

    count: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        whole(self.count, "count", 1, " negative")
        whole(self.seed, "seed", 0)

    def mixture(self, prompts: Sequence[str], ids: Tensor) -> Mixture:
        """The candidates of variables with these true prompts and ids.

        Raises:
            ValueError: for fewer other pairs than negatives.
        """
        if len(prompts) <= self.count:
            raise ValueError(
                f"{self.count} negatives need {self.count + 1} pairs or more, got {len(prompts)}; lower count, or give "
                "Candidates"
            )
        names = list(dict.fromkeys(prompts))
        place = {name: k for k, name in enumerate(names)}
        slots = torch.zeros(len(prompts), self.count + 1, dtype=torch.int64)
        prior = torch.zeros(len(prompts), self.count + 1, dtype=torch.float64)
        for row, own in enumerate(ids.tolist()):
            others = np.delete(np.arange(len(prompts)), row)
            drawn = np.random.default_rng([self.seed, own]).choice(others, self.count, replace=False)
            lent = [place[prompts[int(pair)]] for pair in (row, *drawn)]
            # One slot for each different prompt, the true one first.
            different = list(dict.fromkeys(lent))
            slots[row, : len(different)] = torch.tensor(different)
            prior[row, : len(different)] = torch.tensor([lent.count(k) / len(lent) for k in different]).double()
        return Mixture(tuple(names), slots, prior, torch.zeros(len(prompts), dtype=torch.int64))

    @property
    def candidates(self) -> int:
        return self.count + 1

    def record(self) -> dict[str, Any]:
        return {"marginal": self.label, "negatives": self.count, "negatives_seed": self.seed}

    @property
    def note(self) -> str:
        return f"sampled negatives: a bound (InfoNCE) that cannot exceed ln {self.count + 1} = {math.log(self.count + 1):.3f}"

    @property
    def needs_all(self) -> bool:
        return True

    def over(self, prompts: Sequence[str], ids: Tensor) -> DrawnNegatives:
        return DrawnNegatives(self, self.mixture(prompts, ids), tuple(ids.tolist()))


class DrawnNegatives(_Mixed):
    """Negatives that were drawn over a whole run: a part of its pairs is measured against what all of them lent.

    Args:
        negatives: how they were drawn.
        whole: the candidates of every pair of the run.
        ids: the pairs' ids.
    """

    def __init__(self, negatives: Negatives, whole: Mixture, ids: Sequence[int]) -> None:
        self.negatives, self.whole = negatives, whole
        self._place = {pair: place for place, pair in enumerate(ids)}

    @property
    def label(self) -> str:
        return self.negatives.label

    @property
    def note(self) -> str:
        return self.negatives.note

    @property
    def candidates(self) -> int:
        return self.negatives.candidates

    def record(self) -> dict[str, Any]:
        lent = Identity.of(list(self.whole.names), self.whole.slots, self.whole.prior)
        return {**self.negatives.record(), "content": lent.digest}

    def mixture(self, prompts: Sequence[str], ids: Tensor) -> Mixture:
        """The candidates of pairs of the run.

        Raises:
            ValueError: for a pair that was not in the run, or had another prompt there.
        """
        absent = [pair for pair in ids.tolist() if pair not in self._place]
        if absent:
            raise ValueError(f"pair {absent[0]} is not in the run that the negatives were drawn over")
        mixture = self.whole.rows([self._place[pair] for pair in ids.tolist()])
        for prompt, name in zip(prompts, mixture.true_names(), strict=True):
            if prompt != name:
                raise ValueError(
                    f"the negatives were drawn for a pair with the prompt {shown(name)}, which is now {shown(prompt)}"
                )
        return mixture


def check_marginal(marginal: Marginal) -> None:
    """Raise a TypeError for something that is no marginal."""
    of_type(marginal, Marginal, "marginal", "NullPrompt(), Candidates([...]) or Negatives(count)")


def _listed(values: Sequence[T], name: str) -> Sequence[T]:
    if isinstance(values, str | Mapping) or not hasattr(values, "__len__"):
        raise TypeError(f"{name} is a {type(values).__name__}; expected a list with one entry for each candidate")
    return values
