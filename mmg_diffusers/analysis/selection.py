"""The best of several drawn images for each prompt, by what the prompt says of them; with what that costs, in rows and in variety."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import needs, of_type, shown, whole
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.judging import of_few
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Value
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

Score = Callable[[Sequence[Any], Sequence[str]], Tensor | Sequence[float]]
"""From images and their prompts to one number an image; more is better."""
Features = Callable[[Tensor], Tensor]
"""From images `(M, H, W, 3)` to `(M, F)`, distances between which say how alike they are."""

INFORMATION = "i(image; prompt)"
"""What the score is called if it is an information, and so in nats."""


@dataclass(frozen=True, repr=False)
class Selected(Measured):
    """The best of n images for each of P prompts, by a score.

    `images` `(P, n, H, W, 3)` in [0, 1], `score` `(P, n)`, in nats if it is an information, and `error` `(P, n)` its standard error. `nats` is the score
    of the chosen one. `drawing` and `scoring` are rows that went through the network.
    """

    FORMAT = "mmg_diffusers.Selected/1"
    KIND = "selection"

    prompts: tuple[str, ...]
    images: Tensor
    score: Tensor
    error: Tensor
    drawing: int
    scoring: int
    by: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        shape = (len(self.prompts), self.images.shape[1] if self.images.ndim > 1 else 0)
        if (
            self.images.ndim != 5
            or self.images.shape[:2] != shape
            or self.score.shape != shape
            or self.error.shape != shape
        ):
            raise ValueError(
                f"a selection for {shape[0]} prompts has images {tuple(self.images.shape)} and scores {tuple(self.score.shape)}; expected "
                "(P, n, H, W, 3) and (P, n)"
            )
        if not bool(self.score.isfinite().all()):
            raise ValueError("a score is not finite, so that no image is the best")

    @property
    def chosen(self) -> Tensor:
        """`(P,)` which image of each prompt is the best."""
        return self.score.argmax(1)

    @property
    def best(self) -> Tensor:
        """`(P, H, W, 3)` the chosen images."""
        return self.images[torch.arange(len(self.prompts)), self.chosen]

    @property
    def pair_ids(self) -> Tensor:
        """`(P,)` places of the prompts."""
        return torch.arange(len(self.prompts))

    @property
    def nats(self) -> Tensor:
        """`(P,)` the score of each chosen image."""
        return self.score.amax(1)

    @property
    def stderr(self) -> Tensor:
        """`(P,)` its standard error from the noise; the best of several is also too high by what it was chosen for."""
        return self.error.gather(1, self.chosen[:, None])[:, 0]

    @property
    def gain(self) -> Value:
        """How far the chosen score lies above the mean of all, in the mean over prompts."""
        off = self.nats - self.score.mean(1)
        count = len(off)
        unit = "nats" if self.by.startswith(INFORMATION) else "of the score"
        return Value(float(off.mean()), float(off.std() / count**0.5) if count > 1 else float("nan"), unit)

    @property
    def evaluations(self) -> int:
        """Rows that went through the network, drawing and scoring together."""
        return self.drawing + self.scoring

    def coverage(self, features: Features | None = None, nearest: int = 3) -> tuple[float, float]:
        """How much of the variety of all drawn images the chosen ones cover, and what as many chosen at random would.

        Coverage (Naeem et al., arXiv 2002.09797, eq. 10): the share of the drawn images within whose distance to their `nearest`-th neighbour
        there is a chosen one. The second number is its mean over 200 random choices of one image a prompt.

        Args:
            features: of images; by default their pixels.
            nearest: which neighbour.

        Raises:
            ValueError: for fewer images than neighbours, or features of other images.
        """
        flat = self.images.flatten(0, 1)
        if whole(nearest, "nearest", 1) >= len(flat):
            raise ValueError(f"nearest is {nearest} for {len(flat)} images; expected fewer")
        held = (flat.flatten(1) if features is None else torch.as_tensor(features(flat))).double()
        if held.ndim != 2 or len(held) != len(flat):
            raise ValueError(f"the features are {tuple(held.shape)} for {len(flat)} images; expected a row for each")
        distance = torch.cdist(held, held)
        # The first is the image itself.
        radius = distance.sort(1).values[:, nearest]
        near = distance <= radius[:, None]
        start = torch.arange(len(self.prompts)) * self.images.shape[1]

        def covered(choice: Tensor) -> float:
            return float(near[:, start + choice].any(1).double().mean())

        rng = np.random.default_rng(0)
        at_random = [torch.from_numpy(rng.integers(self.images.shape[1], size=len(start))) for _ in range(200)]
        return covered(self.chosen), sum(map(covered, at_random)) / len(at_random)

    def to_pandas(self) -> pandas.DataFrame:
        """One row an image: prompt, its place among the images of the prompt, score, stderr, and whether it is chosen."""
        needs("pandas", "data")
        import pandas

        count = self.images.shape[1]
        return pandas.DataFrame(
            {
                "prompt": [prompt for prompt in self.prompts for _ in range(count)],
                "image": list(range(count)) * len(self.prompts),
                "score": self.score.flatten().numpy(),
                "stderr": self.error.flatten().numpy(),
                "chosen": (torch.arange(count) == self.chosen[:, None]).flatten().numpy(),
            }
        )

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        return (*self.notes, *of_few(len(self.prompts), "prompt"))

    def __str__(self) -> str:
        line = (
            f"the best of {self.images.shape[1]} images for {len(self.prompts)} prompts, by {self.by}: {self.gain.value:.3f} +- {self.gain.stderr:.3f} "
            f"above the mean; {self.drawing} rows of drawing and {self.scoring} of scoring"
        )
        return in_short([f"verdict: {self.verdict}", line], self.verdict.told)

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Images and scores as tensors, and everything else; for files."""
        return {"images": self.images, "score": self.score, "error": self.error}, {
            "prompts": list(self.prompts),
            "drawing": self.drawing,
            "scoring": self.scoring,
            "by": self.by,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Selected:
        """From what `packed` gave."""
        held: dict[str, Any] = {name: record[name] for name in ("drawing", "scoring", "by", "settings", "versions")}
        held |= {"prompts": tuple(record["prompts"]), "notes": unpacked_notes(record["notes"])}
        return cls(**tensors, **held)

    @staticmethod
    def merge(parts: Sequence[Selected]) -> Selected:
        """Join selections for different prompts, of as many images each.

        Raises:
            ValueError: for none, or for other numbers of images, scores, settings or versions.
        """
        first = to_merge(parts, Selected)
        if any(part.by != first.by or part.images.shape[1:] != first.images.shape[1:] for part in parts):
            raise ValueError("selections were made by different scores, or of other numbers or sizes of images")
        return replace(
            first,
            prompts=tuple(text for part in parts for text in part.prompts),
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in ("images", "score", "error")},
            drawing=sum(part.drawing for part in parts),
            scoring=sum(part.scoring for part in parts),
            notes=same_origin(parts, "selection"),
        )


def scored(score: Score, images: Sequence[Any], prompts: Sequence[str]) -> Tensor:
    """`(M,)` what a function of the user's says.

    Raises:
        ValueError: for other than one finite number an image.
    """
    found = torch.as_tensor(score(images, prompts)).detach().cpu().double()
    if found.shape != (len(prompts),) or not bool(found.isfinite().all()):
        raise ValueError(
            f"the score gave {shown(found)} for {len(prompts)} images; expected one finite number for each"
        )
    return found
