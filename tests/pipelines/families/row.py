"""What a row of the table says of a family, in its own words and not in the library's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """A family, or a variant of one, as its own pipeline runs it.

    Args:
        name: of the row.
        build: makes the pipeline in memory, tiny and random, the same each time (`parts.ready`).
        level: the log-SNR at which the network is, from (pipe, what it is told), float64: `vp`, `flow`, ...
        prediction: what the network returns: epsilon, sample, v, flow (eps - x), -flow, or edm (F of Karras et al. 2022).
        call: options of ``pipe(prompts, ...)`` beside prompts, steps, size and guidance; ``...`` takes one of
            these away.
        guidance: the name of the option of ``pipe(...)`` that turns guidance on.
        branches: what the rows of a call are: null and prompt ("uc"), prompt and null ("cu"), or two calls ("c,u").
        combine: the pipeline's guided output from (prompt's, null's, g).
        network: the component that denoises.
        second: another one that denoises some of the levels.
        time: the network's argument that tells the level.
        each: from that argument, with a time for every token, the time of each row.
        null: as `MMGPipeline` takes it.
        prompts: two, the second longer.
        asked: from a prompt as we take it, as the pipeline takes it.
        sign: -1 if the pipeline turns the network's output before the scheduler gets it.
        learned_variance: whether the second half of the network's channels is a variance.
        event: a tensor as the network or the scheduler has it, from (pipe, it), as `(B, *event)`.
        packed: the inverse, from (pipe, event), as the network has it.
        axes: arguments of the network whose rows are not on axis 0.
        ignore: arguments in which null and prompt differ by design (said in the family's docstring).
        asked: from (pipe, prompts) what ``pipe(...)`` takes for prompts.
        size: height and width in pixels; the model's own by default.
        frames: of a video; ``None`` for images.
        filled: arguments that are filled up to some length, with the mask that tells what was: compared where that is not 0.
        zero_filled: arguments that the pipeline fills up with zeros to the prompt's length (axis 1) in the null, where we do not:
            the network must answer alike.
        steps: of the pipeline's run.
        images: from (pipe, images or videos `(N, F, 3, H, W)` in [-1, 1]) the unscaled latents, if the VAE is no ordinary one.
    """

    name: str
    build: Callable[[], Any]
    level: Callable[[Any, Tensor], Tensor]
    prediction: Literal["epsilon", "sample", "v", "flow", "-flow", "edm"]
    call: Mapping[str, Any] = field(default_factory=dict)
    guidance: str = "guidance_scale"
    branches: Literal["uc", "cu", "c,u"] = "uc"
    combine: Callable[[Tensor, Tensor, float], Tensor] = lambda c, u, g: u + g * (c - u)
    network: str = "transformer"
    second: str | None = None
    time: str = "timestep"
    each: Callable[[Tensor], Tensor] = lambda told: told
    null: str | None = None
    prompts: tuple[Any, Any] = ("a red dot", "a large blue square, far off")
    asked: Callable[[Any], Any] = lambda prompt: prompt
    sign: int = 1
    learned_variance: bool = False
    event: Callable[[Any, Tensor], Tensor] = lambda pipe, x: x
    packed: Callable[[Any, Tensor], Any] = lambda pipe, x: x
    axes: Mapping[str, int] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    zero_filled: tuple[str, ...] = ()
    images: Callable[[Any, Tensor], Tensor] | None = None
    asked: Callable[[Any, tuple], list] = lambda pipe, prompts: list(prompts)
    size: tuple[int, int] | None = None
    frames: int | None = None
    filled: Mapping[str, str] = field(default_factory=dict)
    steps: int = 3


# ---- levels, from the papers ----


def vp(pipe, told):
    """Log-SNR of an index into a table of betas (Ho et al. 2020, eq. 4)."""
    config = pipe.scheduler.config
    start, end, steps = config.beta_start, config.beta_end, config.num_train_timesteps
    if config.beta_schedule == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, steps, dtype=np.float64) ** 2
    elif config.beta_schedule == "linear":
        betas = np.linspace(start, end, steps, dtype=np.float64)
    else:
        at = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - at[1:] / at[:-1], 0.999)
    alphas = np.cumprod(1 - betas)
    return torch.from_numpy(np.log(alphas / (1 - alphas)))[told.long()]


def flow(scale, signal=False):
    """Log-SNR of (1 - s) x + s eps (Liu et al. 2022), where ``scale s`` is told, or ``scale (1 - s)``."""

    def level(pipe, told):
        share = told.double() / scale
        return 2 * torch.log(share / (1 - share)) if signal else 2 * torch.log((1 - share) / share)

    return level


def ln_sigma(pipe, told):
    """Log-SNR of x + sigma eps, where ``ln(sigma) / 4`` is told (Karras et al. 2022, table 1)."""
    return -8 * told.double()


def scale(prediction, signal, noise):
    """What a network is given of the noisy image at unit variance, from its (variance-preserving) scales."""
    if "flow" in prediction:
        # (1 - s) x + s eps, that is divided by the sum of the scales.
        return 1 / (signal + noise)
    if prediction == "edm":
        # x + sigma eps, at unit variance for data of standard deviation 1/2.
        return 1 / (noise**2 + 0.25 * signal**2) ** 0.5
    return torch.ones_like(signal)
