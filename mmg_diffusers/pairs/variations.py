"""Candidates that are made from one prompt, by saying other words in the place of some of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.pairs.prompts import Word, check_caption, find_word

# A product of many words is a mistake before it is a measurement.
MOST = 4096


def vary(prompt: str, words: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """All prompts with each of some words as it stands, or replaced by one of its alternatives.

    Args:
        prompt: text; its own words are among the alternatives.
        words: of the prompt, by text or by place (``"@2"``), or several in a row, with what may be said in the place of each.

    Returns:
        the prompts, the given one first, and what each says at the place of every word: one label a prompt, by word.

    Raises:
        TypeError: for other than text, and a mapping of words to lists of it.
        ValueError: for a word that the prompt does not have once, words that overlap, alternatives that repeat, or more
            than 4,096 prompts.
    """
    check_caption(prompt, "the prompt that is varied")
    of_type(words, Mapping, "what is varied", 'a mapping of words to alternatives, such as {"red": ["blue", "green"]}')
    if not words:
        raise ValueError("no word to vary was given; expected one or more, with its alternatives")
    found = {word: Word.parse(word).find(prompt) for word in words}
    spans = {word: find_word(prompt, *found[word]) for word in words}
    rising = sorted(words, key=lambda word: spans[word])
    for before, after in pairwise(rising):
        if spans[after][0] < spans[before][1]:
            raise ValueError(f"{shown(before)} and {shown(after)} overlap in {shown(prompt)}; vary them together")
    said: list[tuple[str, ...]] = []
    count = 1
    for word in rising:
        others = words[word]
        if isinstance(others, str) or not isinstance(others, Sequence):
            raise TypeError(f"the alternatives of {shown(word)} are {shown(others)}; expected a list of texts")
        if not others:
            raise ValueError(f"{shown(word)} has no alternatives; expected at least one")
        for other in others:
            check_caption(other, f"an alternative of {shown(word)}")
        choices = (found[word][0], *others)
        repeated = next((choice for choice in choices if choices.count(choice) > 1), None)
        if repeated is not None:
            raise ValueError(f"{shown(repeated)} is there twice among {shown(word)} and its alternatives")
        said.append(choices)
        count *= len(choices)
    if count > MOST:
        raise ValueError(f"these alternatives make {count:,} prompts; expected {MOST:,} at most, so vary fewer words")
    prompts: list[str] = []
    labels: dict[str, list[str]] = {word: [] for word in rising}
    for chosen in product(*said):
        text = prompt
        # From the last to the first, so that the places of the others stay.
        for word, choice in reversed(list(zip(rising, chosen, strict=True))):
            start, end = spans[word]
            text = text[:start] + choice + text[end:]
        prompts.append(text)
        for word, choice in zip(rising, chosen, strict=True):
            labels[word].append(choice)
    return tuple(prompts), {word: tuple(labels[word]) for word in words}
