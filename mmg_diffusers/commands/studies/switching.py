"""Which prompt a picture follows when it is drawn with one until tau and with another after it (MINDE, figure 10).

The posterior of the final pictures over candidates (the two prompts by default) stands beside the information about which
of the two it is that has arrived at each noise level, in pictures that were drawn with one prompt throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmg_diffusers.analysis.influence import AXES, Axis, Influence
from mmg_diffusers.commands.answers import Answer, Grid
from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.figures import check_plotting, plot_switching, save_figure
from mmg_diffusers.commands.inputs import read_compared
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.settings import (
    StudySettings,
    check_taus,
    warned,
    write_json,
    write_tensors,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.files.whole import check_writable
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.drawing import Switching, switch_prompts
from mmg_diffusers.pipelines.pipeline import MMGPipeline


@dataclass(frozen=True)
class Question:
    """What is drawn.

    Args:
        first, second: prompts before the switch and after it.
        marginal: what pictures are read as: a file of candidates, or ``shapes``; the two by default.
        count: images at each switch.
        sampling_steps, guidance: of the sampler.
        taus: switches, as diffusion times from 0 to 1.
    """

    first: str
    second: str
    marginal: str | None = None
    count: int = 32
    sampling_steps: int = 50
    guidance: float = 1.0
    taus: tuple[float, ...] = (0.0, 0.5, 1.0)

    def candidates(self) -> Candidates | None:
        """What pictures are read as; ``None`` for the two prompts.

        Raises:
            ValueError: for a marginal that is no candidates, or without one of the two prompts, and for two prompts that are the same.
        """
        if self.first == self.second:
            raise ValueError(
                f"--first and --second are both {shorten(repr(self.first), 60)}; expected two different prompts"
            )
        if self.marginal is None:
            return None
        marginal = read_compared(self.marginal, [self.first, self.second])
        if not isinstance(marginal, Candidates):
            raise ValueError(
                f"the marginal is {shorten(repr(self.marginal), 60)}; pictures are read as candidates: give a file of them, "
                "or shapes"
            )
        for prompt in (self.first, self.second):
            if prompt not in marginal.prompts:
                raise ValueError(
                    f"{shorten(repr(prompt), 60)} is not among the {len(marginal.prompts)} candidates; add it to them"
                )
        return marginal


def arrival(pipe: MMGPipeline, switching: Switching, plan: Plan) -> Influence:
    """Which of the two prompts it is, in pictures that were drawn with one of them from the start to the end.

    Raises:
        ValueError: unless the switch was tried at both ends.
    """
    first, second = switching.candidates[switching.first], switching.candidates[switching.second]
    if int(switching.step[0]) != 0 or float(switching.tau[-1]) != 0.0:
        raise ValueError("expected the switch at tau 0 and 1 as well, for pictures that follow one prompt throughout")
    count = switching.images.shape[1]
    images = [*switching.images[-1], *switching.images[0]]
    prompts = [first] * count + [second] * count
    among = Candidates((first, second))
    return pipe.filter(images, prompts, among, plan=plan).influence(switching.convention)


def _place(value: Value | None, digits: int) -> str:
    return "nowhere" if value is None or not np.isfinite(value.value) else plus_minus(value, digits)


def study(
    question: Question,
    settings: StudySettings,
    networks: Networks,
    output: Path,
    *,
    axis: Axis = "tau",
    shown: int = 4,
) -> Answer:
    """Draw, classify, and write switching.json, switching.safetensors (pictures and posteriors) and switching.png.

    Args:
        question: what is drawn.
        settings: how pictures are read.
        networks: the model.
        output: folder.
        axis: of the figure.
        shown: pictures of each switch in the figure.

    Raises:
        ValueError, OSError, ImportError: before anything is drawn.
    """
    check_plotting()
    check_writable(output)
    candidates = question.candidates()
    check_taus(question.taus)
    pipe = networks.load(settings.how.high)
    plan = settings.with_candidates(pipe)
    switching = switch_prompts(
        pipe,
        question.first,
        question.second,
        list(question.taus),
        count=question.count,
        candidates=candidates,
        steps=question.sampling_steps,
        guidance=question.guidance,
        plan=plan,
    )
    curve = arrival(pipe, switching, plan)
    arrived = curve.arrives
    (share, stderr), (other, _) = switching.share(), switching.share(switching.second)
    halves: dict[Axis, dict[str, Any]] = {
        name: {"first_wins": switching.half(name), "information": curve.half(name) if arrived else None}
        for name in AXES
    }
    write_tensors(
        output / "switching.safetensors",
        {"images": torch.from_numpy(np.asarray(switching.images)), "posterior": switching.posterior},
    )
    values: dict[str, Any] = {
        "first": question.first,
        "second": question.second,
        "candidates": list(switching.candidates),
        "switch_at_step": switching.step.tolist(),
        "switch_at_logsnr": switching.logsnr.tolist(),
        "switch_at_tau": switching.tau.tolist(),
        "first_wins": share.tolist(),
        "stderr": stderr.tolist(),
        "second_wins": other.tolist(),
        "half_at": halves,
        "information": [float(part[0]) for part in curve.mean()],
        "warnings": list(switching.notes),
        "settings": {
            "count": question.count,
            "sampling_steps": question.sampling_steps,
            "scheduler": type(pipe.pipe.components["scheduler"]).__name__,
            "guidance": question.guidance,
            **plan.record(candidates=True),
            "seed": settings.seed,
        },
    }
    write_json(output / "switching.json", values)
    rows = [
        (f"{tau:.3f}", f"{logsnr:.2f}", f"{one:.3f} ± {error:.3f}", f"{two:.3f}")
        for tau, logsnr, one, error, two in zip(
            *(part.tolist() for part in (switching.tau, switching.logsnr, share, stderr, other)), strict=True
        )
    ]
    says: list[object] = [Grid(("switch at tau", "log-SNR", "follow the first", "follow the second"), rows, 0)]
    wins, half = (
        [_place(halves["tau"][name], 3), _place(halves["logsnr"][name], 2)] for name in ("first_wins", "information")
    )
    says.append(f"the first prompt wins half of the time from tau {wins[0]}, log-SNR {wins[1]}")
    says.append(f"half of the information has arrived at tau {half[0]}, log-SNR {half[1]}")
    says += warned(switching.notes)
    wrote = [output / "switching.json", output / "switching.safetensors"]
    if arrived:
        at = {
            "tau": switching.tau,
            "logsnr": switching.logsnr,
            "timestep": switching.convention.timestep(switching.logsnr),
        }[axis]
        figure = plot_switching(
            at.numpy(),
            share.numpy(),
            stderr.numpy(),
            curve,
            switching.images[:, :shown],
            axis=axis,
            halves=(halves[axis]["first_wins"].value, halves[axis]["information"].value),
            title=f"{question.first}, then {question.second}",
        )
        wrote.append(save_figure(figure, output / "switching.png"))
    else:
        says.append("no figure: of so few pictures nothing tells when the information arrives; draw more (--count)")
    return Answer({"kind": "switching", **values}, says, wrote)
