"""Pairs of images and prompts, one of each, as a measurement takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mmg_diffusers.pairs.prompts import Masked, Prompt
from mmg_diffusers.pairs.videos import VideoLike


@dataclass(frozen=True)
class ImagePairs:
    """Images, or videos, with a prompt each.

    Args:
        images: N, as `load_image` takes them, or videos, as `read_video` does.
        prompts: N.
        given: N contexts, or ``None``: information about the prompt, given the context.
        ids: `(N,)` int64, all different; with the seed they name the noise.
        notes: what a reader should be told of them.
        digests: the identities of the images, N of them if they were looked at.
    """

    images: Sequence[VideoLike]
    prompts: Sequence[Prompt]
    given: Sequence[Prompt] | None
    ids: Tensor
    notes: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.prompts), len(self.ids)}
        if self.given is not None:
            counts.add(len(self.given))
        if len(counts) != 1 or self.ids.dtype != torch.int64 or len(self.ids.unique()) < len(self.ids):
            raise ValueError(f"expected an image, a prompt and an id of its own for each pair, got {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ImagePairs:
        """The first of the pairs, as many as that."""
        return self.rows(range(min(count, len(self))))

    def rows(self, places: Sequence[int]) -> ImagePairs:
        """Some of the pairs, by their places."""
        images, given = list(self.images), self.given
        return ImagePairs(
            [images[k] for k in places],
            [self.prompts[k] for k in places],
            None if given is None else [given[k] for k in places],
            self.ids[list(places)],
            self.notes,
        )

    def plain_prompts(self) -> list[str]:
        """The prompts as candidates.

        Raises:
            ValueError: for a masked one.
        """
        if any(isinstance(prompt, Masked) for prompt in self.prompts):
            raise ValueError(
                "masked prompts are no candidates; give whole prompts, and groups= of `Candidates` for a word"
            )
        return list(cast("Sequence[str]", self.prompts))

    @property
    def texts(self) -> list[Prompt]:
        """All prompts and contexts."""
        return [*self.prompts, *(self.given or [])]
