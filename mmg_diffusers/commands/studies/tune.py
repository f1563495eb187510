"""A model tuned to pictures by what log p is the integral of, and what that gains on other pictures: `scripts/tune_density.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import typer

from mmg_diffusers.arrays.trainer import TrainSettings, join_processes
from mmg_diffusers.commands.console import say
from mmg_diffusers.commands.likelihood import Pictures
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.pairs.tables import PairTable
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.tuning import carrying, encoded, tune_pipeline
from mmg_diffusers.tuning.adapters import LowRank, Whole
from mmg_diffusers.tuning.plan import TunePlan, Which
from mmg_diffusers.tuning.tuned import Tuned

CONTROL = "control"


@dataclass(frozen=True)
class Gains:
    """What other pictures say of tuned weights.

    Args:
        pipe: the model, as it was.
        test: pictures that no tuning saw, with the prompts that they are told, or none.
        levels, draws: of the measurement.
        resize: bring pictures to the model's own size.
    """

    pipe: MMGPipeline
    test: tuple[PairTable, Sequence[str] | None]
    levels: int
    draws: int
    resize: bool

    def table(self, ways: Mapping[str, Tuned], fitted: PairTable) -> str:
        """Markdown: log p of each branch by the model as it was, by each of the ways, and the paired differences."""
        table, prompts = self.test
        x = encoded(self.pipe, table.images, self.resize)
        for tuned in ways.values():
            tuned.check_unseen(x)
        reference = self.pipe.fit_reference(fitted.images, resize=self.resize)
        branches: dict[str, Sequence[str] | None] = {} if prompts is None else {"log p(x | prompt)": prompts}
        if self.pipe.unconditional:
            branches["log p(x)"] = None
        rows = ["| | by | nats, mean | less the model as it was |", "|---|---|--:|--:|"]
        for name, told in branches.items():
            found: dict[str, LogLikelihood] = {}
            for way, tuned in {"the model as it was": None, **ways}.items():
                with nullcontext() if tuned is None else carrying(self.pipe, tuned):
                    found[way] = self.pipe.log_likelihood(
                        table.images,
                        told,
                        reference=reference,
                        levels=self.levels,
                        draws=self.draws,
                        resize=self.resize,
                    )
            base = found["the model as it was"]
            for way, measured in found.items():
                less = "-" if measured is base else str(measured.versus(base).mean())
                rows.append(f"| {name} | {way} | {measured.mean()} | {less} |")
            if CONTROL in found:
                rows.append(f"| {name} | tuned, less {CONTROL} | | {found['tuned'].versus(found[CONTROL]).mean()} |")
        return "\n".join(rows)


def tune_density(
    model: Annotated[str, typer.Argument(help="A pipeline folder, an id on the hub, or a model that ships.")],
    source: Annotated[Path, typer.Argument(help="Pictures to tune to: a folder, or a table.")],
    output: Annotated[Path, typer.Option(help="Folder for the weights and the checkpoint.")],
    test: Annotated[Path | None, typer.Option(help="Other pictures, on which the gain is measured.")] = None,
    prompt: Annotated[str | None, typer.Option(help="That all pictures are told.")] = None,
    prompts: Annotated[bool, typer.Option("--prompts", help="Each is told the prompt that SOURCE names.")] = False,
    branches: Annotated[
        str | None, typer.Option(help="both, marginal or conditional; by default what there is.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Of LoRA; 0 trains all weights.")] = 8,
    targets: Annotated[str | None, typer.Option(help="Regular expression of layers that get LoRA.")] = None,
    objective: Annotated[
        str, typer.Option(help="likelihood, or epsilon: the loss that it was trained by.")
    ] = "likelihood",
    control: Annotated[bool, typer.Option("--control", help="Also as many steps of the old loss.")] = False,
    steps: int = 600,
    batch: Annotated[int, typer.Option(help="Pictures a step and process.")] = 16,
    lr: float = 5e-4,
    average: Annotated[float, typer.Option(help="Decay of the running mean of the weights.")] = 0.98,
    check_every: Annotated[int, typer.Option(help="Steps between looks at held-out pictures, and checkpoints.")] = 50,
    patience: Annotated[int, typer.Option(help="Looks without a better loss that end the tuning.")] = 4,
    held_out: Annotated[float, typer.Option(help="Share of the pictures that decides when to stop.")] = 0.15,
    levels: int = 32,
    draws: int = 2,
    resize: bool = False,
    dtype: str = "float32",
    seed: int = 0,
) -> None:
    """Tune a model's branches to pictures, or go on with it; then measure what other pictures gained."""
    pictures = Pictures(source, prompt, prompts)
    table, told = pictures.read()
    others = None if test is None else replace(pictures, source=test).read()
    accelerator = join_processes()
    networks = Networks(model, str(accelerator.device), cast("str", dtype))  # type: ignore[arg-type]
    pipe = replace(networks, quiet=not accelerator.is_main_process).load()
    has_null = pipe.unconditional
    which = branches or ("marginal" if told is None else "both" if has_null else "conditional")
    settings = TrainSettings(
        steps=steps,
        batch=batch,
        lr=lr,
        objective=objective,  # type: ignore[arg-type]
        weight_decay=0.0,
        warmup=max(1, min(20, steps // 10)),
        average=average,
        check_every=check_every,
        patience=patience,
    )
    adapter = Whole() if rank == 0 else LowRank(rank, targets=targets)
    plan = TunePlan(adapter, cast("Which", which), settings, held_out, seed=seed)
    ways = {"tuned": plan}
    if control:
        # Not stopped before it has had as many steps as the other may take.
        ways[CONTROL] = replace(plan, settings=replace(settings, objective="epsilon", patience=steps))
    found: dict[str, Tuned] = {}
    for name, one in ways.items():
        folder = output if name == "tuned" else output / CONTROL
        found[name] = tune_pipeline(
            pipe, table.images, told, one, folder=folder, resize=resize, accelerator=accelerator
        )
        if accelerator.is_main_process:
            say(f"{name}: {found[name]}")
    if others is not None and accelerator.is_main_process:
        say(Gains(pipe, others, levels, draws, resize).table(found, table))
