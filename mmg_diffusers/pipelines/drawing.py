"""Images that a model draws itself: from one prompt, or from two, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.influence import Axis, jackknife
from mmg_diffusers.checks import Brief, shown, warn, whole
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.internals import changeable_inputs, progress_options
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pipelines.media import Stills
from mmg_diffusers.pipelines.progress import bar, bar_of_parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mmg_diffusers.pipelines.pipeline import MMGPipeline
    from mmg_diffusers.pipelines.uses import UsingModel

Images = NDArray[np.floating]
_TOGETHER = 48
# Streams of noise of different seeds do not meet below this number of images, as long as 32 bits hold them: torch reads no more
# of a seed on the CPU.
_STRIDE, _SEEDS = 2**20, 2**12
# Steps of the path along which images are read.
READING = 48


@dataclass(frozen=True, repr=False)
class Drawn(Brief):
    """Images `(N, H, W, 3)` in [0, 1] with the prompts that they were drawn from, and what a reader should be told."""

    images: Images
    prompts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def guidance_notes(guidance: float) -> tuple[str, ...]:
    """Warns of guidance above 1, and returns the remark for the record.

    Raises:
        ValueError: for guidance below 1.
    """
    if not guidance >= 1:
        raise ValueError(f"guidance is {guidance:g}; expected 1, which samples p(image | prompt), or more")
    if guidance == 1:
        return ()
    note = (
        f"images were drawn with guidance {guidance:g}: they do not sample p(image | prompt), and what prompts say of them is not "
        "the model's information"
    )
    warn(note)
    return (note,)


def draw(
    pipe: UsingModel, prompts: Sequence[str], *, steps: int = 50, guidance: float = 1.0, seed: int = 0
) -> Drawn:  # fmt: skip
    """Draw an image for each prompt, at guidance 1 from the model's own p(image | prompt).

    Args:
        pipe: the model.
        prompts: one for each image.
        steps: of the pipeline's own sampler.
        guidance: above 1 the images follow their prompts more than the model's law does, which is remarked on.
        seed: with an image's place, names its noise.

    Raises:
        ValueError: for no prompts, or guidance below 1.
    """
    whole(steps, "steps", 1)
    if not prompts:
        raise ValueError("no prompts were given; expected at least one to draw from")
    notes = guidance_notes(guidance)
    return Drawn(_sample(pipe, list(prompts), steps, guidance, seed, None), tuple(prompts), notes)


def stream(seed: int, place: int) -> int:
    """The seed of an image's noise: of its place and of the whole seed, which may have 63 bits."""
    if seed < _SEEDS:
        return _STRIDE * seed + place
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def _sample(
    pipe: UsingModel,
    prompts: list[str],
    steps: int,
    guidance: float,
    seed: int,
    change: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None,
) -> Images:
    plain: Any = pipe.pipe
    if not isinstance(pipe.codec.medium, Stills):
        raise ValueError(
            f"{pipe.family.name} makes {pipe.codec.medium.noun}s; expected a model of images. Draw with its own pipeline, and "
            "measure what it made"
        )
    extra: dict[str, Any] = {} if change is None else {
        "callback_on_step_end": change,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }  # fmt: skip
    if "guidance_scale" in signature(type(plain).__call__).parameters:
        extra["guidance_scale"] = guidance
    shown = progress_options(plain)
    plain.set_progress_bar_config(disable=True)
    parts: list[Images] = []
    try:
        with bar(len(prompts), "drawing", pipe.progress_bar_config, "image") as moving:
            for start in range(0, len(prompts), _TOGETHER):
                some = prompts[start : start + _TOGETHER]
                # A generator for each image, so that it does not depend on those beside it.
                noise = [torch.Generator().manual_seed(stream(seed, start + k)) for k in range(len(some))]
                made = plain(
                    **pipe.codec.asked(some),
                    num_inference_steps=steps,
                    generator=noise,
                    output_type="np",
                    **extra,
                )
                parts.append(made.images.clip(0, 1))
                moving.update(len(some))
    finally:
        plain.set_progress_bar_config(**shown)
    return np.concatenate(parts)


