"""Pictures that are drawn with a scale of guidance of its own at every step: constant, none, or in an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import ClassifierFreeGuidance
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.pipelines.drawing import stream
from mmg_diffusers.pipelines.pipeline import MMGPipeline

if TYPE_CHECKING:
    from typing_extensions import Self

TOGETHER = 48


@dataclass(frozen=True)
class Schedule:
    """The scale of guidance at each of the sampler's steps, 1 where there is none."""

    scales: tuple[float, ...]

    @classmethod
    def within(cls, steps: int, start: int, stop: int, strength: float) -> Self:
        """One scale in steps from `start` to before `stop`, so that the mean of scale - 1 over all steps is `strength`."""
        scale = 1 + strength * steps / (stop - start)
        return cls(tuple(scale if start <= step < stop else 1.0 for step in range(steps)))

    @classmethod
    def of(cls, guider: ClassifierFreeGuidance, steps: int) -> Self:
        """What a guider of diffusers does in so many steps."""
        own: Any = deepcopy(guider)
        scales: list[float] = []
        for step in range(steps):
            own.set_state(step=step, num_inference_steps=steps, timestep=torch.zeros(()))
            scales.append(float(own.guidance_scale) if own.num_conditions == 2 else 1.0)
        return cls(tuple(scales))

    @property
    def strength(self) -> float:
        """The effective scale: scale - 1 in the mean over steps."""
        return sum(scale - 1 for scale in self.scales) / len(self.scales)

    @property
    def inside(self) -> tuple[int, int]:
        """The first step with guidance, and the one after the last.

        Raises:
            ValueError: if no step has any.
        """
        steps = [step for step, scale in enumerate(self.scales) if scale != 1]
        if not steps:
            raise ValueError("no step has guidance; expected a scale other than 1 at one of them")
        return steps[0], steps[-1] + 1

    @property
    def rows(self) -> int:
        """Rows that go through the network for a picture: a second one where there is guidance."""
        return sum(1 if scale == 1 else 2 for scale in self.scales)


@dataclass
class _Branch:
    """Schedules that have been alike so far, the latents that they share, and the sampler that made them."""

    schedules: list[Schedule]
    x: Tensor
    sampler: Any

    def split(self, step: int) -> Iterator[tuple[float, list[Schedule]]]:
        """Its schedules by the scale that they have at a step."""
        for scale in sorted({own.scales[step] for own in self.schedules}):
            yield scale, [own for own in self.schedules if own.scales[step] == scale]


@torch.no_grad()
def scheduled(
    pipe: MMGPipeline, prompts: Sequence[str], schedules: Sequence[Schedule], seed: int
) -> dict[Schedule, NDArray[np.floating]]:
    """Pictures `(N, H, W, 3)` of every prompt under each schedule, a picture's noise the same under all of them.

    At one scale they are those of `mmg_diffusers.draw` with the same seed. Schedules that begin alike are drawn together until they part, and
    both predictions of a step serve all scales, so that many cost a fraction of what each alone takes.

    Args:
        pipe: the model; a Stable Diffusion, whose own sampler is followed.
        prompts: one for each picture.
        schedules: of as many steps each.
        seed: with a picture's place, names its noise.
    """
    found: dict[Schedule, list[NDArray[np.floating]]] = {own: [] for own in schedules}
    for start in range(0, len(prompts), TOGETHER):
        noise = [
            torch.Generator().manual_seed(stream(seed, start + k))
            for k in range(len(prompts[start : start + TOGETHER]))
        ]
        for schedule, images in _together(pipe, prompts[start : start + TOGETHER], list(found), noise):
            found[schedule].append(images)
    return {schedule: np.concatenate(parts) for schedule, parts in found.items()}


def _together(
    pipe: MMGPipeline, prompts: Sequence[str], schedules: list[Schedule], noise: list[torch.Generator]
) -> Iterator[tuple[Schedule, NDArray[np.floating]]]:
    plain: Any = pipe.pipe
    told, untold = (pipe.encoder.condition(list(texts)) for texts in (prompts, [""] * len(prompts)))
    network = pipe.family.network()
    sampler = deepcopy(plain.scheduler)
    sampler.set_timesteps(len(schedules[0].scales))
    size = plain.unet.config.sample_size * plain.vae_scale_factor
    x = plain.prepare_latents(
        len(prompts), plain.unet.config.in_channels, size, size, torch.float32, pipe.device, noise
    )
    branches = [_Branch(schedules, x, sampler)]
    for step, time in enumerate(sampler.timesteps):
        before, grown = [own.get_state() for own in noise], []
        for branch in branches:
            given = branch.sampler.scale_model_input(branch.x, time)
            times = torch.full((len(prompts),), float(time))
            conditional = network(given, times, **told)
            other = network(given, times, **untold) if any(own.scales[step] != 1 for own in branch.schedules) else None
            for scale, some in branch.split(step):
                predicted = conditional if other is None or scale == 1 else other + scale * (conditional - other)
                for own, state in zip(noise, before, strict=True):
                    own.set_state(state)
                sampler = deepcopy(branch.sampler)
                extra = plain.prepare_extra_step_kwargs(noise, 0.0)
                moved = sampler.step(predicted, time, branch.x, **extra, return_dict=False)[0]
                grown.append(_Branch(some, moved, sampler))
        branches = grown
    for branch in branches:
        pixels = plain.vae.decode(branch.x / plain.vae.config.scaling_factor, return_dict=False)[0]
        images = plain.image_processor.postprocess(pixels, output_type="np").clip(0, 1)
        yield from ((schedule, images) for schedule in branch.schedules)
