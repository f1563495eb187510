"""Masked words on their way through a pipeline's own encoding, whatever that puts around a prompt and however many encoders it has.

The words stand between marks in the text that the pipeline is given, and each of its tokenizers is replaced, for this call, by
one that takes the marks off and puts another token in the place of what stood between them. So a family needs no code for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mmg_diffusers.checks import shown
from mmg_diffusers.pairs.prompts import Masked

# Characters that Unicode keeps for use inside of programs, so that no text is without two of them to spare.
_MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
# CLIP's token 0, which OpenCLIP's tokenizers pad with (Stable Diffusion 2, the second of XL and 3).
_OPEN_CLIP_PADDING = "!"

Span = tuple[int, int]


class Marks:
    """A prompt with marks around its masked words, and how they are taken off what a pipeline made of it.

    Args:
        prompt: masked.
        added: tokens that were added to tokenizers, such as those of textual inversion, which are never masked in part.

    Raises:
        ValueError: for a text that has the characters itself that could be marks.
    """

    def __init__(self, prompt: Masked, added: Iterable[str] = ()) -> None:
        text = prompt.text
        free = [mark for mark in _MARKS if mark not in text]
        if len(free) < 2:
            raise ValueError(f"cannot mask a word of {shown(text)}: it is full of characters that stand for none")
        self.opening, self.closing = free[:2]
        self.spans = _joined([_widened(text, span, added) for span in prompt.spans])
        """Where the masked words stand in the prompt, in order."""
        self.words = [text[start:end] for start, end in self.spans]
        for start, end in reversed(self.spans):
            text = f"{text[:start]}{self.opening}{text[start:end]}{self.closing}{text[end:]}"
        self.text = text
        """The prompt with marks."""

    def off(self, text: str) -> str:
        """A text without its marks."""
        return text.replace(self.opening, "").replace(self.closing, "")

    def read(self, text: str) -> list[Span]:
        """Where the words stand in a text when its marks are off; not all of them if it lacks marks."""
        pieces = text.split(self.opening)
        spans: list[Span] = []
        place = len(self.off(pieces[0]))
        for piece in pieces[1:]:
            inside, closing, _ = piece.partition(self.closing)
            if closing:
                spans.append((place, place + len(inside)))
            place += len(self.off(piece))
        return spans


def _widened(text: str, span: Span, added: Iterable[str]) -> Span:
    start, end = span
    for token in sorted(added):
        place = text.find(token)
        while place >= 0:
            if place < end and start < place + len(token):
                start, end = min(start, place), max(end, place + len(token))
            place = text.find(token, place + 1)
    return start, end


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


# ---- tokens ----


def places_of(tokenizer: Any, batch: Any, row: int, text: str, spans: Sequence[Span]) -> list[list[int]]:
    """The places of the tokens that hold a character of each span, in a row of what a tokenizer made.

    A sign for a space before a word, if it is a token of its own, is none of the word's.

    Args:
        tokenizer: of transformers.
        batch: what it returned.
        row: of these.
        text: which it was given there.
        spans: of the text.
    """
    ids = ids_of(batch, row)
    ids = ids.tolist() if isinstance(ids, Tensor) else ids
    if batch.encodings is not None:
        offsets = batch.encodings[row].offsets
        found = [[k for k, (a, b) in enumerate(offsets) if a < end and start < b] for start, end in spans]
    else:
        found = [_by_beginnings(tokenizer, text, span, ids) for span in spans]
    return [[k for k in places if tokenizer.decode([ids[k]]).strip()] for places in found]


def ids_of(batch: Any, row: int) -> Any:
    """The tokens of a row, to be changed in place; of a text that was given alone, of the only one."""
    ids = batch["input_ids"]
    return ids[row] if isinstance(ids, Tensor) or isinstance(ids[0], list) else ids


def _by_beginnings(tokenizer: Any, text: str, span: Span, row: list[int]) -> list[int]:
    """The places of a span's tokens, from a tokenizer that does not tell which characters its tokens are of: from the tokens of
    the text's beginnings.

    Raises:
        ValueError: if a beginning has other tokens than the text there.
    """
    whole = list(tokenizer(text, verbose=False).input_ids)
    before, until = (list(tokenizer(text[:cut].rstrip(), verbose=False).input_ids) for cut in span)
    first, last = _shared(whole, before), _shared(whole, until)
    closing = _shared(list(tokenizer("").input_ids)[::-1], until[::-1])
    if last < len(until) - closing:
        raise ValueError(
            f"cannot tell the tokens of {shown(text[slice(*span)])} in {shown(text)} from those after it; take it out with "
            "mmg_diffusers.pairs.prompts.replace_word, which moves the tokens after it"
        )
    # A row is filled up in front, or cut at its end.
    start = next((k for k in range(len(row)) if row[k : k + len(whole)] == whole[: len(row) - k]), 0)
    return [start + k for k in range(first, last) if start + k < len(row) and row[start + k] == whole[k]]


def _shared(one: list[int], other: list[int]) -> int:
    """How many tokens two texts begin with together."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def filler(tokenizer: Any, pooled: bool) -> int:
    """The token that stands in a masked word's place: the one that fills texts up.

    CLIP's tokenizer fills up with the token that it also closes texts with. If the network is given a state that the encoder
    reads at the first of these, it would be read at the masked word: then it is OpenCLIP's, or the one that opens texts.

    Args:
        tokenizer: of transformers.
        pooled: whether the network is given such a state.

    Raises:
        ValueError: for a tokenizer that has no such token.
    """
    closing = tokenizer("").input_ids[-1:] if pooled else []
    for token in (tokenizer.pad_token, _OPEN_CLIP_PADDING, getattr(tokenizer, "bos_token", None)):
        number = None if token is None else tokenizer.convert_tokens_to_ids(token)
        if number is not None and number not in closing:
            return int(number)
    raise ValueError(
        f"{type(tokenizer).__name__} has no padding token to mask a word with; take it out with "
        "mmg_diffusers.pairs.prompts.replace_word, which moves the tokens after it"
    )