@dataclass(frozen=True, repr=False)
class Switching(Brief):
    """Images drawn with one prompt until a diffusion time, and with another after it (S times, C images at each).

    `step` `(S,)` is the number of the sampler's calls that followed the first prompt, rising; `logsnr` `(S,)` the level that the second one
    began at; `posterior` `(S, C, K)` of the candidates, of which `first` and `second` are the two prompts; `images`
    `(S, C, H, W, 3)`. Images at the same place begin with the same noise at every time.
    """

    candidates: tuple[str, ...]
    first: int
    second: int
    step: Tensor
    logsnr: Tensor
    posterior: Tensor
    images: Images
    convention: Convention
    notes: tuple[str, ...] = ()

    @property
    def tau(self) -> Tensor:
        """`(S,)` the diffusion times, falling."""
        return self.convention.tau(self.logsnr)

    def share(self, candidate: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean posterior of the first prompt (or another candidate) at each time, and its standard error, `(S,)` each."""
        own = self.posterior[:, :, self.first if candidate is None else candidate]
        count = own.shape[1]
        return own.mean(1), own.std(1) / count**0.5 if count > 1 else torch.full_like(own[:, 0], float("nan"))

    def half(self, axis: Axis = "logsnr") -> Value:
        """Where the first prompt begins to win half of the time, with its standard error over images (jackknife).

        Not a number where its share does not cross one half between the times that were tried.
        """
        own = self.posterior[:, :, self.first]
        total, count = own.sum(1), own.shape[1]
        left_out = [(total - own[:, k]) / (count - 1) for k in range(count)] if count > 1 else []
        crossings = torch.tensor([self._crossing(total / count), *map(self._crossing, left_out)], dtype=torch.float64)
        known = crossings.isfinite()
        told = torch.full_like(crossings, float("nan"))
        to = {"logsnr": Tensor.double, "tau": self.convention.tau, "timestep": self.convention.timestep}[axis]
        told[known] = to(crossings[known])
        return Value(float(told[0]), float(jackknife(told[1:, None])[0]) if count > 1 else float("nan"))

    def _crossing(self, share: Tensor) -> float:
        for k in range(1, len(share)):
            low, high = float(share[k - 1]), float(share[k])
            if low < 0.5 <= high:
                begin, end = float(self.logsnr[k - 1]), float(self.logsnr[k])
                return begin + (0.5 - low) / (high - low) * (end - begin)
        return float("nan")


def switch_prompts(
    pipe: MMGPipeline,
    first: str,
    second: str,
    taus: Sequence[float],
    *,
    count: int = 32,
    candidates: Candidates | None = None,
    steps: int = 50,
    guidance: float = 1.0,
    plan: Plan | None = None,
    **options: Unpack[Options],
) -> Switching:
    """Draw with one prompt until tau and another after it, and tell which of them the images follow (MINDE, figure 10).

    Args:
        pipe: the model; its pipeline has to let a prompt be changed between steps, as Stable Diffusion's does.
        first, second: the prompts.
        taus: diffusion times of the switch between 0, never, and 1, at once; each is rounded to a step of the sampler.
        count: images at each time.
        candidates: what the images are read as; the two prompts by default.
        steps, guidance: as in `draw`.
        plan: how images are read, as in `MMGPipeline.classify`; its options may be given as keywords. By default along 48
            steps. Its seed names the noise of the images too.

    Raises:
        ValueError: for a tau outside [0, 1], prompts that are the same or not among the candidates, or a pipeline whose
            prompt cannot be changed.
    """
    whole(count, "count", 1)
    whole(steps, "steps", 1)
    reading = Plan.of(plan or Plan(levels=READING), **options)
    seed = reading.seed
    among = candidates or Candidates((first, second))
    if first == second:
        raise ValueError(f"both prompts are {shown(first)}; expected two different ones")
    absent = [prompt for prompt in (first, second) if prompt not in among.prompts]
    if absent:
        raise ValueError(
            f"the prompt {shown(absent[0])} is not among the {len(among.prompts)} candidates; add it to them"
        )
    if not len(taus):
        raise ValueError("no diffusion times were given; expected at least one tau between 0 and 1")
    convention = pipe.denoiser.convention
    asked = torch.as_tensor(list(taus), dtype=torch.float64)
    convention.at_tau(asked)
    plain: Any = pipe.pipe
    other = pipe.encoder.condition([second]).get("encoder_hidden_states")
    if other is None or "prompt_embeds" not in changeable_inputs(plain):
        raise ValueError(f"{type(plain).__name__} does not let its prompt be changed between steps")
    notes = guidance_notes(guidance)
    # A sampler may call the network more often than it takes steps (PNDM, Heun): what is switched between are its calls.
    scheduler = deepcopy(plain.scheduler)
    scheduler.set_timesteps(steps)
    levels_used = convention.at_timestep(scheduler.timesteps)
    tau_used, calls = convention.tau(levels_used), len(scheduler.timesteps)
    switches = sorted({calls if tau == 0 else int((tau_used > tau).sum()) for tau in asked})
    images: list[Images] = []
    posteriors: list[Tensor] = []
    # Each switch is drawn, then read.
    with bar_of_parts(2 * len(switches), "switching", pipe.progress_bar_config):
        for switch in switches:

            def change(_: Any, step: int, __: Any, tensors: dict[str, Any], switch: int = switch) -> dict[str, Any]:
                if step + 1 < switch:
                    return {}
                # With guidance the rows of the empty prompt come first.
                now = tensors["prompt_embeds"].clone()
                rows = now.shape[0] // (2 if guidance > 1 else 1)
                now[-rows:] = other.to(now)
                return {"prompt_embeds": now}

            begun = [first if switch else second] * count
            images.append(_sample(pipe, begun, steps, guidance, seed, change if switch else None))
            read = pipe.classify(list(images[-1]), among.prompts, prior=among.prior, plan=reading)
            posteriors.append(read.posterior)
    clean = convention.logsnr_range[1]
    began = [float(levels_used[switch]) if switch < calls else clean for switch in switches]
    return Switching(
        tuple(among.prompts),
        list(among.prompts).index(first),
        list(among.prompts).index(second),
        torch.tensor(switches),
        torch.tensor(began, dtype=torch.float64),
        torch.stack(posteriors),
        np.stack(images),
        convention,
        notes,
    )
