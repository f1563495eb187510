"""Read the words of prompts: each given the rest, by taking it out or among candidates, and what two of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mmg_diffusers.analysis.by_word import NONE_SHARED, SHARED, SharedByTwo, Words
from mmg_diffusers.analysis.doubts import AMONG, verdict_of
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.words import all_but, decompose, parts_by_place
from mmg_diffusers.checks import Brief, of_type, shown
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import form_of
from mmg_diffusers.measure.verdict import Verdict
from mmg_diffusers.pairs.marginals import Candidates, Marginal, NullPrompt
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Prompt, Word, check_named, find_word, refuse_twice, without, words_of
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.progress import bar_of_parts

Result = Estimate | Filtered


class Measures(Protocol):
    """What reads words: a model that measures pairs."""

    def measure(
        self,
        images: Sequence[VideoLike],
        prompts: Sequence[Prompt],
        given: Sequence[Prompt] | None,
        marginal: Marginal,
        plan: Plan,
        pair_ids: Sequence[int] | None = None,
    ) -> object: ...

    def spread(self, maps: Tensor, images: Sequence[VideoLike], resized: bool = False) -> Tensor: ...


@dataclass(frozen=True, repr=False)
class Asked(Brief):
    """Whose words: N images, their prompts and ids, and how they are measured.

    Args:
        model: what measures.
        images, prompts, ids: N of each.
        plan: how.
        maps: whether maps are kept.
        together: whether every two words are read as well.
    """

    model: Measures
    images: Sequence[VideoLike]
    prompts: Sequence[str]
    ids: Sequence[int]
    plan: Plan
    maps: bool
    together: bool

    @property
    def progress(self) -> Mapping[str, Any]:
        """Options of the bar of what measures."""
        return getattr(self.model, "progress_bar_config", {})

    def some(self, rows: Sequence[int]) -> Asked:
        """Some of the pairs."""
        return replace(
            self,
            images=[self.images[k] for k in rows],
            prompts=[self.prompts[k] for k in rows],
            ids=[self.ids[k] for k in rows],
        )

    def measured(self, given: Sequence[Prompt] | None, marginal: Marginal) -> Result:
        """The pairs, measured."""
        plan = replace(self.plan, keep="pixel" if self.maps else "pair")
        return cast("Result", self.model.measure(self.images, self.prompts, given, marginal, plan, self.ids))


def read_words(
    asked: Asked, words: Sequence[str | Word] | None, marginal: Marginal | Sequence[Marginal], mask: str | None
) -> Words:
    """Read the words of the prompts.

    Args:
        asked: whose.
        words: which; by default all, or all that differ among candidates.
        marginal: of all pairs, or one each.
        mask: what takes the place of a word without candidates; masked by default.

    Raises:
        TypeError, ValueError: for marginals that do not fit, and words that there are not.
    """
    check_named(words)
    if isinstance(marginal, Marginal):
        return _of_one(asked, words, marginal, mask)
    of_type(marginal, Sequence, "marginal", "NullPrompt(), Candidates, or a list of one for each image")
    if len(marginal) != len(asked.prompts):
        raise ValueError(
            f"got {len(marginal)} marginals for {len(asked.prompts)} images; expected one for each, or one for all"
        )
    for place, one in enumerate(marginal):
        of_type(one, Candidates, f"marginal[{place}]", "Candidates(...), such as Candidates.vary makes")
    rows: dict[str, list[int]] = {}
    for place, one in enumerate(marginal):
        rows.setdefault(str(one.record()), []).append(place)
    with bar_of_parts(len(rows), "words", asked.progress):
        return Words.merge([_of_one(asked.some(own), words, marginal[own[0]], mask) for own in rows.values()])


def check_words(
    prompts: Sequence[str], words: Sequence[str | Word] | None, marginal: Candidates | NullPrompt, mask: str | None
) -> None:
    """Find out whether words can be read, before anything is measured.

    Raises:
        TypeError: for a single text in place of a list of words.
        ValueError: as `read_words` does.
    """
    check_named(words)
    if isinstance(marginal, Candidates):
        _check_mask(mask)
        _named(prompts, words, marginal)
    else:
        _left(prompts, words, mask)


def _check_mask(mask: str | None) -> None:
    if mask is not None:
        raise ValueError(f"candidates say by themselves what a word is replaced by; leave mask={shown(mask)} out")


def _of_one(asked: Asked, words: Sequence[str | Word] | None, marginal: Marginal, mask: str | None) -> Words:
    if isinstance(marginal, Candidates):
        _check_mask(mask)
        return _among(asked, words, marginal)
    if not isinstance(marginal, NullPrompt):
        raise ValueError(
            f"{marginal.label} do not share the rest of the prompt with it, so they cannot isolate a word; use the null prompt or candidates"
        )
    return _taken_out(asked, words, mask)


# ---- by taking words out ----


def _places(prompt: str, words: Sequence[str | Word] | None) -> list[Word]:
    """The words of a prompt that are read, by place: those that are asked for and that it has."""
    if words is None:
        return [Word(place=k) for k in range(len(words_of(prompt)))]
    found: list[Word] = []
    for word in words:
        wanted = word if isinstance(word, Word) else Word.parse(word)
        if wanted.text is None or f" {wanted.text} " in f" {' '.join(words_of(prompt))} ":
            wanted.find(prompt)
            found.append(wanted)
    return found


def _left(
    prompts: Sequence[str], words: Sequence[str | Word] | None, mask: str | None
) -> tuple[list[list[Word]], list[list[Prompt]]]:
    """The words of each prompt that are read, and what is left of it without each."""
    own = [_places(prompt, words) for prompt in prompts]
    for word in words or ():
        if not any(str(word) in map(str, some) for some in own):
            raise ValueError(
                f"no prompt has the word {shown(str(word))}; words of the first are {', '.join(words_of(prompts[0]))[:80]}"
            )
    if not any(own):
        raise ValueError("no prompt has a word to read")
    for prompt, some in zip(prompts, own, strict=True):
        refuse_twice([word.find(prompt) for word in some], some)
    return own, [[without(prompt, [word], mask) for word in some] for prompt, some in zip(prompts, own, strict=True)]


def _taken_out(asked: Asked, words: Sequence[str | Word] | None, mask: str | None) -> Words:
    own, left = _left(asked.prompts, words, mask)
    turns = max(map(len, own))
    with bar_of_parts(turns + (comb(turns, 2) if asked.together else 0), "words", asked.progress):
        return _one_after_another(asked, words, own, left, mask)


def _one_after_another(
    asked: Asked,
    words: Sequence[str | Word] | None,
    own: list[list[Word]],
    left: list[list[Prompt]],
    mask: str | None,
) -> Words:
    """Measure every word of the prompts, and every two if it is asked for."""
    gathered = _Gathered(asked)
    for turn in range(max(map(len, own))):
        rows = [k for k, some in enumerate(own) if len(some) > turn]
        result = asked.some(rows).measured([left[k][turn] for k in rows], NullPrompt())
        spans = [find_word(asked.prompts[k], *own[k][turn].find(asked.prompts[k])) for k in rows]
        texts = [asked.prompts[k][start:end] for k, (start, end) in zip(rows, spans, strict=True)]
        # As they were asked for; of all words, by what they are.
        labels = texts if words is None else [str(own[k][turn]) for k in rows]
        gathered.add(result, rows, spans, labels)
    how = "masked" if mask is None else f"replaced by {shown(mask)}" if mask.strip() else "left out"
    shared = _two_taken_out(asked, own, mask, gathered) if asked.together else NONE_SHARED
    return gathered.words(how, shared)


def _two_taken_out(asked: Asked, own: list[list[Word]], mask: str | None, gathered: _Gathered) -> SharedByTwo:
    """The interaction of every two words of each prompt, in the gap form, which adds up at the same noise."""
    entries: list[tuple[int, int]] = []
    nats: list[float] = []
    two = [list(combinations(range(len(some)), 2)) for some in own]
    for turn in range(max(map(len, two))):
        rows = [k for k, some in enumerate(two) if len(some) > turn]
        given = [without(asked.prompts[k], [own[k][at] for at in two[k][turn]], mask) for k in rows]
        result = replace(asked, maps=False).some(rows).measured(given, NullPrompt())
        gathered.evaluations += result.evaluations
        both = cast(Estimate, result).using("gap").nats.tolist()
        for k, value in zip(rows, both, strict=True):
            one, other = (gathered.entry[k, at] for at in two[k][turn])
            entries.append((one, other))
            nats.append(value - gathered.gap[one] - gathered.gap[other])
    parts = torch.full((len(entries), len(SHARED)), torch.nan, dtype=torch.float64)
    parts[:, 0] = torch.tensor(nats, dtype=torch.float64)
    return SharedByTwo(torch.tensor(entries, dtype=torch.int64).reshape(-1, 2), parts)


# ---- among candidates ----


def _named(
    prompts: Sequence[str], words: Sequence[str | Word] | None, marginal: Candidates
) -> tuple[Mapping[str, Sequence[str]], list[str], dict[str, int]]:
    """What candidates differ in, by name; the names that are read; and where each candidate stands."""
    parts = marginal.parts or parts_by_place(tuple(marginal.prompts))
    named = list(parts) if words is None else [str(word) for word in words]
    # A word may be named by its text where candidates are told apart by place.
    for at, name in enumerate(named):
        if name not in parts:
            place = f"@{Word.parse(name).place_in(prompts)}" if marginal.parts is None else name
            if place not in parts:
                raise ValueError(f"the candidates do not differ in {shown(name)}; they differ in {', '.join(parts)}")
            named[at] = place
    refuse_twice(named, words or named)
    place_of = {text: k for k, text in enumerate(marginal.prompts)}
    absent = [prompt for prompt in prompts if prompt not in place_of]
    if absent:
        raise ValueError(f"the prompt {shown(absent[0])} is not among the {len(place_of)} candidates; add it to them")
    return parts, named, place_of


def _among(asked: Asked, words: Sequence[str | Word] | None, marginal: Candidates) -> Words:
    parts, named, place_of = _named(asked.prompts, words, marginal)
    with bar_of_parts(len(named) + (asked.together and len(named) > 1), "words", asked.progress):
        return _named_among(asked, marginal, parts, named, place_of)


def _named_among(
    asked: Asked,
    marginal: Candidates,
    parts: Mapping[str, Sequence[str]],
    named: list[str],
    place_of: Mapping[str, int],
) -> Words:
    """Hold every named word against what other candidates say in its place."""
    gathered = _Gathered(asked)
    rows = list(range(len(asked.prompts)))
    for name in named:
        rest = all_but(parts, name)
        if marginal.groups is not None:
            rest = list(zip(marginal.groups, rest, strict=True))
        result = asked.measured(None, replace(marginal, groups=rest))
        spans = [_span(prompt, name, str(parts[name][place_of[prompt]])) for prompt in asked.prompts]
        gathered.add(result, rows, spans, [name] * len(rows))
    shared = (
        _shared_among(asked, marginal, parts, named, gathered) if asked.together and len(named) > 1 else NONE_SHARED
    )
    return gathered.words(AMONG, shared)


def _span(prompt: str, name: str, text: str) -> tuple[int, int]:
    """Where a part stands in a prompt: by its place, or by its text, the first time that it is said."""
    if name.startswith("@"):
        return find_word(prompt, *Word.parse(name).find(prompt))
    try:
        return find_word(prompt, text, 0)
    except ValueError:  # a part need not be said in words of its own
        return 0, 0


def _shared_among(
    asked: Asked, marginal: Candidates, parts: Mapping[str, Sequence[str]], named: list[str], gathered: _Gathered
) -> SharedByTwo:
    result = cast(Filtered, replace(asked, maps=False).measured(None, marginal))
    gathered.evaluations += result.evaluations
    posterior, truth = result.classification, list(asked.prompts)
    entries: list[tuple[int, int]] = []
    values: list[Tensor] = []
    for one, two in combinations(range(len(named)), 2):
        rest = [name for name in parts if name not in (named[one], named[two])]
        split = decompose(posterior, truth, parts, named[one], named[two], given=rest)
        entries += [(gathered.entry[k, one], gathered.entry[k, two]) for k in range(len(truth))]
        values.append(torch.stack([getattr(split, part) for part in SHARED], 1))
    return SharedByTwo(torch.tensor(entries, dtype=torch.int64), torch.cat(values))


class _Gathered:
    """Entries as they are measured, one word of some prompts at a time."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.results: list[Result] = []
        self.owner: list[int] = []
        self.span: list[tuple[int, int]] = []
        self.labels: list[str] = []
        self.verdicts: list[Verdict] = []
        self.gap: list[float] = []
        self.entry: dict[tuple[int, int], int] = {}
        self.evaluations = 0

    def add(self, result: Result, rows: list[int], spans: list[tuple[int, int]], labels: list[str]) -> None:
        """A word of each of the prompts in `rows`."""
        compared = result if isinstance(result, Estimate) else result.against_mixture
        gap, difference = compared.using("gap"), compared.curve.gap - compared.curve.orthogonal
        own = compared.nats.tolist()
        if isinstance(result, Estimate):
            # As an estimate of its own, whose integrand is the difference.
            doubt = Estimate(replace(compared.curve, gap=difference, maps={}), "gap")
            beyond = compared.curve.by_level(compared.values)[:, -1] / 2
            off = (doubt.nats, doubt.stderr, beyond)
            self.verdicts += [verdict_of(*one) for one in zip(own, *(part.tolist() for part in off), strict=True)]
        else:
            # Notes are of the pictures and prompts, and of the whole.
            heard = [said for said in result.warnings() if said not in result.notes]
            self.verdicts += [Verdict.of(heard)] * len(rows)
        turn = len(self.results)
        for k in rows:
            self.entry[k, turn] = len(self.entry)
        self.results.append(result)
        self.owner += rows
        self.span += spans
        self.labels += labels
        self.gap += gap.nats.tolist()
        self.evaluations += result.evaluations

    def words(self, how: str, shared: SharedByTwo) -> Words:
        """All of them."""
        curves = [result.influence() for result in self.results]
        first, asked = self.results[0], self.asked
        maps = error = None
        if asked.maps:
            found = [
                one.pixel_map(form_of(one.integrand))
                if isinstance(one, Estimate)
                else one.against_mixture.pixel_map("orthogonal")
                for one in self.results
            ]
            maps, error = (
                asked.model.spread(torch.cat([part[k] for part in found]), asked.images, asked.plan.resize).float()
                for k in (0, 1)
            )
        # Of pairs that share an image the measurement of the most pairs tells: others are of the prompts that have as many words.
        most = max(self.results, key=len)
        heard = [(result is most, note) for result in self.results for note in result.notes]
        notes = dict.fromkeys(note for all_, note in heard if all_ or getattr(note, "about", "") != "pairs")
        return Words(
            tuple(asked.prompts),
            torch.tensor(list(asked.ids), dtype=torch.int64),
            torch.tensor(self.owner),
            torch.tensor(self.span, dtype=torch.int64).reshape(-1, 2),
            tuple(self.labels),
            torch.cat([result.nats for result in self.results]),
            torch.cat([result.stderr for result in self.results]),
            curves[0].logsnr,
            torch.cat([curve.nats for curve in curves]),
            torch.cat([curve.stderr for curve in curves]),
            tuple(self.verdicts),
            how,
            self.evaluations,
            maps,
            error,
            shared,
            first.settings,
            first.versions,
            tuple(notes),
        )
