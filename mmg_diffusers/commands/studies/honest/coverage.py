"""How often a sandwich holds the information of its world, of groups of fresh pairs: ``--stage sandwich``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.sandwich import Sandwich
from mmg_diffusers.arrays.labels import LabelSet, filter_labels
from mmg_diffusers.commands.studies.honest.networks import Recipe, train
from mmg_diffusers.commands.studies.honest.worlds import Labels
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.base import Denoiser
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import Value, mean_over_pairs

# Groups, pairs of each, groups that share what the marginal was fitted to, how many other pairs that was, and steps of the path.
GROUPS, PAIRS, SHARED, FIT, STEPS = 50, 64, 10, 300, 32
# Within the levels of training.
ENDS = (-7.9, 7.9)
LABELS = Labels(6, 24, 0.4, seed=71)


@dataclass(frozen=True)
class LabelWorld:
    """Labels that a small network of `LABELS` is asked about.

    Args:
        name: of the table.
        prior: of the labels; the network was trained on all alike.
        narrow: variance given the label, in units of that which it was trained on.
        recipe: how it was trained.
    """

    name: str
    prior: tuple[float, ...] = (1 / 6,) * 6
    narrow: float = 1.0
    recipe: Recipe = field(default_factory=lambda: Recipe(dropout=0.1, seed=1))

    def draw(self, pairs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Points `(N, d)`, their labels `(N,)`, and what each tells of its label, in closed form, `(N,)` nats."""
        generator = torch.Generator().manual_seed(seed)
        prior = torch.tensor(self.prior, dtype=torch.float64)
        label = torch.multinomial(prior, pairs, replacement=True, generator=generator)
        noise = torch.randn(pairs, LABELS.size, generator=generator, dtype=torch.float64)
        variance = self.narrow * LABELS.variance
        x = LABELS.means[label] + variance**0.5 * noise
        told = torch.log_softmax(prior.log() - torch.cdist(x, LABELS.means).square() / (2 * variance), 1)
        truth = (told - prior.log()).gather(1, label[:, None])[:, 0]
        return x.float(), label, truth


def label_worlds() -> tuple[LabelWorld, ...]:
    """The five worlds."""
    return (
        LabelWorld("six labels"),
        LabelWorld("trained a quarter as long", recipe=Recipe(dropout=0.1, steps=150, seed=2)),
        LabelWorld("skewed prior", (0.5, 0.25, 0.12, 0.06, 0.04, 0.03)),
        LabelWorld("a wider network", recipe=Recipe(dropout=0.1, width=192, seed=3)),
        LabelWorld("points nearer to their labels' means", narrow=0.6),
    )


def sandwich(denoiser: Denoiser, world: LabelWorld, seed: int, groups: int = SHARED) -> list[tuple[Sandwich, float]]:
    """The sandwiches of groups of fresh pairs, and what each group tells exactly.

    The marginal is the labels of other pairs, as often as they occur; the bound is by the world's own prior, along the same paths.
    """
    x, label, truth = world.draw(groups * PAIRS, 5000 + seed)
    # A label that the others lack is all but impossible.
    often = torch.bincount(world.draw(FIT, 4000 + seed)[1], minlength=LABELS.count).double().clamp(min=1e-9)
    labels = LabelSet({"label": torch.arange(LABELS.count)}, prior=(often / often.sum()).tolist())
    path = NoisePath(Trapezoid(STEPS + 1), logsnr_range=ENDS)
    made = filter_labels(denoiser, x, labels, label, path=path, seed=seed)
    curve, mixture = made.evidence, made.mixture
    assert curve.mixture is not None
    found: list[tuple[Sandwich, float]] = []
    for rows in torch.arange(len(x)).split(PAIRS):
        compared, ids = curve.mixture.rows(rows.tolist()), curve.pair_ids[rows]
        said = {**made.settings, "base": "a mixture of fitted labels", "fitted_to": FIT}
        fitted = Estimate(compared, "auto", said, notes=made.notes)
        some = mixture.rows(rows.tolist())
        law = replace(some, prior=torch.tensor(world.prior, dtype=torch.float64).expand(PAIRS, -1).contiguous())
        evidence = CandidateCurve(curve.score[rows], curve.logsnr, ids, curve.evaluations, compared)
        found.append((Sandwich(Filtered(evidence, law, made.settings), fitted), float(truth[rows].mean())))
    return found


def sandwiches() -> dict[str, Any]:
    """Coverage of each world's information, and of the groups' own."""
    rows: list[dict[str, Any]] = []
    for world in label_worlds():
        denoiser = train(LABELS, world.recipe)
        truth = float(world.draw(200_000, 3)[2].mean())
        made = [one for seed in range(GROUPS // SHARED) for one in sandwich(denoiser, world, seed)]
        ends = torch.tensor([one.interval for one, _ in made])
        own = torch.tensor([exact for _, exact in made])
        sides = torch.tensor([(one.below.value, one.above.value) for one, _ in made], dtype=torch.float64)
        rows.append(
            {
                "name": world.name,
                "truth": truth,
                "below": mean_over_pairs(sides[:, 0]),
                "above": mean_over_pairs(sides[:, 1]),
                "holds": float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).double().mean()),
                "own": float(((ends[:, 0] <= own) & (own <= ends[:, 1])).double().mean()),
                "low": float((ends[:, 1] < truth).double().mean()),
                "high": float((ends[:, 0] > truth).double().mean()),
                "don't": float(torch.tensor([one.verdict.grade == "don't" for one, _ in made]).double().mean()),
            }
        )
    return {"rows": rows}


def sandwich_lines(found: dict[str, Any]) -> Iterator[str]:
    """A row a world."""
    yield "| world | information | below | above | holds it | holds the pairs' own | too low | too high | verdict \"don't\" |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in found["rows"]:
        shares = " | ".join(f"{row[name]:.0%}" for name in ("holds", "own", "low", "high", "don't"))
        sides = " | ".join(plus_minus(Value(*row[name])) for name in ("below", "above"))
        yield f"| {row['name']} | {row['truth']:.3f} | {sides} | {shares} |"
