"""Captions ranked for each image, most of them left behind after a few noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.checks import finite, needs, of_type, shown, whole
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.judging import of_few
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Sieve:
    """A short path of noise for the captions that are still in play, and which of them stay; see `Funnel`.

    Args:
        steps, until, trust, keep: as `first`, `until`, `trust` and `keep` of a `Funnel`.
        least: how many stay in any case.

    Raises:
        TypeError, ValueError: for numbers that are none of these.
    """

    steps: int
    until: float
    trust: float = 1 / 3
    keep: float = 3e-3
    least: int = 2

    def __post_init__(self) -> None:
        whole(self.steps, "steps", 1)
        whole(self.least, "least", 2)
        finite(self.until, "until")
        if not 0 < finite(self.trust, "trust") <= 1:
            raise ValueError(f"trust is {self.trust:g}; expected a factor above 0 and up to 1")
        if not 0 < finite(self.keep, "keep") < 1:
            raise ValueError(f"keep is {self.keep:g}; expected a probability above 0 and below 1")

    def in_play(self, log_q: Tensor) -> Tensor:
        """`(N, K)` which captions stay; none whose log q is -infinity."""
        stay = log_q.exp() >= self.keep
        best = log_q.topk(min(self.least, log_q.shape[1]), 1).indices
        return stay.scatter(1, best, True) & log_q.isfinite()


@dataclass(frozen=True)
class Funnel:
    """How captions are left behind: a short path of noise for all of them, and the whole one for those still in play.

    Args:
        first: steps of the short path, even in SNR at its noisy part and in log-SNR from there on.
        until: the log-SNR at which it ends.
        trust: what its evidence is multiplied by: a step of it is large, and a large step is too sure, since it takes the image that
            is predicted before it for the image itself.
        keep: the posterior after it below which a caption is left behind, with the probability that it has.
        least: how many stay in any case.
        prune: the posterior along the whole path below which a caption is not followed further, unless the plan says another.
        then: further short paths, for those that the one before left in play.

    Raises:
        TypeError, ValueError: for numbers that are none of these.
    """

    first: int = 4
    until: float = 1.5
    trust: float = 1 / 3
    keep: float = 3e-3
    least: int = 2
    prune: float = 1e-3
    then: tuple[Sieve, ...] = ()

    def __post_init__(self) -> None:
        whole(self.first, "first", 1)
        _ = self.sieves
        if not 0 < finite(self.prune, "prune") < 1:
            raise ValueError(f"prune is {self.prune:g}; expected a probability above 0 and below 1")

    @property
    def sieves(self) -> tuple[Sieve, ...]:
        """All short paths, the one for all captions first."""
        of_type(self.then, tuple, "then", "a tuple of Sieve(...)")
        for sieve in self.then:
            of_type(sieve, Sieve, "then", "a tuple of Sieve(...)")
        return (Sieve(self.first, self.until, self.trust, self.keep, self.least), *self.then)

    def in_play(self, log_q: Tensor) -> Tensor:
        """`(N, K)` which captions stay after the first of them."""
        return self.sieves[0].in_play(log_q)


@dataclass(frozen=True, repr=False)
class Ranked(Measured):
    """The posterior of K captions for each of N images, and which of them were followed to the end.

    `log_q` `(N, K)`, with rows that sum to 1; `prior` `(K,)`; `followed` `(N, K)` tells which captions saw the whole path: the
    others keep the probability that the short one left them. `nats` is log q - log p of the best caption of each image.
    `evaluations` went through the network, and `of` is what all captions along the whole path would have taken.
    """

    FORMAT = "mmg_diffusers.Ranked/1"
    KIND = "ranking"

    captions: tuple[str, ...]
    log_q: Tensor
    prior: Tensor
    followed: Tensor
    error: Tensor
    ids: Tensor
    evaluations: int
    of: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        shape = (len(self.ids), len(self.captions))
        if self.log_q.shape != shape or self.followed.shape != shape or self.prior.shape != shape[1:]:
            raise ValueError(
                f"a ranking of {shape[1]} captions for {shape[0]} images has log q {tuple(self.log_q.shape)}, a prior "
                f"{tuple(self.prior.shape)} and {tuple(self.followed.shape)} followed"
            )
        if float((self.log_q.exp().sum(1) - 1).abs().max()) > 1e-6:
            raise ValueError("the posterior of a ranking does not sum to 1")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.ids

    @property
    def nats(self) -> Tensor:
        """`(N,)` log q - log p of the best caption of each image."""
        best = self.log_q.argmax(1)
        return self.log_q[torch.arange(len(best)), best] - self.prior.log()[best]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise paths; not a number for a single one."""
        return self.error

    @property
    def best(self) -> list[str]:
        """The most probable caption of every image."""
        return [self.captions[k] for k in self.log_q.argmax(1).tolist()]

    def top(self, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable captions of every image with their probabilities, the best first."""
        values, places = self.log_q.topk(min(whole(count, "count", 1), len(self.captions)), 1)
        return [
            [(self.captions[k], q) for k, q in zip(row, probabilities, strict=True)]
            for row, probabilities in zip(places.tolist(), values.exp().tolist(), strict=True)
        ]

    def _places(self, truth: Sequence[str]) -> Tensor:
        if isinstance(truth, str) or len(truth) != len(self):
            raise ValueError(f"the true captions are {shown(truth)}; expected a list of {len(self)}")
        place = {caption: k for k, caption in enumerate(self.captions)}
        absent = [caption for caption in truth if caption not in place]
        if absent:
            raise ValueError(f"{shown(absent[0])} is not among the {len(place)} captions that were ranked")
        return torch.tensor([place[caption] for caption in truth])

    def rank_of(self, truth: Sequence[str]) -> Tensor:
        """`(N,)` the rank of each true caption, from 1.

        Raises:
            ValueError: for a caption that was not ranked, or a wrong number of them.
        """
        own = self.log_q.gather(1, self._places(truth)[:, None])
        return 1 + (self.log_q > own).sum(1)

    def recall(self, truth: Sequence[str], count: int = 1) -> Value:
        """The share of images whose true caption is among the first `count`, with its standard error over images.

        Raises:
            ValueError: as `rank_of` does.
        """
        found = (self.rank_of(truth) <= whole(count, "count", 1)).double()
        return Value(*mean_over_pairs(found), "share")

    def pointwise(self, truth: Sequence[str]) -> Tensor:
        """`(N,)` log q - log p of each true caption; its mean is a lower bound as `Classification.bound` is.

        Raises:
            ValueError: as `rank_of` does.
        """
        places = self._places(truth)
        return self.log_q.gather(1, places[:, None])[:, 0] - self.prior.log()[places]

    def loss(self, full: Classification, truth: Sequence[str]) -> Value:
        """What the funnel lost of the true captions' nats, against the whole path for all: 0 for a funnel that loses nothing.

        Args:
            full: from `MMGPipeline.classify` of the same captions, plan and pair ids, so that both see the same noise.
            truth: the true captions.

        Raises:
            ValueError: for other captions or pairs.
        """
        if full.candidates != self.captions or not torch.equal(full.curve.pair_ids, self.ids):
            raise ValueError(
                "the whole posterior is of other captions or pairs; classify the same with the same pair_ids"
            )
        return mean_over_pairs(full.pointwise(truth) - self.pointwise(truth))

    def to_pandas(self) -> pandas.DataFrame:
        """One row an image: id, its best caption, nats, stderr, probability, the second best, and how many were followed."""
        needs("pandas", "data")
        import pandas

        first = self.top(2)
        return pandas.DataFrame(
            {
                "pair": self.ids.numpy(),
                "best": [row[0][0] for row in first],
                "nats": self.nats.numpy(),
                "stderr": self.stderr.numpy(),
                "probability": [row[0][1] for row in first],
                "second": [row[1][0] for row in first],
                "followed": self.followed.sum(1).numpy(),
            }
        )

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        said = list(self.notes)
        best = self.followed.gather(1, self.log_q.argmax(1, keepdim=True))
        if not bool(best.all()):
            said.append(
                f"the best caption of {int((~best).sum())} of {len(self)} images was left behind by the short path; keep more (Funnel(keep=))"
            )
        return (*said, *of_few(len(self), "image"))

    def __str__(self) -> str:
        line = (
            f"{len(self.captions)} captions ranked for {len(self)} images: {self.followed.double().sum(1).mean():.1f} of them followed to the "
            f"end, {self.evaluations} evaluations, {100 * self.evaluations / self.of:.1f} % of {self.of}"
        )
        return in_short([f"verdict: {self.verdict}", line], self.verdict.told)

    # ---- files ----

    _TENSORS = ("log_q", "prior", "followed", "error", "ids")

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Numbers as tensors, and everything else; for files."""
        return {name: getattr(self, name) for name in self._TENSORS}, {
            "captions": list(self.captions),
            "evaluations": self.evaluations,
            "of": self.of,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Ranked:
        """From what `packed` gave."""
        held: dict[str, Any] = {name: record[name] for name in ("evaluations", "of", "settings", "versions")}
        held |= {"captions": tuple(record["captions"]), "notes": unpacked_notes(record["notes"])}
        held |= {name: tensors[name] for name in cls._TENSORS}
        return cls(**held)

    @staticmethod
    def merge(parts: Sequence[Ranked]) -> Ranked:
        """Join rankings of the same captions for different images.

        Raises:
            ValueError: for none, for other captions, priors, settings or versions.
        """
        first = to_merge(parts, Ranked)
        for other in parts:
            if other.captions != first.captions or not torch.equal(other.prior, first.prior):
                raise ValueError("the captions of two rankings, or their prior, differ; rank all images with the same")
        joined = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in ("log_q", "followed", "error", "ids")
        }
        return Ranked(
            first.captions,
            joined["log_q"],
            first.prior,
            joined["followed"],
            joined["error"],
            joined["ids"],
            sum(part.evaluations for part in parts),
            sum(part.of for part in parts),
            first.settings,
            first.versions,
            same_origin(parts, "ranking"),
        )


def left_behind(first: Tensor, later: Tensor, slots: Tensor, count: int) -> Tensor:
    """The posterior `(N, K)` of captions of which some were followed further.

    Args:
        first: `(N, K)` log q of all after the short path.
        later: `(N, M)` log q of those in play among themselves after the whole one, -infinity in empty slots.
        slots: `(N, M)` which captions they are.
        count: K.
    """
    held = later.isfinite()
    place = torch.where(held, slots, count)
    # Those in play share what the short path left to all of them.
    own = torch.where(held, first.gather(1, slots), -torch.inf)
    padded = torch.nn.functional.pad(first, (0, 1), value=0.0)
    return padded.scatter(1, place, torch.where(held, later + own.logsumexp(1, keepdim=True), 0.0))[:, :count]
