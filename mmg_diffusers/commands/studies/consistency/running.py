"""The trainings and measurements of each seed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.trainer import Trainer, join_processes
from mmg_diffusers.commands.studies.consistency.plan import Plan
from mmg_diffusers.commands.studies.consistency.tasks import Task, first_rows
from mmg_diffusers.commands.studies.consistency.worlds import World
from mmg_diffusers.files.whole import claim
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.moments import FORMS, Form
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.measure.value import Value


@dataclass(frozen=True)
class Reading:
    """One ratio, read with one form, of one training seed; `nats` is the numerator's information."""

    ratio: str
    rows: int
    form: Form
    seed: int
    value: Value
    nats: Value
    certificate: Value


def ratio_of(top: Tensor, bottom: Tensor) -> Value:
    """Mean of `(N,)` over mean of `(N,)`, of the same pairs, with the standard error of their linearised ratio."""
    centre = float(top.mean() / bottom.mean())
    rest = (top - centre * bottom) / float(bottom.mean())
    return Value(centre, float(rest.std()) / len(rest) ** 0.5)


class Run:
    """The networks and measurements of one seed; whatever FOLDER holds already is read back.

    Args:
        world, plan, seed: what and how.
        folder: of checkpoints and records.
        accelerator: of processes and device. All train together; the main one measures.
        quiet: no progress bar.
    """

    def __init__(
        self, world: World, plan: Plan, seed: int, folder: Path, accelerator: Accelerator, quiet: bool = False
    ) -> None:
        self.world, self.plan, self.seed, self.folder, self.accelerator = world, plan, seed, folder, accelerator
        self.quiet = quiet

    def rows(self) -> list[int]:
        """r of every measurement."""
        return [max(1, round(share * self.world.rows)) for share in self.plan.shares]

    def train(self, copies: int) -> ImageNetwork:
        """Train one network, or go on with it."""
        task = Task(self.world, copies)
        network = task.network(self.plan.logsnr_range, self.plan.widths, self.plan.layers, self.seed)
        trainer = Trainer(
            network,
            task.source(),
            task.held_out(self.plan.watched),
            task.assignments,
            self.plan.train,
            seed=self.seed,
            checkpoint=self.folder / f"{task.name}.{self.seed}.safetensors",
            accelerator=self.accelerator,
            description=f"{self.world.name}, {task.name}, seed {self.seed}",
        )
        trainer.run(not self.quiet and sys.stderr.isatty())
        return network

    def measure(self, single: ImageNetwork, pair: ImageNetwork) -> dict[str, Estimate]:
        """Every information that a ratio is made of, by name."""
        plan = self.plan
        a, picture = self.world.held_out(plan.held_out, 0)
        a_two, picture_two = (Task(self.world, 2).dealt(x) for x in (a, picture))
        jobs: dict[str, tuple[ImageNetwork, Tensor, dict[str, Tensor]]] = {}
        for r in self.rows():
            seen = first_rows(picture, r)
            jobs[f"one.{r}"] = single, a, {"b": seen}
            jobs[f"both.{r}"] = single, a, {"b": seen, "c": first_rows(picture, max(0, r - plan.fewer))}
            jobs[f"two.{r}"] = pair, a_two, {"b": first_rows(picture_two, r)}
        estimator = MMG("balanced", StratifiedUniform(plan.nodes))
        estimates: dict[str, Estimate] = {}
        total = plan.nodes * sum(len(x) for _, x, _ in jobs.values())
        with tqdm(
            total=total,
            desc=f"{self.world.name}, measuring, seed {self.seed}",
            unit="z",
            mininterval=1,
            disable=self.quiet or None,
        ) as bar:
            for name, (network, x, cond) in jobs.items():
                path = self.folder / "estimates" / f"{name}.{self.seed}.safetensors"
                if path.exists():
                    estimates[name] = Estimate.load(path)
                    bar.update(plan.nodes * len(x))
                    continue
                settings = {"measured": name, "training_seed": self.seed}
                estimates[name] = estimator(
                    network.view("a"), x, cond, batch_size=plan.batch_size, progress=bar.update, settings=settings
                )
                estimates[name].save(path)
        return estimates

    def readings(self, estimates: Mapping[str, Estimate]) -> Iterator[Reading]:
        """All ratios, with all forms."""
        rows = self.rows()
        for form in FORMS:
            nats = {name: estimate.using(form).in_mean().nats for name, estimate in estimates.items()}
            for r in rows:
                one = nats[f"one.{r}"]
                half = len(nats[f"two.{r}"])
                each = one[: 2 * half].view(half, 2).mean(1)
                values = {
                    "baseline": (f"one.{r}", ratio_of(one, nats[f"one.{rows[-1]}"])),
                    "data processing": (f"both.{r}", ratio_of(nats[f"both.{r}"], one)),
                    "additivity": (f"two.{r}", ratio_of(nats[f"two.{r}"], each)),
                }
                for ratio, (name, value) in values.items():
                    estimate = estimates[name].using(form)
                    yield Reading(ratio, r, form, self.seed, value, estimate.mean(), estimate.certificate)


def run(world: World, plan: Plan, seeds: Sequence[int], folder: Path, quiet: bool = False) -> list[Reading] | None:
    """Train and measure with every seed; on the main process, all readings.

    Raises:
        ValueError: when FOLDER belongs to another plan.
    """
    accelerator = join_processes()
    claim(folder, {**world.describe(), **asdict(plan)})
    readings: list[Reading] = []
    for seed in seeds:
        one = Run(world, plan, seed, folder, accelerator, quiet)
        single, pair = one.train(1), one.train(2)
        if accelerator.is_main_process:
            readings += one.readings(one.measure(single, pair))
        accelerator.wait_for_everyone()
    return readings if accelerator.is_main_process else None