class MaskingTokenizer:
    """A tokenizer that masks what stands between marks, and else is the one that it stands for.

    The attention mask stays: a masked word is text of which only the word is unknown, whereas tokens that a mask leaves out
    would be dropped by pipelines that collect what is left (Wan, Qwen-Image, Z-Image), and would move the others.

    Args:
        tokenizer: of the pipeline.
        marks: of the prompt.
        expected: what the pipeline's text begins with when its marks are off.
        token: the one that is put in the place of each of the words' tokens.
    """

    def __init__(self, tokenizer: Any, marks: Marks, expected: str, token: int) -> None:
        self.__dict__.update(tokenizer=tokenizer, marks=marks, expected=expected, token=token, masked=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["tokenizer"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.tokenizer, name, value)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def tokenize(self, text: str, **options: Any) -> list[str]:
        """The tokens' names, of a text without its marks."""
        return self.tokenizer.tokenize(self.marks.off(text), **options)

    def encode(self, text: str, **options: Any) -> list[int]:
        """The tokens of a text that has no marks.

        Raises:
            ValueError: for one that has.
        """
        if self.marks.off(text) != text:
            raise _lost(self.marks)
        return self.tokenizer.encode(text, **options)

    def apply_chat_template(self, *args: Any, tokenize: bool = True, **options: Any) -> Any:
        """A chat as text, with its marks.

        Raises:
            ValueError: if it is asked for as tokens.
        """
        if tokenize:
            raise _lost(self.marks)
        return self.tokenizer.apply_chat_template(*args, tokenize=False, **options)

    def __call__(self, text: str | Sequence[str], **options: Any) -> Any:
        texts = [text] if isinstance(text, str) else list(text)
        plain = [self.marks.off(each) for each in texts]
        batch = self.tokenizer(plain[0] if isinstance(text, str) else plain, **options)
        for row, (marked, bare) in enumerate(zip(texts, plain, strict=True)):
            if marked == bare:
                continue
            spans = self.marks.read(marked)
            if not bare.startswith(self.expected) or len(spans) < len(self.marks.spans):
                raise _lost(self.marks)
            ids = ids_of(batch, row)
            for place in (each for places in places_of(self.tokenizer, batch, row, bare, spans) for each in places):
                ids[place] = self.token
            self.__dict__["masked"] = True
        return batch


def _lost(marks: Marks) -> ValueError:
    words = ", ".join(shown(word) for word in marks.words)
    return ValueError(
        f"cannot tell what becomes of {words} when the pipeline rewrites the prompt {shown(marks.off(marks.text))}; take it out "
        "with mmg_diffusers.pairs.prompts.replace_word"
    )


# ---- what a codec of a pipeline does with a masked prompt ----


def _masking(codec: Any, prompt: Masked, pooled: bool) -> dict[str, MaskingTokenizer]:
    tokenizers = {name: getattr(codec.pipe, name) for name in codec.limits()}
    marks = Marks(prompt, {token for each in tokenizers.values() for token in each.get_added_vocab()})
    return {
        name: MaskingTokenizer(each, marks, codec.tokenized(prompt.text, name), filler(each, pooled))
        for name, each in tokenizers.items()
    }


def _with(codec: Any, tokenizers: Mapping[str, Any]) -> Any:
    """The codec of a copy of its pipeline that has other tokenizers; the pipeline itself is left as it is."""
    other = copy.copy(codec)
    other.pipe = copy.copy(codec.pipe)
    # What diffusers does when a component is set would change the config that both share.
    other.pipe.__dict__.update(tokenizers)
    return other


def check_masked(codec: Any, prompt: Masked) -> None:
    """Find out whether the words of a prompt can be masked, without running a text encoder.

    Args:
        codec: a `PipelineCodec`.
        prompt: masked.

    Raises:
        ValueError: for a word that no text encoder sees all of, one that the pipeline changes, and a model without text
            encoders.
    """
    masking = _masking(codec, prompt, pooled=False)
    if not masking:
        raise ValueError(f"the prompt {shown(prompt.text)} names a class, of which no word can be masked")
    marked, most = _with(codec, masking), codec.limits()
    seen: set[int] = set()
    marks = next(iter(masking.values())).marks
    for name, each in masking.items():
        text = marked.tokenized(marks.text, name)
        spans, plain = marks.read(text), marks.off(text)
        if plain != each.expected or len(spans) < len(marks.spans):
            raise _lost(marks)
        whole, cut = (
            places_of(each.tokenizer, each.tokenizer(plain, verbose=False, **options), 0, plain, spans)
            for options in ({}, {"truncation": True, "max_length": most[name]})
        )
        seen |= {k for k, places in enumerate(whole) if places and len(cut[k]) == len(places)}
    unseen = [word for k, word in enumerate(marks.words) if k not in seen]
    if unseen:
        raise ValueError(
            f"the text encoder does not see {shown(unseen[0])} in {shown(prompt.text)}; there is nothing to mask"
        )


def encode_masked(codec: Any, prompt: Masked) -> dict[str, Tensor]:
    """A prompt whose words are masked in every tokenizer of a pipeline, to a condition of one row.

    Args:
        codec: a `PipelineCodec`.
        prompt: masked.

    Raises:
        ValueError: as `check_masked` and `filler` do, and for a pipeline whose tokenizers are not called.
    """
    check_masked(codec, prompt)
    masking = _masking(codec, prompt, pooled=False)
    condition = _encode(codec, masking)
    # A state that has no axis of tokens was read at one of them.
    pooled = any(
        value.ndim == 2 and value.is_floating_point() and not name.endswith("mask") for name, value in condition.items()
    )
    if pooled:
        other = _masking(codec, prompt, pooled=True)
        if any(other[name].token != each.token for name, each in masking.items()):
            return _encode(codec, other)
    return condition


def _encode(codec: Any, masking: Mapping[str, MaskingTokenizer]) -> dict[str, Tensor]:
    condition = _with(codec, masking).encode_prompts([next(iter(masking.values())).marks.text])
    if not any(each.masked for each in masking.values()):
        raise ValueError(
            f"{type(codec).__name__} does not call its pipeline's tokenizers, so that no word can be masked"
        )
    return condition
