"""How much more a model says of pairs than is true, or than a model says that never saw them: memorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.judging import of_few
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Labels, Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding, packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

# What two results should have in common, so that their noise cancels.
HOW = ("seed", "quadrature", "draws", "logsnr_range", "integrand")


@dataclass(frozen=True, repr=False)
class Excess(Measured):
    """What a model says of each pair above what is true, or above what another model says: i_model - i_other, `(N,)` nats.

    `model` and `other` `(N,)` are the two, `model_error` and `other_error` their standard errors from the noise. A pair that was
    memorised stands out: its image follows from its caption more than the law, or a model that never saw it, would have
    it. In the mean over fresh pairs it is what the model is wrong by.
    """

    FORMAT = "mmg_diffusers.Excess/1"
    KIND = "excess"

    model: Tensor
    model_error: Tensor
    other: Tensor
    other_error: Tensor
    ids: Tensor
    against: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        for name in ("model", "model_error", "other", "other_error"):
            if getattr(self, name).shape != self.ids.shape or self.ids.ndim != 1:
                raise ValueError(
                    f"the {name} of an excess is {shown(getattr(self, name))}; expected a number for each of {len(self.ids)} pairs"
                )

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.ids

    @property
    def nats(self) -> Tensor:
        """`(N,)` of the model less the other."""
        return self.model - self.other

    @property
    def stderr(self) -> Tensor:
        """`(N,)` of both together, as if they had noise of their own; at shared noise it is less."""
        return (self.model_error.square() + self.other_error.square()).sqrt()

    def z(self) -> Tensor:
        """`(N,)` the excess in units of its spread over pairs, from their median: what stands out.

        The spread is the median absolute deviation, times 1.4826 for a normal law, which a few memorised pairs do not move.

        Raises:
            ValueError: for fewer than three pairs.
        """
        if len(self) < 3:
            raise ValueError(f"there are {len(self)} pairs; expected three or more, to tell what stands out")
        off = self.nats - self.nats.median()
        return off / (1.4826 * off.abs().median()).clamp(min=1e-12)

    def auroc(self, copied: Sequence[bool] | Tensor) -> float:
        """The chance that a pair that was copied has more excess than one that was not, ties half.

        Raises:
            ValueError: unless there is a truth value for each pair, and some of either.
        """
        mask = torch.as_tensor(copied)
        if mask.dtype != torch.bool or mask.shape != self.ids.shape or bool(mask.all()) or not bool(mask.any()):
            raise ValueError(
                f"copied is {shown(copied)}; expected a truth value for each of {len(self)} pairs, some of either"
            )
        above = self.nats[mask][:, None] - self.nats[~mask][None]
        return float(((above > 0).double() + (above == 0).double() / 2).mean())

    def by(self, labels: Labels) -> dict[Any, Value]:
        """The mean excess of the pairs of each label, such as how often a pair was copied.

        Raises:
            ValueError: unless there is a label for each pair.
        """
        listed = labels.tolist() if isinstance(labels, Tensor) else list(labels)
        if len(listed) != len(self):
            raise ValueError(f"got {len(listed)} labels for {len(self)} pairs; expected one each")
        found: dict[Any, Value] = {}
        for label in dict.fromkeys(listed):
            rows = [k for k, own in enumerate(listed) if own == label]
            found[label] = mean_over_pairs(self.nats[rows], self.stderr[rows])
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, nats, stderr, and both informations."""
        needs("pandas", "data")
        return super().to_pandas().assign(model=self.model.numpy(), other=self.other.numpy())

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        return (*self.notes, *of_few(len(self)))

    def __str__(self) -> str:
        line = f"{self.mean()} above {self.against} in the mean over {len(self)} pairs"
        return in_short([f"verdict: {self.verdict}", line], self.verdict.told)

    # ---- files ----

    _TENSORS = ("model", "model_error", "other", "other_error", "ids")

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Numbers as tensors, and everything else; for files."""
        return {name: getattr(self, name) for name in self._TENSORS}, {
            "against": self.against,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Excess:
        """From what `packed` gave."""
        held: dict[str, Any] = {name: record[name] for name in ("against", "settings", "versions")}
        held |= {name: tensors[name] for name in cls._TENSORS}
        return cls(**held, notes=unpacked_notes(record["notes"]))

    @staticmethod
    def merge(parts: Sequence[Excess]) -> Excess:
        """Join the excess of different pairs.

        Raises:
            ValueError: for none, for other settings or versions, or what they are held against.
        """
        first = to_merge(parts, Excess)
        if any(part.against != first.against for part in parts):
            raise ValueError("two parts are held against different truths; join those of one")
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in Excess._TENSORS}
        return replace(first, **joined, notes=same_origin(parts, "excess"))


def _unlike(model: Measured, other: Measured) -> tuple[str, ...]:
    """What the two were measured with that is not the same, and adds to what they differ by."""
    own, held = (getattr(result, "settings", {}) for result in (model, other))
    off = [name for name in HOW if name in own and name in held and own[name] != held[name]]
    said = ", ".join(f"{name} {shown(own[name])} and {shown(held[name])}" for name in off)
    return (f"the two were measured with {said}: what that does is in the excess",) if off else ()


def excess(model: Measured, other: Measured | Tensor | Sequence[float]) -> Excess:
    """How much more a model says of pairs than is true, or than a held-out model says.

    ``excess(pipe(images, prompts), world.pointwise(factors, caption))`` against an exact world;
    ``excess(pipe(images, prompts, seed=1), held_out(images, prompts, seed=1))`` against a model that never saw the pairs.

    Args:
        model: what it says, one number a pair.
        other: the exact pointwise informations `(N,)` in nats, or what the other model says of the same pairs, in the same way. Pairs are
            told by their ids, which by default are their places: no result knows its pictures, so give both the same ones.

    Raises:
        TypeError: for what is neither.
        ValueError: for another number of pairs, other ids, a result of another kind, or numbers that are not finite.
    """
    of_type(model, Measured, "model", "a result, such as pipe(images, prompts)")
    if isinstance(other, Measured):
        if other.KIND != model.KIND:
            raise ValueError(
                f"the model's result is of the kind {shown(model.KIND)} and the other's {shown(other.KIND)}; measure both in one way, such as pipe(images, prompts)"
            )
        if not torch.equal(other.pair_ids, model.pair_ids):
            raise ValueError(
                f"the two results are of the pairs {shown(model.pair_ids)} and {shown(other.pair_ids)}; measure the same pairs, in one order"
            )
        nats, error, against = (
            other.nats,
            other.stderr.nan_to_num(),
            f"what {shown(str(getattr(other, 'settings', {}).get('model', 'another model')))} says",
        )
        notes = (*_unlike(model, other), *(_of_other(note) for note in getattr(other, "notes", ())))
    else:
        nats = torch.as_tensor(other, dtype=torch.float64)
        error, against, notes = torch.zeros_like(nats), "the exact information", ()
        if nats.shape != model.nats.shape:
            raise ValueError(
                f"got exact informations of shape {tuple(nats.shape)} for {len(model)} pairs; expected one each"
            )
    for name, values in (("model's", model.nats), ("other's", nats)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"the {name} informations are not finite; leave out the pairs where they are not")
    settings = dict(getattr(model, "settings", {}))
    return Excess(
        model.nats,
        model.stderr.nan_to_num(),
        nats,
        error,
        model.pair_ids,
        against,
        settings,
        notes=(*getattr(model, "notes", ()), *notes),
    )


def _of_other(note: str) -> str:
    said = f"the other: {note}"
    return Finding(said, note.about, note.grade) if isinstance(note, Finding) else said
