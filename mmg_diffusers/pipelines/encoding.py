"""Images and prompts on their way into a model: checked before a network runs, encoded some at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

from mmg_diffusers.checks import shown, warn, whole
from mmg_diffusers.pairs.classes import as_prompt, as_prompts
from mmg_diffusers.pairs.images import Images, resize
from mmg_diffusers.pairs.prompts import Masked, Prompt, check_text, text_of
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.adapters.base import Codec, Null, stack
from mmg_diffusers.pipelines.caching import EncodingCache, RememberingCodec

P = TypeVar("P", str, Prompt)
# What other programs take for the weight of words, as in (red:1.3).
_WEIGHT = re.compile(r"\([^()]+:\s*\d*\.\d+\s*\)")


class Encoder:
    """Checks what users pass, and encodes it with a model's codec, or finds it in a cache."""

    def __init__(self, codec: Codec, cache: EncodingCache | None = None) -> None:
        self.codec = codec
        self.remembering = RememberingCodec(codec, EncodingCache() if cache is None else cache)

    def check_images(self, images: VideoLike | Sequence[VideoLike], resized: bool) -> Images:
        """Look at every image, or video, once, so that a bad one is found before a network runs.

        As many as are encoded at one time are kept as tensors, so that they are not decoded twice. Warns of what is done to
        some of them, such as to transparent pixels, which is in the notes of what is returned as well.
        """
        medium, multiple = self.codec.medium, self.codec.multiple
        pictures = medium.as_list(images)
        sizes: dict[tuple[int, ...], int] = {}
        remarks: dict[str, list[int]] = {}
        few = len(pictures) <= medium.together

        digests: list[str] = []
        for place, picture in enumerate(pictures):
            looked_at = medium.read(picture, place)
            medium.check_frames(looked_at, place)
            for remark in looked_at.remarks:
                remarks.setdefault(remark, []).append(place)
            loaded = looked_at.pixels
            digests.append(looked_at.identity().digest)
            if few:
                pictures[place] = loaded
            *frames, _, height, width = loaded.shape
            sizes.setdefault((*frames, height, width), place)
            if not resized and (height % multiple or width % multiple):
                raise ValueError(
                    f"{medium.noun} {place} is {height} x {width}; this model takes multiples of {multiple} (it was trained on "
                    f"{self.codec.native_size[0]} x {self.codec.native_size[1]}). Crop it, or pass resize=True."
                )
            if not resized:
                self.codec.check_size(height, width)
        if len({size[:-2] for size in sizes} if resized else sizes) > 1:
            listed = ", ".join(
                f"{' x '.join(map(str, size))} ({medium.noun} {place})" for size, place in list(sizes.items())[:4]
            )
            remedy = "number of frames on its own" if resized else "size on its own, or pass resize=True"
            raise ValueError(f"{medium.noun}s differ in size: {listed}. Measure each {remedy}.")
        for remark, places in remarks.items():
            others = f" and {len(places) - 4} more" if len(places) > 4 else ""
            warn(f"{remark} ({medium.noun} {', '.join(map(str, places[:4]))}{others})")
        return Images(pictures, tuple(remarks), tuple(digests))

    def check_prompts(self, prompts: Sequence[Prompt], compared: bool = False) -> tuple[str, ...]:
        """Look at every different prompt once; returns, and warns of, what the text encoder will not see, or reads otherwise than
        some programs do: signs for the weight of words.

        Args:
            prompts: texts, masked ones among them.
            compared: whether they are candidates, which have to be different things to the model.

        Raises:
            ValueError: for a prompt that cannot be encoded, or a masked word that the encoder will not see or cannot mask.
        """
        notes: list[str] = []
        cut: dict[str, list[tuple[str, str]]] = {}
        different = dict.fromkeys(prompts)
        for text in dict.fromkeys(text_of(prompt) for prompt in different):
            self.codec.check_prompt(text)
            lost = self.codec.truncated(text)
            if lost is not None:
                notes.append(f"the text encoder does not see {shown(lost)}, the end of {shown(text)}")
            # What one encoder cuts off and another one reads.
            more = [who for who, end in self.codec.cut(text).items() if len(end) > len(lost or "")]
            if more:
                cut.setdefault(" and ".join(more), []).append((self.codec.cut(text)[more[0]], text))
            weight = _WEIGHT.search(text)
            if weight is not None:
                notes.append(
                    f"{shown(weight.group())} in {shown(text)} is read as it stands: words of a prompt have no weights here"
                )
        if compared:
            self.codec.check_different([prompt for prompt in different if isinstance(prompt, str)])
        for prompt in different:
            if isinstance(prompt, Masked):
                self.codec.check_masked(prompt)
        for who, cases in cut.items():
            others = f", and that of {len(cases) - 1} more" if len(cases) > 1 else ""
            notes.append(
                f"{who} does not see {shown(cases[0][0])}, the end of {shown(cases[0][1])}{others}; other text encoders see more of it"
            )
        if notes:
            warn("; ".join(notes))
        return tuple(notes)

    def images(self, pictures: list[VideoLike], resized: bool) -> Iterator[tuple[int, Tensor]]:
        """Encoded images, or videos, some at a time, with the place of the first."""
        medium = self.codec.medium
        for start in range(0, len(pictures), medium.together):
            some = pictures[start : start + medium.together]
            tensors = [medium.read(one, start + i).pixels for i, one in enumerate(some)]
            if resized:
                size = self.codec.native_size
                tensors = [t if tuple(t.shape[-2:]) == size else resize(t, size) for t in tensors]
            yield start, self.remembering.images(tensors)

    def condition(self, prompts: Sequence[Prompt | Null]) -> dict[str, Tensor]:
        """Encode each different prompt once, or the null."""
        unique = list(dict.fromkeys(prompts))
        encoded = self.remembering.prompts(unique)
        place = {prompt: k for k, prompt in enumerate(unique)}
        rows = torch.tensor([place[prompt] for prompt in prompts])
        return {key: value[rows.to(value.device)] for key, value in stack(encoded).items()}


