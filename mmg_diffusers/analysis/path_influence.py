"""What the two branches of guidance differed by, step by step, while images were drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.influence import Influence
from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.judging import of_few
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.noise import integrate
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes
from mmg_diffusers.measure.weights import trapezoid

if TYPE_CHECKING:
    import pandas

MOVED = (
    "guidance moved the path that the images were drawn along: this is path influence, what the prompt did to these images, and not the "
    "mutual information of the model's own images"
)


@dataclass(frozen=True, repr=False)
class PathInfluence(Measured):
    """Half the integral of |e_c - e_u|^2 over log-SNR along the paths of N images that were drawn, in nats.

    The two predictions are those that guidance made anyway. `logsnr` `(L,)` rises with the sampler's steps, `square` `(N, L)` is
    |e_c - e_u|^2 summed over the image, `maps` `(N, L, *pixels)` before that, over the network's own pixels or tokens. `missed` steps ran one
    branch alone, or at no finite level. If `moved`, guidance moved the path, and the number is no mutual information; if not, its
    mean is the orthogonal form of it, as the sampler's steps resolve it.
    """

    FORMAT = "mmg_diffusers.PathInfluence/1"
    KIND = "path influence"

    logsnr: Tensor
    square: Tensor
    maps: Tensor
    moved: bool
    missed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")
        if (
            self.square.ndim != 2
            or self.square.shape[1] != len(self.logsnr)
            or self.maps.shape[:2] != self.square.shape
        ):
            raise ValueError(
                f"a path of {len(self.logsnr)} levels has squares {tuple(self.square.shape)} and maps {tuple(self.maps.shape)}; expected "
                "(N, L) and (N, L, *pixels)"
            )
        if len(self.logsnr) < 2 or not bool((self.logsnr.diff() > 0).all()):
            raise ValueError(f"the levels of a path are {shown(self.logsnr)}; expected two or more, rising")
        if not bool(self.square.isfinite().all()):
            raise ValueError("the differences of a path are not finite")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` places of the images."""
        return torch.arange(len(self.square))

    @property
    def _weight(self) -> Tensor:
        return trapezoid(self.logsnr).double()

    @property
    def nats(self) -> Tensor:
        """`(N,)` of each image."""
        return self.square @ self._weight / 2

    @property
    def stderr(self) -> Tensor:
        """`(N,)` from the scatter of each step about the line through its neighbours: one path tells no more."""
        weight = self._weight.expand(len(self.square), 1, -1)
        return integrate(self.square[:, None], weight, False)[1]

    def weighed(self, weight: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Half the integral with a weight in it: `(N,)` of each image, and its maps `(N, *pixels)`.

        Args:
            weight: from levels `(L,)` to factors `(L,)`.

        Raises:
            ValueError: for factors of another shape.
        """
        factor = weight(self.logsnr)
        if not isinstance(factor, Tensor) or factor.shape != self.logsnr.shape:
            raise ValueError(
                f"the weight gave {shown(factor)}; expected a factor for each of {len(self.logsnr)} levels"
            )
        each = factor.double() * self._weight / 2
        return self.square @ each, torch.tensordot(self.maps.double().movedim(1, -1), each, 1)

    def pixel_map(self) -> Tensor:
        """`(N, *pixels)` nats on the network's own pixels or tokens; a map sums to `nats`."""
        return self.weighed(torch.ones_like)[1]

    def influence(self, convention: Convention | None = None) -> Influence:
        """What is still to come of it at each step."""
        step = self.logsnr.diff() * (self.square[:, 1:] + self.square[:, :-1]) / 4
        later = torch.cat([step.flip(1).cumsum(1).flip(1), torch.zeros_like(step[:, :1])], 1)
        return Influence(self.logsnr, later, torch.full_like(later, torch.nan), convention)

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        said = list(self.notes)
        if self.moved:
            said.append(MOVED)
        if self.missed:
            said.append(
                f"{self.missed} of {self.missed + len(self.logsnr)} steps ran one branch alone, or at pure noise: they are not in it"
            )
        return (*said, *of_few(len(self), "image"))

    def to_pandas(self) -> pandas.DataFrame:
        """One row an image: its place, nats, stderr, and the log-SNR at which half of it had come."""
        needs("pandas", "data")
        over = self.influence()
        table = super().to_pandas()
        half = [over[k : k + 1].half().value if float(self.nats[k]) > 0 else float("nan") for k in range(len(self))]
        return table.assign(half=half)

    def __repr__(self) -> str:
        kind = "path influence" if self.moved else "orthogonal"
        return (
            f"PathInfluence({self.mean()}, {kind}, {len(self)} image{'s' * (len(self) > 1)}, {len(self.logsnr)} steps)"
        )

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        line = (
            f"{'path influence' if self.moved else 'orthogonal'}: {self.mean()} over {len(self)} images (log-SNR {low:.2f} to {high:.2f} in "
            f"{len(self.logsnr)} steps, no evaluation of its own)"
        )
        return in_short([f"verdict: {self.verdict}", line], self.verdict.told)

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Squares and maps as tensors, and everything else; for files."""
        return {"logsnr": self.logsnr, "square": self.square, "maps": self.maps}, {
            "moved": self.moved,
            "missed": self.missed,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> PathInfluence:
        """From what `packed` gave."""
        held = {name: record[name] for name in ("moved", "missed", "settings", "versions")}
        return cls(**tensors, **held, notes=unpacked_notes(record["notes"]))

    @staticmethod
    def merge(parts: Sequence[PathInfluence]) -> PathInfluence:
        """Join the paths of several runs with the same steps.

        Raises:
            ValueError: for none, or for other levels, settings or versions.
        """
        first = to_merge(parts, PathInfluence)
        for other in parts:
            if not torch.equal(other.logsnr, first.logsnr) or other.maps.shape[2:] != first.maps.shape[2:]:
                raise ValueError(
                    "images were drawn along other steps or at another size; join runs that were made alike"
                )
        return PathInfluence(
            first.logsnr,
            torch.cat([part.square for part in parts]),
            torch.cat([part.maps for part in parts]),
            any(part.moved for part in parts),
            max(part.missed for part in parts),
            first.settings,
            first.versions,
            same_origin(parts, "path"),
        )


class PathRecorder:
    """Collects |e_c - e_u|^2 step by step, and begins anew where the levels fall back to noise.

    Args:
        convention: of the predictions.
    """

    def __init__(self, convention: Convention) -> None:
        self.convention = convention
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.levels: list[float] = []
        self.maps: list[Tensor] = []
        self.moved = False
        self.missed = 0
        self.last = float("-inf")

    def _reach(self, logsnr: float, rows: int | None = None) -> None:
        """Begin anew if this step is of another run: at a noisier level than the last one, or of another number of images."""
        if logsnr < self.last or (rows is not None and self.maps and len(self.maps[-1]) != rows):
            self.clear()
        self.last = logsnr

    def add(self, logsnr: float, conditional: Tensor, other: Tensor, moved: bool) -> None:
        """A step's two predictions `(N, C, *pixels)`, or of tokens `(N, T, C)`, as the network makes them."""
        self._reach(logsnr, len(conditional))
        if logsnr == float("-inf") or (self.levels and logsnr == self.levels[-1]):
            self.missed += 1
            return
        level = torch.tensor([logsnr], dtype=torch.float64)
        scale = float(self.convention.coefficients(level).c_out.square())
        square = scale * (conditional.detach() - other.detach()).float().cpu().double().square()
        self.levels.append(logsnr)
        # The channels are the first axis of an image, and the last of a token.
        self.maps.append((square.sum(-1) if square.ndim == 3 else square.sum(1)).float())
        self.moved |= moved

    def skip(self, logsnr: float) -> None:
        """A step that ran one branch alone."""
        self._reach(logsnr)
        self.missed += 1

    def read(self) -> PathInfluence:
        """What the last run says.

        Raises:
            ValueError: if no two steps ran both branches.
        """
        if len(self.levels) < 2:
            raise ValueError(
                f"{len(self.levels)} steps ran both branches, with and without the prompt; draw with guidance (guidance_scale above 1), and at "
                "least two steps"
            )
        maps = torch.stack(self.maps, 1)
        return PathInfluence(
            torch.tensor(self.levels, dtype=torch.float64),
            maps.double().flatten(2).sum(2),
            maps,
            self.moved,
            self.missed,
        )
