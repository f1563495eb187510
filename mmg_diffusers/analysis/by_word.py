"""What each word of each prompt says about its image: nats, errors, the level at which it is told, and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.coloured import coloured
from mmg_diffusers.analysis.doubts import doubts, verdicts_in
from mmg_diffusers.analysis.influence import Influence
from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.measured import Measured, prefixed, same_origin, to_merge
from mmg_diffusers.measure.value import Labels, Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Grade, Verdict, packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

# What two words share, in the order in which it is shown.
SHARED = ("interaction", "redundancy", "unique_1", "unique_2", "synergy")
# Prompts that a notebook shows.
MOST_SHOWN = 20


@dataclass(frozen=True, repr=False)
class SharedByTwo:
    """What pairs of words share, S of them: `entries` `(S, 2)` index words; `parts` `(S, 5)` nats by `SHARED`.

    The interaction is there always, i(x; a) + i(x; b) - i(x; a, b) given the rest: positive where the two repeat each other, negative
    where they tell more together. Its split (see `Decomposition`) needs a prior of the words: not a number without candidates.
    """

    entries: Tensor
    parts: Tensor

    def __len__(self) -> int:
        return len(self.entries)


NONE_SHARED = SharedByTwo(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, len(SHARED), dtype=torch.float64))


@dataclass(frozen=True, repr=False)
class Words(Measured):
    """i(image; word | rest of the prompt) for E words of N prompts, in nats.

    Each word has an entry: `owner` `(E,)` is its prompt, `span` `(E, 2)` where it stands there (its first character, and the one
    after its last), `labels` by what it is averaged over prompts: itself, or the part of candidates that it is. `later` and
    `later_error` `(E, L)` are what it still adds at each of `logsnr` `(L,)`: the first column is all. `maps` and `maps_error`
    `(E, *pixels)` are at the image's size, if they were kept. `verdicts` say how far each number can be believed, and why (`grades`:
    in a word), and `how` the word was taken out.
    """

    FORMAT = "mmg_diffusers.Words/1"
    KIND = "reading of words"

    prompts: tuple[str, ...]
    ids: Tensor
    owner: Tensor
    span: Tensor
    labels: tuple[str, ...]
    nats_of_words: Tensor
    error_of_words: Tensor
    logsnr: Tensor
    later: Tensor
    later_error: Tensor
    verdicts: tuple[Verdict, ...]
    how: str
    evaluations: int
    maps: Tensor | None = None
    maps_error: Tensor | None = None
    shared: SharedByTwo = NONE_SHARED
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        count = len(self.owner)
        lengths = {
            "labels": len(self.labels),
            "nats": len(self.nats_of_words),
            "errors": len(self.error_of_words),
            "spans": len(self.span),
            "curves": len(self.later),
            "verdicts": len(self.verdicts),
        }
        wrong = {name: length for name, length in lengths.items() if length != count}
        if wrong or count == 0:
            raise ValueError(f"a reading of {count} words has {wrong or 'none'}; expected one of each for every word")
        if len(self.ids) != len(self.prompts) or len(self.ids.unique()) < len(self.ids):
            raise ValueError(f"got {len(self.ids)} ids for {len(self.prompts)} prompts; expected one of its own each")
        if not bool(self.nats_of_words.isfinite().all()):
            raise ValueError("the nats of words are not finite")

    # ---- numbers ----

    @property
    def nats(self) -> Tensor:
        """`(E,)` of every word."""
        return self.nats_of_words

    @property
    def stderr(self) -> Tensor:
        """`(E,)` standard error from the noise draws."""
        return self.error_of_words

    @property
    def grades(self) -> tuple[Grade, ...]:
        """The grade of every word's verdict."""
        return tuple(verdict.grade for verdict in self.verdicts)

    @property
    def pair_ids(self) -> Tensor:
        """`(E,)` the id of the pair that each word is of."""
        return self.ids[self.owner]

    def mean(self, cluster: Labels | None = None) -> Value:
        """The mean over words, with its standard error over pairs: words of one prompt are not independent."""
        alone = len(self.owner.unique()) < 2
        if alone:
            return Value(float(self.nats.mean()), float(self.stderr.square().sum().sqrt() / len(self.nats)))
        return super().mean(self.owner if cluster is None else cluster)

    @property
    def words(self) -> tuple[str, ...]:
        """The text of every word."""
        spans = zip(self.owner.tolist(), self.span.tolist(), strict=True)
        return tuple(self.prompts[owner][start:end] for owner, (start, end) in spans)

    def of(self, label: str) -> Words:
        """The entries of one label: a word, or a part of candidates.

        Raises:
            ValueError: for a label that there is not.
        """
        chosen = [k for k, own in enumerate(self.labels) if own == label]
        if not chosen:
            raise ValueError(f"no word {shown(label)} was read; there are {', '.join(dict.fromkeys(self.labels))}")
        return self._only(chosen)

    def means(self) -> dict[str, Value]:
        """The mean of each label over the pairs that have it, with its standard error over pairs."""
        found: dict[str, Value] = {}
        for label in dict.fromkeys(self.labels):
            part = self.of(label)
            several = len(part.owner.unique()) > 1
            found[label] = mean_over_pairs(part.nats, part.stderr, part.owner if several else None)
        return found

    @cached_property
    def half(self) -> Tensor:
        """The log-SNR `(E,)` at which half of a word's nats have been told; not a number if they are not positive."""
        levels = [
            self._influence([k]).half().value if float(self.later[k, 0]) > 0 else float("nan")
            for k in range(len(self.owner))
        ]
        return torch.tensor(levels, dtype=torch.float64)

    def influence(self, convention: Convention | None = None) -> Influence:
        """What each word still adds at each level: as many rows as words."""
        return replace(self._influence(list(range(len(self.owner)))), convention=convention)

    def _influence(self, rows: list[int]) -> Influence:
        return Influence(self.logsnr, self.later[rows], self.later_error[rows])

    def pixel_map(self) -> tuple[Tensor, Tensor]:
        """Each word's map and its standard error, `(E, *pixels)` nats.

        Raises:
            ValueError: if maps were not kept.
        """
        if self.maps is None or self.maps_error is None:
            raise ValueError("no map was kept; read the words with maps=True")
        return self.maps, self.maps_error

    def shared_means(self) -> dict[tuple[str, str], dict[str, Value]]:
        """What every two labels share, in the mean over pairs; the interaction first, and its split if there is one."""
        return _shared_means(self.labels, self.shared)

    # ---- as people see it ----

    def to_pandas(self) -> pandas.DataFrame:
        """One row a word: pair, prompt, word, label, nats, stderr, the level of its half, and how far to believe it."""
        needs("pandas", "data")
        import pandas

        return pandas.DataFrame(
            {
                "pair": self.pair_ids.numpy(),
                "prompt": [self.prompts[k] for k in self.owner.tolist()],
                "word": self.words,
                "label": self.labels,
                "nats": self.nats.numpy(),
                "stderr": self.stderr.numpy(),
                "half": self.half.numpy(),
                "verdict": self.grades,
            }
        )

    def to_html(self, most: int | None = None) -> str:
        """The prompts with their words coloured by nats, one scale for all: orange tells, blue misinforms.

        Args:
            most: prompts that are shown.
        """
        return _as_html(self, most)

    def _repr_html_(self) -> str:
        return self.to_html(MOST_SHOWN)

    def __repr__(self) -> str:
        return f"Words({len(self.owner)} words of {len(self.prompts)} prompts, {self.how}; mean {self.mean()} a word)"

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        means = self.means()
        best = sorted(means, key=lambda label: -means[label].value)[:4]
        lines = [
            f"{len(self.owner)} words of {len(self.prompts)} prompts, {self.how}, given the rest (log-SNR {low:.2f} to {high:.2f}, "
            f"{self.evaluations} evaluations)",
            *(f"{label}: {means[label]}" for label in best),
        ]
        return in_short(lines, self.verdict.told)

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        return (*self.notes, *doubts(self.labels, self.verdicts, self.how))

    # ---- files ----

    _TENSORS = ("ids", "owner", "span", "nats_of_words", "error_of_words", "logsnr", "later", "later_error")

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Numbers as tensors, and everything else; for files."""
        tensors = {name: getattr(self, name) for name in self._TENSORS}
        tensors |= {name: kept for name in ("maps", "maps_error") if (kept := getattr(self, name)) is not None}
        tensors |= prefixed("shared", {"entries": self.shared.entries, "parts": self.shared.parts})
        return tensors, {
            "prompts": list(self.prompts),
            "labels": list(self.labels),
            "notes": packed_notes(self.notes),
            "verdicts": [packed_notes(verdict.findings) for verdict in self.verdicts],
            "how": self.how,
            "evaluations": self.evaluations,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Words:
        """From what `packed` gave."""
        held: dict[str, Any] = {name: tensors[name] for name in cls._TENSORS}
        return cls(
            **held,
            prompts=tuple(record["prompts"]),
            labels=tuple(record["labels"]),
            notes=unpacked_notes(record["notes"]),
            verdicts=verdicts_in(record),
            how=record["how"],
            evaluations=record["evaluations"],
            maps=tensors.get("maps"),
            maps_error=tensors.get("maps_error"),
            shared=SharedByTwo(tensors["shared/entries"], tensors["shared/parts"]),
            settings=record["settings"],
            versions=record["versions"],
        )

    def _only(self, entries: Sequence[int]) -> Words:
        rows = list(entries)
        names = ("owner", "span", "nats_of_words", "error_of_words", "later", "later_error", "maps", "maps_error")
        kept = {name: None if (held := getattr(self, name)) is None else held[rows] for name in names}
        texts = {name: tuple(getattr(self, name)[k] for k in rows) for name in ("labels", "verdicts")}
        return replace(self, **kept, **texts, shared=NONE_SHARED)

    @staticmethod
    def merge(parts: Sequence[Words]) -> Words:
        """Join readings of different pairs, along the same levels.

        Raises:
            ValueError: for none, for other levels, settings or versions, or if a pair appears twice.
        """
        first = to_merge(parts, Words)
        for other in parts:
            if not torch.equal(other.logsnr, first.logsnr) or other.how != first.how:
                raise ValueError(f"words were read differently: {first.how} and {other.how}, or along other levels")
            if (other.maps is None) != (first.maps is None):
                raise ValueError("some readings have maps and some do not; read all with the same maps=")
        return _joined(parts, same_origin(parts, "reading"))


def _told(level: float) -> str:
    return "no half level" if level != level else f"half told at log-SNR {level:.2f}"


def _as_html(words: Words, most: int | None) -> str:
    told: dict[int, list[tuple[int, int, float, float, str]]] = {}
    entries = zip(words.owner.tolist(), words.span.tolist(), strict=True)
    for k, (owner, (start, end)) in enumerate(entries):
        told.setdefault(owner, []).append(
            (
                start,
                end,
                float(words.nats[k]),
                float(words.stderr[k]),
                f"{words.verdicts[k].grade}; {_told(float(words.half[k]))}",
            )
        )
    top = max(float(words.nats.abs().max()), 1e-9)
    chosen = list(told)[:most]
    lines = [coloured(words.prompts[owner], told[owner], top) for owner in chosen]
    if len(chosen) < len(told):
        lines.append(f"<p>and {len(told) - len(chosen)} more</p>")
    return "".join(lines)


def _joined(parts: Sequence[Words], notes: tuple[str, ...]) -> Words:
    prompts = torch.tensor([0, *(len(part.prompts) for part in parts)]).cumsum(0).tolist()
    entries = torch.tensor([0, *(len(part.owner) for part in parts)]).cumsum(0).tolist()

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    shared = SharedByTwo(
        torch.cat([part.shared.entries + start for part, start in zip(parts, entries, strict=False)]),
        torch.cat([part.shared.parts for part in parts]),
    )
    return replace(
        parts[0],
        prompts=tuple(text for part in parts for text in part.prompts),
        owner=torch.cat([part.owner + start for part, start in zip(parts, prompts, strict=False)]),
        **{name: joined(name) for name in ("ids", "span", "nats_of_words", "error_of_words", "later", "later_error")},
        **({} if parts[0].maps is None else {name: joined(name) for name in ("maps", "maps_error")}),
        labels=tuple(text for part in parts for text in part.labels),
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        evaluations=sum(part.evaluations for part in parts),
        shared=shared,
        notes=notes,
    )


def _shared_means(labels: Sequence[str], shared: SharedByTwo) -> dict[tuple[str, str], dict[str, Value]]:
    rows: dict[tuple[str, str], list[int]] = {}
    for row, (one, two) in enumerate(shared.entries.tolist()):
        rows.setdefault((labels[int(one)], labels[int(two)]), []).append(row)
    found: dict[tuple[str, str], dict[str, Value]] = {}
    for names, chosen in rows.items():
        parts = shared.parts[chosen]
        found[names] = {
            part: mean_over_pairs(parts[:, k]) for k, part in enumerate(SHARED) if bool(parts[:, k].isfinite().all())
        }
    return found
