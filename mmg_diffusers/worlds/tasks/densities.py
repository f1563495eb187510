"""Tasks whose density, or probability, is known for every value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from mmg_diffusers.checks import whole
from mmg_diffusers.worlds.densities import GaussianMixture, Ising, KnownLaw, Labelled, LevelMixture, Moved
from mmg_diffusers.worlds.densities.base import Array
from mmg_diffusers.worlds.densities.mixtures import shapes_pictures

_BY = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class DensityTask:
    """A law of x whose log p(x) is known.

    Attributes:
        key: the name by which `get_density_task` finds it.
        name: the name for tables and figures.
        law: what it is drawn from: `log_prob`, `posterior_mean`, `levels`, `labels`, `shape` and `entropy`.
    """

    key: str
    name: str
    law: KnownLaw = field(repr=False, compare=False)

    def sample(self, n: int, seed: int) -> Array:
        """Draw n independent values, `(n, *shape)` float64; the same n and seed give the same ones.

        Args:
            n: how many, 1 or more.
            seed: 0 or more.

        Raises:
            TypeError: for a number that is not an integer.
            ValueError: for n < 1 or seed < 0.
        """
        return self.law.draw(whole(n, "n", 1), np.random.default_rng(whole(seed, "seed", 0)))

    def sample_labelled(self, n: int, seed: int) -> Labelled:
        """Draw the values of `sample`, with their labels.

        Raises:
            TypeError, ValueError: as `sample` does, and for a law without labels.
        """
        return self.law.draw_labelled(whole(n, "n", 1), np.random.default_rng(whole(seed, "seed", 0)))


def _ising(rows: int, columns: int, coupling: float) -> KnownLaw:
    return Ising(rows, columns, coupling)


def _mixture(dim: int) -> KnownLaw:
    return GaussianMixture.scattered(dim, components=6, sd=0.3, seed=dim)


def _moved(dim: int) -> KnownLaw:
    turned, _ = np.linalg.qr(np.random.default_rng(dim).standard_normal((dim, dim)))
    return Moved(_mixture(dim), scale=3.0, shift=5.0, rotation=turned)


def _templates(count: int, sd: float) -> KnownLaw:
    return GaussianMixture.of_pictures(shapes_pictures(count), sd)


def _levels(dim: int, levels: int) -> KnownLaw:
    return LevelMixture.of_normals(dim, components=3, levels=levels, seed=dim)


@cache
def _made() -> dict[str, DensityTask]:
    made: list[tuple[str, str, Callable[..., KnownLaw], tuple[float, ...]]] = [
        (f"mixture-{dim}", f"Gaussian mixture in {dim} dimensions", _mixture, (dim,)) for dim in (2, 8, 16, 64)
    ]
    made += [
        (f"moved-mixture-{dim}", f"Rotated, scaled and shifted mixture in {dim} dimensions", _moved, (dim,))
        for dim in (2, 16, 64)
    ]
    made.append(("template-images-24-0.2", "24 pictures in noise of 0.2, 3,072 dimensions", _templates, (24, 0.2)))
    made += [
        (f"ising-{side}-{side}-0.4", f"Ising {side} {_BY} {side}, coupling 0.4", _ising, (side, side, 0.4))
        for side in (3, 4, 6, 8)
    ]
    made += [
        (f"levels-{dim}-{levels}", f"Mixture over {levels} levels in {dim} dimensions", _levels, (dim, levels))
        for dim, levels in ((4, 16), (16, 256))
    ]
    return {key: DensityTask(key, name, law(*given)) for key, name, law, given in made}


def density_tasks() -> dict[str, DensityTask]:
    """List tasks whose log p(x) is known, by key: Gaussian mixtures of 2 to 64 dimensions, pictures in noise, Ising models,
    mixtures over levels.
    """  # fmt: skip
    return dict(_made())
