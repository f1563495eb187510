"""Words of a prompt, and the prompt without one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass


def find_word(prompt: str, word: str, occurrence: int | None = None) -> tuple[int, int]:
    """Where a word, or several words in a row, stands in a prompt: its first character and the one after its last.

    Args:
        prompt, word: text; case counts, and a word is not found inside another.
        occurrence: which one, from 0, where it occurs more than once.

    Raises:
        ValueError: for a word that is not in the prompt, or stands there more often than `occurrence` tells.
    """
    if not word.strip():
        raise ValueError("the word is empty; expected a word of the prompt")
    places = [found.span() for found in re.finditer(rf"(?<!\w){re.escape(word.strip())}(?!\w)", prompt)]
    if not places:
        words = ", ".join(re.findall(r"\w+", prompt))
        raise ValueError(f"no {word!r} in the prompt {prompt!r}; its words are {words}")
    if occurrence is None:
        if len(places) > 1:
            raise ValueError(
                f"{word!r} occurs {len(places)} times in {prompt!r}; say which with occurrence=0 to {len(places) - 1}"
            )
        return places[0]
    if not 0 <= occurrence < len(places):
        raise ValueError(f"occurrence is {occurrence}; {word!r} occurs {len(places)} time(s) in {prompt!r}, from 0")
    return places[occurrence]


def replace_word(prompt: str, word: str, by: str = "", occurrence: int | None = None) -> str:
    """The prompt with a word replaced by others, or left out; no space is doubled or left at an end.

    Where a word is left out, the tokens after it move up; `Masked` keeps their places.

    Raises:
        ValueError: as `find_word` does.
    """
    start, end = find_word(prompt, word, occurrence)
    before, after = prompt[:start].rstrip(), prompt[end:].lstrip()
    closing = after[:1] in set(",.;:!?)")
    middle = by.strip()
    left = f"{before} {middle}".strip() if middle else before
    return (left + after if closing else f"{left} {after}").strip()


@dataclass(frozen=True)
class Masked:
    """A prompt in which a word's tokens are the padding token, so that all other tokens keep their places.

    As a context it makes the information that of the word: ``pipe(images, prompts, given=[Masked(p, "red") for p in prompts])``.

    Raises:
        ValueError: as `find_word` does.
    """

    prompt: str
    word: str
    occurrence: int | None = None

    def __post_init__(self) -> None:
        find_word(self.prompt, self.word, self.occurrence)

    @property
    def span(self) -> tuple[int, int]:
        """Where the word stands."""
        return find_word(self.prompt, self.word, self.occurrence)

    def __str__(self) -> str:
        start, end = self.span
        return f"{self.prompt[:start]}[{self.prompt[start:end]} masked]{self.prompt[end:]}"


Prompt = str | Masked
"""What is encoded into a condition."""