def one_each(values: P | Sequence[P], count: int, name: str, noun: str = "image") -> list[P]:
    """A prompt for each of `count` images, or what `noun` calls them.

    Raises:
        TypeError: for what is neither text nor the number of a class, `name` says where.
        ValueError: for a wrong number of prompts.
    """
    values = as_prompts(as_prompt(values))
    if isinstance(values, Masked):
        return [cast(P, values)] * count
    if isinstance(values, (str, int)):
        check_text(values, name)
        return [cast(P, values)] * count
    if not isinstance(values, Sequence) or isinstance(values, bytes):
        raise TypeError(
            f"{name} is a {type(values).__name__}; expected text, or a list with one text for each {noun}; the number of a class, if the "
            "model is told classes, is a whole number"
        )
    if len(values) != count:
        raise ValueError(
            f"got {len(values)} {name} for {count} {noun}s; expected one for each, or a single one for all"
        )
    for place, value in enumerate(values):
        if not isinstance(value, Masked):
            check_text(value, f"{name}[{place}]")
    return list(values)


def ids_for(asked: Sequence[int] | None, count: int) -> Tensor:
    """Ids of `count` pairs, by default their places."""
    if asked is None:
        return torch.arange(count)
    if not hasattr(asked, "__len__") or isinstance(asked, str):
        raise TypeError(f"pair_ids is {shown(asked)}; expected {count} different non-negative whole numbers")
    ids = torch.tensor([whole(i, "a pair id", 0) for i in asked], dtype=torch.int64)
    if ids.shape != (count,) or len(ids.unique()) < count:
        raise ValueError(f"expected {count} different non-negative pair_ids, got {len(ids)}: {ids.tolist()[:8]}")
    return ids
