"""The noise levels that a pipeline's own sampler visits."""

from __future__ import annotations

import inspect
import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mmg_diffusers.checks import whole
from mmg_diffusers.pipelines.schedulers import convention_from_config, dynamic_shift

# Families whose pipelines ask the scheduler for even shares of noise, whatever its shift, and those that ask in a way of their own.
_EVEN, _OTHERWISE = ("Chroma", "Lumina 2", "Z-Image"), ("CogView4",)


@dataclass(frozen=True)
class SamplerLevels:
    """The log-SNR at each step of a scheduler, ``levels(steps)``, through its own timesteps.

    Args:
        scheduler: of diffusers; a copy is asked.
        tokens: of an image, if the scheduler shifts its times by its size.
        family: the name of the pipeline's family, of which some ask for steps in a way of their own.
    """

    scheduler: Any
    tokens: int | None = None
    family: str = ""

    def __call__(self, steps: int) -> Tensor:
        """`(steps,)` or more (some samplers call the network more often), rising; -infinity at pure noise.

        Raises:
            TypeError, ValueError: for a number of steps that is none, or a family whose steps are not known.
        """
        if self.family in _OTHERWISE:
            raise ValueError(
                f"{self.family} asks its scheduler for steps in a way of its own; give the levels that it visits in place of their number, such "
                "as pipe.watch() records"
            )
        count, scheduler = whole(steps, "steps", 1), deepcopy(self.scheduler)
        config, kind = scheduler.config, type(scheduler).__name__
        options: dict[str, Any] = {}
        if config.get("use_dynamic_shifting"):
            shift = dynamic_shift(config, self.tokens or 1)
            options["mu"] = shift if config.get("time_shift_type") == "linear" else math.log(shift)
        even = config.get("use_dynamic_shifting") or self.family in _EVEN
        if even and "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
            # As pipelines of flows with such a shift ask for them.
            options["sigmas"] = np.linspace(1.0, 1 / count, count)
        scheduler.set_timesteps(num_inference_steps=count, **options)
        convention = convention_from_config(kind, config, tokens=self.tokens or 1)
        return convention.at_timestep(scheduler.timesteps.double().cpu())
