"""Words of a prompt, and the prompt without one of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mmg_diffusers.checks import LONGEST, of_type, shown, whole

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


def _spans(prompt: str, word: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word.strip())}(?!\w)", prompt)]


def check_text(value: object, name: str) -> None:
    """Refuse what a text encoder cannot be given.

    Raises:
        TypeError: for anything but text.
        ValueError: for half of a surrogate pair, which stands for no character.
    """
    of_type(value, str, name, "text")
    assert isinstance(value, str)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {shown(value)}, which is no valid text ({error.reason}); mend its encoding"
        ) from error


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: spaces, controls and formats such as U+200B alone."""
    return all(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Zs") for character in text)


def check_caption(value: object, name: str) -> None:
    """Refuse what is no caption of an image. An empty one is a mistake in a data set: it would tell exactly nothing.

    Raises:
        TypeError: for anything but text.
        ValueError: for text that is empty or blank, or as `check_text` does.
    """
    check_text(value, name)
    assert isinstance(value, str)
    if is_blank(value):
        raise ValueError(f"{name} is {shown(value)}, which is empty; fill it in, or leave the pair out")


def find_word(prompt: str, word: str, occurrence: int | None = None) -> tuple[int, int]:
    """Where a word, or several words in a row, stands in a prompt: its first character and the one after its last.

    Args:
        prompt, word: text; case counts, and a word is not found inside another.
        occurrence: which one, from 0, if it occurs more than once.

    Raises:
        TypeError: for anything but text.
        ValueError: for a word that is not in the prompt, or stands there more often than `occurrence` says.
    """
    check_text(prompt, "the prompt")
    check_text(word, "the word")
    if not word.strip():
        raise ValueError("the word is empty; expected a word of the prompt")
    places = _spans(prompt, word)
    if not places:
        raise ValueError(
            f"no {shown(word)} in the prompt {shown(prompt)}; its words are {', '.join(words_of(prompt))[:LONGEST]}"
        )
    if occurrence is None:
        if len(places) > 1:
            raise ValueError(
                f"{shown(word)} occurs {len(places)} times in {shown(prompt)}; say which with occurrence=0 to {len(places) - 1}"
            )
        return places[0]
    if whole(occurrence, "occurrence", 0) >= len(places):
        raise ValueError(
            f"occurrence is {occurrence}; {shown(word)} occurs {len(places)} time(s) in {shown(prompt)}, from 0"
        )
    return places[occurrence]


def replace_word(prompt: str, word: str, by: str = "", occurrence: int | None = None) -> str:
    """The prompt with a word replaced by others, or left out; no space is doubled or left at an end.

    If a word is left out, the tokens after it move up; `Masked` keeps their places.

    Raises:
        TypeError, ValueError: as `find_word` does.
    """
    check_text(by, "what takes the word's place")
    start, end = find_word(prompt, word, occurrence)
    before, after = prompt[:start].rstrip(), prompt[end:].lstrip()
    closing = after[:1] in set(",.;:!?)")
    middle = by.strip()
    left = f"{before} {middle}".strip() if middle else before
    return (left + after if closing else f"{left} {after}").strip()


@dataclass(frozen=True)
class Masked:
    """A prompt in which a word's tokens are the padding token, so that all other tokens keep their places.

    It is masked for each of a model's text encoders, after whatever its pipeline does with the prompt; all vectors of a token of
    textual inversion are, and what joins the word in a token. Masks of the text's length stay as they are. Where the network
    is given a state that CLIP reads at its first closing token, which is its padding token too, another stands in its place:
    OpenCLIP's padding ("!"), or the one that opens texts.

    As a context it makes the information that of the word: ``pipe(images, prompts, given=[Masked(p, "red") for p in prompts])``.

    Args:
        prompt: the prompt; one that is masked already loses another word.
        word, occurrence: as in `find_word`.

    Raises:
        TypeError, ValueError: as `find_word` does.
    """

    prompt: str | Masked
    word: str
    occurrence: int | None = None

    def __post_init__(self) -> None:
        find_word(self.text, self.word, self.occurrence)

    @property
    def text(self) -> str:
        """The prompt with all of its words."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt.text

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where the masked words stand in the text."""
        before = () if isinstance(self.prompt, str) else self.prompt.spans
        return (*before, find_word(self.text, self.word, self.occurrence))

    def __str__(self) -> str:
        masked = self.text
        for start, end in sorted(set(self.spans), reverse=True):
            masked = f"{masked[:start]}[{masked[start:end]} masked]{masked[end:]}"
        return masked


Prompt = str | Masked
"""What is encoded into a condition."""


def text_of(prompt: Prompt) -> str:
    """All words of a prompt, masked ones as well."""
    return prompt.text if isinstance(prompt, Masked) else prompt


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, without the punctuation between them.

    Raises:
        TypeError: for anything but text.
    """
    check_text(prompt, "the prompt")
    return _WORD.findall(prompt)


@dataclass(frozen=True)
class Word:
    """A word of prompts: by its text, or by its place if prompts have different words there.

    Args:
        text: the word, or several words in a row, that every prompt has once.
        place: the place of a word, from 0; instead of `text`.

    Raises:
        ValueError: unless one of the two is given.
    """

    text: str | None = None
    place: int | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.place is None):
            raise ValueError(f"a word is given by its text or by its place, got {shown(self.text)} and {self.place}")
        if self.place is not None:
            whole(self.place, "the place of a word", 0)
        if self.text is not None:
            check_text(self.text, "the word")

    @classmethod
    def parse(cls, text: str) -> Word:
        """Read a word as a command line gives it: ``red`` is a word, ``@2`` the third word of every prompt.

        Raises:
            ValueError: for nothing, or a place that is no number.
        """
        check_text(text, "the word")
        if text.startswith("@"):
            if not text[1:].isdecimal():
                raise ValueError(f"{shown(text)} is no place of a word; expected @ and a number from 0, such as @2")
            return cls(place=int(text[1:]))
        if not text.strip():
            raise ValueError("the word is empty; expected a word of the prompts, or its place from 0, such as @2")
        return cls(text.strip())

    def __str__(self) -> str:
        return self.text if self.text is not None else f"@{self.place}"

    def find(self, prompt: str) -> tuple[str, int]:
        """Find the word in a prompt: its text there, and which of its occurrences it is, as `find_word` counts them.

        Raises:
            ValueError: for a prompt without the word, or one in which its text occurs more than once.
        """
        if self.text is not None:
            places = [f"@{k}" for k, word in enumerate(words_of(prompt)) if word == self.text]
            if len(places) > 1:
                raise ValueError(
                    f"{shown(self.text)} occurs {len(places)} times in {shown(prompt)}; say which by its place: {' or '.join(places[:4])}"
                )
            find_word(prompt, self.text)
            return self.text, 0
        assert self.place is not None
        check_text(prompt, "the prompt")
        words = list(_WORD.finditer(prompt))
        if self.place >= len(words):
            raise ValueError(
                f"there is no word @{self.place} in {shown(prompt)}, which has {len(words)} words, from @0 on"
            )
        word, start = words[self.place].group(), words[self.place].start()
        return word, [at for at, _ in _spans(prompt, word)].index(start)

    def place_in(self, prompts: Sequence[str]) -> int:
        """Find the place at which all of these prompts have the word.

        Raises:
            ValueError: if they have it at different places, or in a row with others; as `find` does.
        """
        for prompt in prompts:
            self.find(prompt)
        if self.place is not None:
            return self.place
        places = {place for prompt in prompts for place, word in enumerate(words_of(prompt)) if word == self.text}
        if len(places) != 1:
            raise ValueError(
                f"{shown(self.text)} is not one word at one place of all prompts; give its place, such as @2, in prompts that "
                "differ word by word"
            )
        return places.pop()


def check_named(words: object) -> None:
    """Refuse what is no list of words; a text alone would be read letter by letter.

    Raises:
        TypeError: which says how to give a word.
    """
    if words is not None and (isinstance(words, str) or not isinstance(words, Sequence)):
        raise TypeError(f'words is {shown(words)}; expected a list of words, such as ["red", "@2"]')


def refuse_twice(found: Sequence[object], words: Sequence[str | Word]) -> None:
    """Refuse words of which two were found at the same place.

    Raises:
        ValueError: which names both.
    """
    for place, one in enumerate(found):
        if one in found[:place]:
            first, again = (str(words[k]) for k in (list(found).index(one), place))
            raise ValueError(f"the words {shown(first)} and {shown(again)} are the same one; name each once")


def without(prompt: str, words: Sequence[Word], by: str | None = None) -> Prompt:
    """The prompt without some of its words.

    Args:
        prompt: text.
        words: which.
        by: what is put in the place of each; nothing (an empty text) leaves it out, so that later tokens move up. By
            default the words are masked, and all other tokens keep their places.

    Raises:
        ValueError: for no words, words that overlap, or as `Word.find` does.
    """
    if not words:
        raise ValueError("no words to take out were given; expected at least one")
    places = [word.find(prompt) for word in words]
    spans = [find_word(prompt, *one) for one in places]
    rising = sorted(range(len(places)), key=lambda k: spans[k])
    for before, after in pairwise(rising):
        if spans[after][0] < spans[before][1]:
            raise ValueError(
                f"{shown(places[before][0])} and {shown(places[after][0])} overlap in {shown(prompt)}; expected different words"
            )
    left: Prompt = prompt
    # From the last to the first, so that what is replaced leaves the places of the others.
    for text, occurrence in (places[k] for k in reversed(rising)):
        left = Masked(left, text, occurrence) if by is None else replace_word(text_of(left), text, by, occurrence)
    return left
