"""What each word of a prompt says: given the rest, together with another, and shared with it.

A candidate set is described by *parts*: for every kind of word, one label a candidate (its colour, its shape, ...). One
comparison of candidates then holds the information of every word. Without candidates a word is taken out of the prompt,
and the rest is the context of a conditional measurement (`isolate`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from mmg_diffusers.analysis.classification import Classification, Parts
from mmg_diffusers.checks import Brief, shown
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.marginals import Candidates, Marginal, Negatives
from mmg_diffusers.pairs.prompts import Prompt, Word, without, words_of


def all_but(parts: Parts, *names: str) -> list[Hashable]:
    """Group labels that join candidates which differ in these parts alone.

    Raises:
        ValueError: for an unknown part.
    """
    _need(parts, names)
    return only(parts, *(name for name in parts if name not in names))


def only(parts: Parts, *names: str) -> list[Hashable]:
    """Group labels that join candidates which agree in these parts; all of them, if none is named.

    Raises:
        ValueError: for an unknown part.
    """
    _need(parts, names)
    count = len(next(iter(parts.values()), ()))
    return list(zip(*(parts[name] for name in names), strict=True)) if names else [()] * count


def _need(parts: Parts, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise ValueError(f"no part {shown(unknown[0])} in the candidates; there are {', '.join(parts)}")


def parts_by_place(candidates: Sequence[str]) -> dict[str, list[str]]:
    """The parts of candidates that differ word by word: one for each place at which they do, named by it, such as @2.

    Raises:
        ValueError: for candidates of different numbers of words, or that are all the same.
    """
    split = [words_of(candidate) for candidate in candidates]
    lengths = {len(words) for words in split}
    if len(lengths) != 1:
        short, long = (next(c for c, w in zip(candidates, split, strict=True) if len(w) == n) for n in _ends(lengths))
        raise ValueError(
            f"candidates do not differ word by word: {shown(short)} and {shown(long)} have different numbers of words; tell the words by "
            "parts of your own, one label a candidate"
        )
    columns = {f"@{place}": list(column) for place, column in enumerate(zip(*split, strict=True))}
    differ = {name: labels for name, labels in columns.items() if len(set(labels)) > 1}
    if not differ:
        raise ValueError("all candidates say the same words")
    return differ


def _ends(lengths: set[int]) -> tuple[int, int]:
    return min(lengths), max(lengths)


@dataclass(frozen=True, repr=False)
class Isolated(Brief):
    """How the information of words, given the rest of the prompt, is asked for: what `given=` and `marginal=` have to be.

    `said` tells in words how they were taken out.
    """

    given: list[Prompt] | None
    marginal: Marginal
    said: str


def isolate(words: Sequence[Word], prompts: Sequence[str], marginal: Marginal, by: str | None = None) -> Isolated:
    """Ask for i(image; words | rest of the prompt), in the terms of a marginal.

    Against the null prompt, or rather in its place, the base is the prompt without the words: masked, replaced or left out
    (see `without`). Among candidates it is the mixture of those that differ in these words alone.

    Args:
        words: which.
        prompts: those that are measured.
        marginal: what whole prompts are compared with.
        by: what takes the place of a word; masked by default. Candidates have their own.

    Raises:
        ValueError: for sampled negatives, which do not share the rest of the prompt; for `by` among candidates; for words
            that prompts do not have, and candidates that do not differ word by word.
    """
    if isinstance(marginal, Negatives):
        raise ValueError(
            "sampled negatives do not share the rest of the prompt with it, so they cannot isolate a word; use the null prompt "
            "or candidates"
        )
    if isinstance(marginal, Candidates):
        if by is not None:
            raise ValueError(f"candidates say by themselves what a word is replaced by; leave {shown(by)} out")
        names = tuple(marginal.prompts)
        parts = parts_by_place(names)
        places = [f"@{word.place_in(prompts)}" for word in words]
        fixed = [place for place in places if place not in parts]
        if fixed:
            raise ValueError(f"all candidates say the same at {fixed[0]}; they differ at {', '.join(parts)}")
        rest = all_but(parts, *places)
        if marginal.groups is not None:
            rest = list(zip(marginal.groups, rest, strict=True))
        return Isolated(None, replace(marginal, groups=rest), "replaced by what other candidates say in its place")
    how = "masked" if by is None else f"replaced by {shown(by)}" if by.strip() else "left out"
    return Isolated([without(prompt, words, by) for prompt in prompts], marginal, how)


@dataclass(frozen=True, repr=False)
class Decomposition(Brief):
    """How two words share their information about x, pair by pair, `(N,)`, or pixel by pixel, `(N, *pixels)`; in nats.

    The pointwise decomposition of Finn and Lizier (arXiv 1801.09010) that DiffusionPID (arXiv 2406.05191) uses. With
    h(w) = -log p(w | c) and h(w | x) = -log p(w | x, c), where c is what both are given (nothing, or the rest of the prompt),

        redundancy = min(h(w1), h(w2)) - min(h(w1 | x), h(w2 | x))
        unique_1   = i(x; w1 | c) - redundancy             (and 2 alike)
        synergy    = i(x; w1, w2 | c) - i(x; w1 | c) - i(x; w2 | c) + redundancy

    The four add up to i(x; w1, w2 | c). Every one of them can be negative: a word may misinform about an image, and the
    least surprise is not of the same word with the image and without. Where both words are equally surprising without
    the image, the redundancy is the larger of the two informations, so that no unique part is positive, and words that
    have nothing to do with each other are redundant and synergistic in equal measure. What does not depend on the choice
    of a minimum is `interaction`, redundancy less synergy; it is negative if the words tell more together.
    """

    redundancy: Tensor
    unique_1: Tensor
    unique_2: Tensor
    synergy: Tensor

    @classmethod
    def of(cls, surprise: tuple[Tensor, Tensor], one: Tensor, two: Tensor, both: Tensor) -> Decomposition:
        """From h(w1), h(w2) and the informations i(x; w1 | c), i(x; w2 | c), i(x; w1, w2 | c)."""
        first, second = surprise
        redundancy = torch.minimum(first, second) - torch.minimum(first - one, second - two)
        return cls(redundancy, one - redundancy, two - redundancy, both - one - two + redundancy)

    @property
    def interaction(self) -> Tensor:
        """i(x; w1 | c) + i(x; w2 | c) - i(x; w1, w2 | c)."""
        return self.redundancy - self.synergy

    def means(self) -> dict[str, Value]:
        """Means over pairs with their standard errors; of maps, of what they sum to."""
        names = ("redundancy", "unique_1", "unique_2", "synergy")
        return {
            name: mean_over_pairs(
                getattr(self, name).flatten(1).sum(1) if self.synergy.ndim > 1 else getattr(self, name)
            )
            for name in names
        }


def pair_surprise(candidates: Candidates, prompts: Sequence[str], one: Word, two: Word) -> tuple[Tensor, Tensor]:
    """-log p of each of two words, given all words of the prompt but these two, `(N,)` nats each; for `decompose_maps`.

    Args:
        candidates: that differ word by word, with their prior.
        prompts: the true ones.
        one, two: the words.

    Raises:
        ValueError: as `isolate` does, and for a prompt that is not among the candidates.
    """
    names = tuple(candidates.prompts)
    parts = parts_by_place(names)
    first, second = (f"@{word.place_in(prompts)}" for word in (one, two))
    absent = [prompt for prompt in prompts if prompt not in names]
    if absent:
        raise ValueError(f"the prompt {shown(absent[0])} is not among the {len(names)} candidates; add it to them")
    true = [names.index(prompt) for prompt in prompts]
    rest = all_but(parts, first, second)

    def log_probability(labels: Sequence[Hashable]) -> Tensor:
        numbers = {label: k for k, label in enumerate(dict.fromkeys(labels))}
        number = torch.tensor([numbers[label] for label in labels])
        total = torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, number, candidates.probability)
        return total.log()[number][true]

    h1, h2 = (
        log_probability(rest) - log_probability(list(zip(rest, parts[word], strict=True))) for word in (first, second)
    )
    return h1, h2


def word_information(posterior: Classification, truth: Sequence[str | int], parts: Parts) -> dict[str, Tensor]:
    """i(x; word | all other words) for every part, `(N,)` nats each; its mean is a lower bound as `bound` is.

    Args:
        posterior: of candidates that differ word by word.
        truth: the true candidate of every x.
        parts: labels of the candidates.
    """
    return {name: posterior.within(truth, all_but(parts, name)) for name in parts}


def pair_information(
    posterior: Classification, truth: Sequence[str | int], parts: Parts
) -> dict[tuple[str, str], Tensor]:
    """i(x; two words | all others) for every two parts, `(N,)` nats each; arguments as in `word_information`."""
    return {two: posterior.within(truth, all_but(parts, *two)) for two in combinations(parts, 2)}


def decompose(
    posterior: Classification,
    truth: Sequence[str | int],
    parts: Parts,
    one: str,
    two: str,
    given: Sequence[str] = (),
) -> Decomposition:
    """Redundancy, uniqueness and synergy of two words about x.

    Args:
        posterior, truth, parts: as in `word_information`.
        one, two: names of parts.
        given: parts that are the context of both; with all the others it is DiffusionPID's conditional decomposition.

    Raises:
        ValueError: for parts that there are not, or twice the same.
    """
    named = (one, two, *given)
    if len(set(named)) < len(named):
        repeated = next(name for name in named if named.count(name) > 1)
        raise ValueError(f"expected different parts, got {shown(repeated)} twice")

    def surprise(*names: str) -> tuple[Tensor, Tensor]:
        (before, after), (before_c, after_c) = (
            posterior.surprise(truth, only(parts, *some)) for some in ((*names, *given), tuple(given))
        )
        return before - before_c, after - after_c

    (h1, after1), (h2, after2), (h12, after12) = surprise(one), surprise(two), surprise(one, two)
    return Decomposition.of((h1, h2), h1 - after1, h2 - after2, h12 - after12)


def decompose_maps(
    surprise: tuple[Tensor, Tensor], both: Tensor, one_given_two: Tensor, two_given_one: Tensor
) -> Decomposition:
    """The decomposition pixel by pixel, as maps.

    The informations of one word come from the chain rule, i(x; w1 | c) = i(x; w1, w2 | c) - i(x; w2 | w1, c), which holds
    pixel by pixel for gap maps at the same noise; a word's surprise is shared evenly by the pixels. At every pixel the four
    add up to `both`, and so do their sums over the pixels; but a minimum by pixels is not the minimum of the whole, so
    that the sum of one of them is not what `decompose` says of the image. `interaction` has no minimum in it, and does.

    Args:
        surprise: h(w1) and h(w2) given the context, `(N,)` nats each, such as the logarithm of the number of words.
        both, one_given_two, two_given_one: gap maps `(N, *pixels)` of i(x; w1, w2 | c), i(x; w1 | w2, c), i(x; w2 | w1, c).

    Raises:
        ValueError: for maps of different shapes.
    """
    if not both.shape == one_given_two.shape == two_given_one.shape:
        raise ValueError(
            f"maps differ in shape: {tuple(both.shape)}, {tuple(one_given_two.shape)}, {tuple(two_given_one.shape)}"
        )
    pixels = both[0].numel()
    first, second = (h.double().view(-1, *(1,) * (both.ndim - 1)) / pixels for h in surprise)
    return Decomposition.of((first, second), both - two_given_one, both - one_given_two, both)
