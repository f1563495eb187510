"""Pictures that have several captions: which of them are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from mmg_diffusers.checks import shown, whole

Which = Literal["first", "all", "random"]


@dataclass(frozen=True)
class Captions:
    """Which captions of a picture that has several are measured.

    Args:
        which: the ``"first"``; ``"all"``, each a pair of its own, whose errors are clustered by the picture; or one at ``"random"``.
        seed: of the random ones, which depend on it and on the picture's place alone.

    Raises:
        ValueError: for another `which`, or a seed below 0.
        TypeError: for a seed that is no integer.
    """

    which: Which = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.which not in get_args(Which):
            raise ValueError(f"captions is {shown(self.which)}; expected 'first', 'all' or 'random'")
        whole(self.seed, "the seed of captions", 0)

    @classmethod
    def parse(cls, text: str) -> Captions:
        """``first``, ``all``, ``random`` or ``random:SEED``, as a command line says it.

        Raises:
            ValueError: for anything else.
        """
        which, colon, seed = text.partition(":")
        if which not in get_args(Which) or (colon and (which != "random" or not seed.isdecimal())):
            raise ValueError(f"captions is {shown(text)}; expected first, all, random or random:SEED")
        return cls(which, int(seed or 0))  # pyright: ignore[reportArgumentType]

    def of(self, captions: Any, place: int) -> list[Any]:
        """Those that are measured of one picture.

        Args:
            captions: one, or a sequence of them.
            place: the picture's place in its source.
        """
        each = several(captions)
        if each is None:
            return [captions]
        if not each:
            return [""]  # a bad pair, which says so when it is measured
        if self.which == "all":
            return each
        return [
            each[0 if self.which == "first" else int(np.random.default_rng([self.seed, place]).integers(len(each)))]
        ]

    def note(self) -> str:
        """What the reader of a record is told, if pictures have several captions."""
        if self.which == "all":
            return "pictures have several captions, each of which is a pair: cluster the errors by picture"
        one = "the first" if self.which == "first" else f"one at random (seed {self.seed})"
        return f"of pictures with several captions {one} is measured; captions='all' makes a pair of each"


def several(captions: Any) -> list[Any] | None:
    """The captions of a picture that has several; ``None`` for one."""
    if isinstance(captions, np.ndarray) and captions.ndim == 1:
        return captions.tolist()
    return list(captions) if isinstance(captions, Sequence) and not isinstance(captions, (str, bytes)) else None
