"""A marginal fitted for a command: a folder that ``--marginal fitted:FOLDER`` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmg_diffusers.commands.answers import Answer
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.questions import refuse_unreadable
from mmg_diffusers.files.whole import check_writable
from mmg_diffusers.pairs.tables import read_pairs
from mmg_diffusers.tuning.adapters import LowRank
from mmg_diffusers.tuning.fitting import FitPlan, check_enough
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.soft import SoftPlan

# The rank of additions to a null that is tuned, if none is given.
RANK = 8


def plan_of(soft: int, lora: int, steps: int, folds: int, seed: int) -> FitPlan:
    """What the options of a command say.

    Args:
        soft: prompts of the mixture at most; 0: the network's own null.
        lora: rank of the additions to both branches; 0: none, unless the null is tuned.
        steps: of training soft prompts, and additions.
        folds, seed: of the plan.

    Raises:
        ValueError: for one soft prompt.
    """
    if soft == 1:
        raise ValueError("--soft is 1; expected 2 prompts or more, or 0, which tunes the network's own null")
    branches = None
    if lora or not soft:
        plain = TunePlan()
        branches = replace(
            plain,
            adapter=LowRank(lora or RANK),
            settings=replace(plain.settings, steps=steps, warmup=max(1, min(20, steps // 10))),
            seed=seed,
        )
    return FitPlan(SoftPlan(soft, steps) if soft else None, branches, folds=folds, seed=seed)


def fit(
    source: Path, prompt: str | None, plan: FitPlan, networks: Networks, output: Path, resize: bool = False
) -> Answer:
    """Fit a marginal to the pairs of a folder or table, save it, and tell how to use it.

    Raises:
        ValueError, OSError, ImportError: before anything is fitted, unless a picture cannot be read.
    """
    pairs = read_pairs(source, prompt)
    check_enough(len(pairs), plan)
    check_writable(output)
    refuse_unreadable(pairs)
    fitted = networks.load().fit(
        pairs.images, pairs.prompts, plan=plan, folder=output, resize=resize, progress=not networks.silent
    )
    says = [fitted, f"measure other pairs with --marginal fitted:{output}"]
    values = {
        "kind": "fitted marginal",
        "images": fitted.images,
        "candidates": fitted.candidates,
        "details": fitted.details,
        "findings": [fitted.note],
    }
    return Answer(values, says, [output])
