"""What a network learns: A given the first rows of B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.arrays.image_networks import ImageNetwork, channel_covariance, in_part
from mmg_diffusers.arrays.networks import Roles
from mmg_diffusers.arrays.trainer import Source
from mmg_diffusers.commands.studies.consistency.worlds import World

# Pictures from which a pixel's linear law is estimated.
LAW_EXAMPLES = 512


def first_rows(picture: Tensor, rows: int | Tensor) -> Tensor:
    """The first rows of pictures, `(B, C, H, W)`, as a network is given them: `(B, C + 1, H, W)`, see `in_part`.

    Args:
        picture: all rows.
        rows: how many are seen, of all or of each, `(B,)`.
    """
    seen = torch.arange(picture.shape[2]) < torch.as_tensor(rows).reshape(-1, 1)
    return in_part(picture, seen[:, None, :, None].expand(-1, 1, -1, picture.shape[3]))


@dataclass(frozen=True)
class Task:
    """What one network learns: A given B_r for any r, of one pair or of two side by side.

    Args:
        world: of the pairs.
        copies: 1, with a second view C of fewer rows, for data processing; or 2, for additivity.
    """

    world: World
    copies: int

    @property
    def name(self) -> str:
        """In file names."""
        return {1: "single", 2: "pair"}[self.copies]

    @property
    def assignments(self) -> tuple[Roles, ...]:
        """Roles to train."""
        known = ((), ("b",), ("b", "c")) if self.copies == 1 else ((), ("b",))
        return tuple(Roles(("a",), given) for given in known)

    def source(self) -> Source:
        """Training examples with rows drawn at random, C showing fewer of them than B."""

        def draw(count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
            return self._examples(*self._drawn(count, [generator] * self.copies), generator)

        return draw

    def held_out(self, count: int) -> Mapping[str, Tensor]:
        """Examples by which the training is watched."""
        a, picture = (self.dealt(x) for x in self.world.held_out(count * self.copies, 1))
        return self._examples(a, picture, torch.Generator().manual_seed(0))

    def dealt(self, values: Tensor) -> Tensor:
        """A (or B) of several pairs `(N, ...)` as that of copies, `(N // copies, ...)`; what is left over is dropped."""
        count = len(values) - len(values) % self.copies
        return self.world.pair([values[k : count : self.copies] for k in range(self.copies)])

    def _drawn(self, count: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        drawn = [self.world.draw(count, generator) for generator in generators]
        a, picture = (self.world.pair(parts) for parts in zip(*drawn, strict=True))
        return a, picture

    def _examples(self, a: Tensor, picture: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(1, self.world.rows + 1, (len(a),), generator=generator)
        found = {"a": a, "b": first_rows(picture, rows)}
        if self.copies == 1:
            fewer = (torch.rand(len(a), generator=generator) * rows).long()
            found["c"] = first_rows(picture, fewer)
        return found

    def network(
        self, logsnr_range: tuple[float, float], widths: Sequence[int], layers: int, seed: int = 0
    ) -> ImageNetwork:
        """A new network, with the linear law of pixels that are seen."""
        seeds = [torch.Generator().manual_seed(k) for k in range(self.copies)]
        a, picture = self._drawn(LAW_EXAMPLES, seeds)
        whole = first_rows(picture, self.world.rows)
        examples = {"a": a, "b": whole} | ({"c": whole} if self.copies == 1 else {})
        shapes = {name: (x.shape[1] - (name != "a"), *x.shape[2:]) for name, x in examples.items()}
        return ImageNetwork(
            shapes,
            channel_covariance(examples, ("b", "c")),
            parts=[name for name in examples if name != "a"],
            logsnr_range=logsnr_range,
            widths=widths,
            layers=layers,
            seed=seed,
        )
