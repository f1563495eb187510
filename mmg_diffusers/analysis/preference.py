"""Which of two captions fits an image better: by how much, where in the image, and from which level on it is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.influence import Influence
from mmg_diffusers.checks import finite, needs, of_type, shown
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.judging import of_few, of_steps
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding, packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

# A pair's own variance over draws counts as its draws less one, that of all pairs as so many.
OTHERS = 4
# What is called decided.
DECIDED = 0.95


@dataclass(frozen=True, repr=False)
class Preference(Measured):
    """How much better caption `a` of each image fits than caption `b`: log p(image | a) - log p(image | b), in nats.

    Both captions see the same noise, along `D` paths from noisy to clean. `score` `(N, D, L)` is what each step adds, `logsnr`
    `(L + 1,)` the levels between the steps. `maps` `(N, D, *pixels)` is the same pixel by pixel, at the image's size, if maps
    were kept. Log odds are nats: 0 for captions that fit alike, 3 for odds of 20 to 1.
    """

    FORMAT = "mmg_diffusers.Preference/1"
    KIND = "comparison of two captions"

    a: tuple[str, ...]
    b: tuple[str, ...]
    score: Tensor
    logsnr: Tensor
    ids: Tensor
    evaluations: int
    maps: Tensor | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        shape = (len(self.a), len(self.logsnr) - 1)
        if self.score.ndim != 3 or (self.score.shape[0], self.score.shape[2]) != shape or len(self.b) != len(self.a):
            raise ValueError(
                f"the scores are {tuple(self.score.shape)} for {len(self.a)} and {len(self.b)} captions and {len(self.logsnr)} levels; "
                "expected (N, draws, levels - 1)"
            )
        if self.score.dtype != torch.float64 or not bool(self.score.isfinite().all()):
            raise ValueError(f"the scores are {self.score.dtype}; expected finite float64")
        if self.ids.shape != (len(self.a),) or len(self.ids.unique()) < len(self.ids):
            raise ValueError(f"the ids are {tuple(self.ids.shape)}; expected {len(self.a)} different ones")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.ids

    @property
    def by_level(self) -> Tensor:
        """The log odds from the noisy end up to each level, `(N, L + 1)`, in the mean over draws."""
        sums = self.score.mean(1).cumsum(1)
        return torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)

    @property
    def nats(self) -> Tensor:
        """`(N,)` log p(image | a) - log p(image | b)."""
        return self.score.sum(2).mean(1)

    @cached_property
    def stderr(self) -> Tensor:
        """`(N,)` standard error over noise paths: a pair's own variance, averaged with that of all pairs, since few paths tell
        little of it; not a number for a single path.
        """  # fmt: skip
        return _error(self.score.sum(2))

    @property
    def probability(self) -> Tensor:
        """`(N,)` the posterior probability of `a` among the two, if they are equally probable before."""
        return self.nats.sigmoid()

    def odds(self, prior: float = 0.5) -> Tensor:
        """`(N,)` log odds of `a`, in nats.

        Args:
            prior: the probability of `a` among the two, before the image is seen.

        Raises:
            ValueError: for a prior that is not inside of 0 and 1.
        """
        if not 0 < finite(prior, "prior") < 1:
            raise ValueError(f"prior is {prior:g}; expected the probability of a, above 0 and below 1")
        return self.nats + torch.tensor(prior, dtype=torch.float64).logit()

    @property
    def best(self) -> list[str]:
        """The caption of each image that fits better."""
        return [a if wins else b for a, b, wins in zip(self.a, self.b, (self.nats > 0).tolist(), strict=True)]

    def share(self) -> Value:
        """The share of images that `a` fits better, with its standard error over pairs; ties count half."""
        won = torch.where(self.nats == 0, 0.5, (self.nats > 0).double())
        value, stderr = mean_over_pairs(won)
        return Value(value, stderr, "share")

    def decided(self, share: float = DECIDED) -> Tensor:
        """The log-SNR `(N,)` from which on the posterior of the winner stays above a share; not a number if it ends below.

        Raises:
            ValueError: for a share that is not between 0.5 and 1.
        """
        if not 0.5 < finite(share, "share") < 1:
            raise ValueError(f"share is {share:g}; expected one above 0.5 and below 1")
        odds = self.by_level * torch.where(self.nats >= 0, 1.0, -1.0)[:, None]
        below = odds.sigmoid() < share
        last = torch.where(below.any(1), below.shape[1] - below.flip(1).double().argmax(1), 0)
        levels = torch.cat([self.logsnr, torch.tensor([torch.nan], dtype=torch.float64)])
        return levels[last]

    def influence(self, convention: Convention | None = None) -> Influence:
        """The log odds that are still to come at each level."""
        later = self.score.flip(2).cumsum(2).flip(2)
        later = torch.cat([later, torch.zeros_like(later[..., :1])], 2)
        error = torch.stack([_error(later[..., k]) for k in range(later.shape[2])], 1)
        return Influence(self.logsnr, later.mean(1), error, convention)

    def pixel_map(self) -> tuple[Tensor, Tensor]:
        """The difference pixel by pixel, and its standard error, `(N, *pixels)` nats; it sums to `nats`.

        Raises:
            ValueError: if maps were not kept.
        """
        if self.maps is None:
            raise ValueError("no map was kept; compare with keep='pixel'")
        draws = self.maps.shape[1]
        error = self.maps.std(1) / draws**0.5 if draws > 1 else torch.full_like(self.maps[:, 0], torch.nan)
        return self.maps.mean(1), error

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, both captions, nats, stderr, the probability of `a`, and the level where it is decided."""
        needs("pandas", "data")
        import pandas

        return pandas.DataFrame(
            {
                "pair": self.ids.numpy(),
                "a": self.a,
                "b": self.b,
                "nats": self.nats.numpy(),
                "stderr": self.stderr.numpy(),
                "probability": self.probability.numpy(),
                "decided": self.decided().numpy(),
            }
        )

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        said = [*self.notes, *of_steps(self.logsnr)]
        close = self.nats.abs() < 2 * self.stderr
        if bool(close.any()):
            said.append(
                Finding(
                    f"{int(close.sum())} of {len(self)} pairs are within two standard errors of a tie; take more draws",
                    "ties",
                )
            )
        # What the last tenth of the range still moves is of the clean end, at which networks err most.
        late = self.logsnr[:-1] > self.logsnr[-1] - 0.1 * (self.logsnr[-1] - self.logsnr[0])
        moved = self.score.mean(1)[:, late].sum(1).abs()
        loud = moved > (0.1 * self.nats.abs()).clamp(min=0.1) + 2 * self.stderr.nan_to_num()
        if bool(loud.any()):
            said.append(
                Finding(
                    f"the clean end of the path, above log-SNR {float(self.logsnr[:-1][late][0]):.2f}, moves {int(loud.sum())} of "
                    f"{len(self)} pairs by more than a tenth: mind that networks err most there, or end the path earlier (logsnr_range=)",
                    "clean end",
                )
            )
        return (*said, *of_few(len(self)))

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        mean, share = self.mean(), self.share().value
        # The one that fits better is named, so that nobody reads a minus as the other's.
        better, other, sign = ("a", "b", 1) if mean.value >= 0 else ("b", "a", -1)
        line = (
            f"{better} fits better by {Value(sign * mean.value, mean.stderr)} in the mean over {len(self)} pairs, and better than {other} "
            f"in {100 * (share if sign > 0 else 1 - share):.0f} % of them (log-SNR {low:.2f} to {high:.2f}, {self.score.shape[1]} paths, {self.evaluations} evaluations)"
        )
        return in_short([f"verdict: {self.verdict}", line], self.verdict.told)

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The scores as tensors, and everything else; for files."""
        tensors = {"score": self.score, "logsnr": self.logsnr, "ids": self.ids}
        return tensors | ({} if self.maps is None else {"maps": self.maps}), {
            "a": list(self.a),
            "b": list(self.b),
            "evaluations": self.evaluations,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Preference:
        """From what `packed` gave."""
        return cls(
            tuple(record["a"]),
            tuple(record["b"]),
            tensors["score"],
            tensors["logsnr"],
            tensors["ids"],
            record["evaluations"],
            tensors.get("maps"),
            record["settings"],
            record["versions"],
            unpacked_notes(record["notes"]),
        )

    @staticmethod
    def merge(parts: Sequence[Preference]) -> Preference:
        """Join comparisons of different pairs along the same levels.

        Raises:
            ValueError: for none, for other levels, settings or versions, or if a pair appears twice.
        """
        first = to_merge(parts, Preference)
        for other in parts:
            if not torch.equal(other.logsnr, first.logsnr) or other.score.shape[1:] != first.score.shape[1:]:
                raise ValueError(
                    f"captions were compared along different paths: {shown(first.score)} and {shown(other.score)}"
                )
        notes = same_origin(parts, "comparison")
        maps = [part.maps for part in parts if part.maps is not None]
        if len(maps) not in (0, len(parts)):
            raise ValueError("some comparisons have maps and some do not; compare all with the same keep=")
        return Preference(
            tuple(text for part in parts for text in part.a),
            tuple(text for part in parts for text in part.b),
            torch.cat([part.score for part in parts]),
            first.logsnr,
            torch.cat([part.ids for part in parts]),
            sum(part.evaluations for part in parts),
            torch.cat(maps) if maps else None,
            first.settings,
            first.versions,
            notes,
        )


def _error(values: Tensor) -> Tensor:
    """Standard error over draws of `(N, D)`, each pair's variance averaged with that of all; not a number for one draw."""
    draws = values.shape[1]
    if draws < 2:
        return torch.full_like(values[:, 0], torch.nan)
    own = values.var(1)
    return (((draws - 1) * own + OTHERS * own.mean()) / (draws - 1 + OTHERS) / draws).sqrt()
