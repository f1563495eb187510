"""The training of an adapter, by the trainer of `arrays`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mmg_diffusers.arrays.trainer import Trainer, rows_of
from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.tuning.adapters import Networks
from mmg_diffusers.tuning.branches import Branches, Encoded, OwnLevels
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.tuned import Tuned


def tune(
    denoiser: Adapted,
    networks: Networks,
    data: Encoded,
    plan: TunePlan | None = None,
    *,
    model: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Tuned:
    """Tune a model's branches to data; the networks are as before when it returns.

    Weights are averaged, and those with the least held-out loss are kept: the model's own if none is better. A checkpoint is
    gone on from, as if it had not been interrupted.

    Args:
        denoiser: of the model.
        networks: the networks that it calls, by name.
        data: what it is tuned to. A part, by content, is held out.
        plan: how.
        model: what the record says of the model, in what JSON can hold; a checkpoint of another is refused.
        checkpoint: the file.
        accelerator: the processes; those of the launch by default.
        progress: whether a bar is shown.

    Raises:
        TypeError: for other than these.
        ValueError: for too few images, branches that the model or the data do not have, levels that it does not know, a checkpoint of
            another tuning, or a loss that is not finite any more.
    """
    plan = TunePlan() if plan is None else plan
    of_type(denoiser, Adapted, "the denoiser", "a network that Adapted made a denoiser")
    of_type(data, Encoded, "data", "Encoded(x, ...)")
    of_type(plan, TunePlan, "plan", "TunePlan(...)")
    if plan.branches != "conditional" and not denoiser.has_marginal:
        raise ValueError(
            f"branches is {shown(plan.branches)}, and this network has no unconditional branch; expected 'conditional'"
        )
    if plan.branches != "marginal" and data.which is None:
        raise ValueError(f"branches is {shown(plan.branches)} without prompts; give these, or tune 'marginal' alone")
    ends = range_within(denoiser, plan.logsnr_range, StratifiedUniform(2))
    trained, watched = data.split(plan.held_out, plan.seed)
    origin = {
        "model": dict(model or {}),
        "adapter": plan.adapter.record(),
        "data": str(trained.identity()),
        "watched": str(watched.identity()),
    }
    with plan.adapter.on(networks, seed=plan.seed) as weights:
        branches = Branches(denoiser, networks, weights, tuple(data.x.shape[1:]), data.conditions, ends)
        trainer = Trainer(
            branches,
            rows_of(trained.variables()),
            watched.variables(),
            plan.roles,
            plan.settings,
            seed=plan.seed,
            checkpoint=checkpoint,
            accelerator=accelerator,
            description="tuning",
            origin=origin,
        )
        if plan.settings.objective == "epsilon":
            trainer.levels = OwnLevels(*ends, 1.0, trainer.levels.gap, convention=denoiser.convention)
        trainer.run(progress)
        kept = branches.trained
    looks = tuple((int(look["step"]), look["loss"]) for look in trainer.history)
    record = {"plan": plan.record(), "model": dict(model or {}), "data": str(data.identity())}
    return Tuned(kept, data.marks, looks, record)
