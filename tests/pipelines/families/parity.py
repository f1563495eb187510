"""A family held against its own pipeline: what that tells its network, and what it makes of the answer."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.pipelines.families.row import Row, scale

GUIDANCE = 3.0


# ---- what a network is given ----


def flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of an argument by dotted names; lists, which stand for rows, are leaves."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from flatten(each, f"{name}.{key}")
    elif isinstance(value, tuple):
        for place, each in enumerate(value):
            yield from flatten(each, f"{name}.{place}")
    elif value is not None:
        yield name, value


@dataclass
class Call:
    """One call of a network: what it was given by name, without what is None or a default, what it returned, and which it was."""

    given: dict[str, Any]
    raw: Tensor | None = None
    network: torch.nn.Module | None = None


def returned(out: Any) -> Tensor:
    """The tensor of a network's output; lists are stacked."""
    out = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
    return torch.stack(list(out)) if isinstance(out, list) else out


@contextmanager
def listening(*networks: torch.nn.Module) -> Iterator[list[Call]]:
    """Every call of a network, or of several of one class."""
    signature = inspect.signature(type(networks[0]).forward)
    calls: list[Call] = []

    def before(module, args, kwargs):
        bound = signature.bind(module, *args, **kwargs).arguments
        bound.pop("self")
        bound.pop("return_dict", None)
        given = dict(leaf for name, value in bound.items() for leaf in flatten(value, name))
        defaults = {name: each.default for name, each in signature.parameters.items()}
        kept = {k: v for k, v in given.items() if isinstance(v, (Tensor, list)) or v != defaults.get(k)}
        calls.append(Call(kept, network=module))

    def after(module, args, out):
        calls[-1].raw = returned(out).detach()

    hooks = [network.register_forward_pre_hook(before, with_kwargs=True) for network in networks]
    hooks += [network.register_forward_hook(after) for network in networks]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def rows_of(row: Row, call: Call, part: slice, count: int) -> Call:
    """Some of the rows of a call of `count`; what has no rows stays whole."""

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return value[part] if len(value) == count else value
        axis = row.axes.get(name, 0)
        if isinstance(value, Tensor) and value.ndim > axis and value.shape[axis] == count:
            return value.narrow(axis, part.start, part.stop - part.start)
        return value

    given = {name: cut(name, value) for name, value in call.given.items()}
    return Call(given, None if call.raw is None else call.raw[part], call.network)


# ---- a run of the pipeline itself ----


@dataclass
class Moment:
    """One step of a run: what the network was given and returned in both branches, and what the scheduler made of it.

    `x` is the network's noisy input `(B, *event)`, `logsnr` its level by the row, `reading` the scheduler's own eps of a raw output.
    """

    row: Row
    prompts: tuple[Any, ...]
    x: Tensor
    logsnr: Tensor
    prompt: Call
    null: Call
    reading: Callable[[Tensor], Tensor]

    @property
    def told(self) -> Tensor:
        return self.row.each(torch.as_tensor(self.prompt.given[self.row.time])).double().expand(len(self.x))


@dataclass
class Run:
    """A run of the pipeline: its moments, its last latents as events, and what it gave the VAE's decoder."""

    moments: list[Moment]
    latents: Tensor
    decoded: Tensor | None


def run_pipeline(row: Row, pipe: Any, prompts: tuple[Any, ...], size: tuple[int, int]) -> Run:
    """Run a pipeline with guidance, and check that what was recorded explains what its scheduler was given."""
    scheduler = pipe.scheduler
    steps: list[tuple[Any, Tensor, Any, Tensor]] = []
    ends: dict[str, Tensor] = {}
    kind = type(scheduler)

    def step(output, t, sample, *args, **kwargs):
        steps.append((copy.deepcopy(scheduler), output.clone(), t, sample.clone()))
        out = kind.step(scheduler, output, t, sample, *args, **kwargs)
        ends["latents"] = out[0] if isinstance(out, tuple) else out.prev_sample
        return out

    def set_timesteps(*args, **kwargs):
        kind.set_timesteps(scheduler, *args, **kwargs)
        if scheduler.config.get("use_flow_sigmas"):
            # These tell whole numbers; let the latent be at the level that is told.
            told = scheduler.timesteps.float() / scheduler.config.num_train_timesteps
            scheduler.sigmas[: len(told)] = told

    # `inspect` looks at what these take.
    step.__signature__ = inspect.signature(scheduler.step)  # type: ignore[attr-defined]
    set_timesteps.__signature__ = inspect.signature(scheduler.set_timesteps)  # type: ignore[attr-defined]
    vae = getattr(pipe, "vae", None) or getattr(pipe, "movq", None)
    decode = None if vae is None else vae.decode

    def decoding(latents, *args, **kwargs):
        ends["decoded"] = latents.clone()
        return decode(latents, *args, **kwargs)

    options = {"height": size[0], "width": size[1], "output_type": "pt", row.guidance: GUIDANCE, **row.call}
    options = {key: value for key, value in options.items() if value is not ...}
    with listening(*networks_of(row, pipe)) as calls:
        scheduler.step, scheduler.set_timesteps = step, set_timesteps
        if vae is not None:
            vae.decode = decoding
        try:
            pipe(
                row.asked(pipe, prompts),
                num_inference_steps=row.steps,
                generator=torch.Generator().manual_seed(1),
                **options,
            )
        finally:
            del scheduler.step, scheduler.set_timesteps
            if vae is not None:
                del vae.decode
    moments = [moment(row, pipe, prompts, *parts) for parts in zip(branches(row, calls), steps, strict=True)]
    latents = row.event(pipe, ends["latents"])[: len(prompts)]
    return Run(moments, latents, ends.get("decoded"))


def networks_of(row: Row, pipe: Any) -> list[torch.nn.Module]:
    """The components that denoise."""
    return [getattr(pipe, name) for name in (row.network, row.second) if name is not None]


def branches(row: Row, calls: list[Call]) -> list[tuple[Call, Call]]:
    """(prompt's, null's) of every step."""
    if row.branches == "c,u":
        return list(zip(calls[::2], calls[1::2], strict=True))
    parts = []
    for call in calls:
        assert call.raw is not None
        count = len(call.raw)
        first, second = (rows_of(row, call, part, count) for part in (slice(0, count // 2), slice(count // 2, count)))
        parts.append((first, second) if row.branches == "cu" else (second, first))
    return parts


def moment(row: Row, pipe: Any, prompts: tuple[Any, ...], calls: tuple[Call, Call], taken: tuple) -> Moment:
    prompt, null = calls
    scheduler, output, t, sample = taken
    assert prompt.raw is not None
    assert null.raw is not None
    count = len(prompts)
    # The row proves itself: the guided output, made of what was recorded, is what the scheduler got.
    c, u = (row.sign * narrowed(row, raw) for raw in (prompt.raw, null.raw))
    got = output[:count]
    guided = row.combine(c, u, GUIDANCE)
    torch.testing.assert_close(narrowed(row, got) if got.shape != guided.shape else got, guided, rtol=1e-5, atol=1e-5)
    x = prompt.given[next(iter(prompt.given))]
    x = row.event(pipe, torch.stack(x) if isinstance(x, list) else x)
    told = row.each(torch.as_tensor(prompt.given[row.time]))
    logsnr = row.level(pipe, told).double().expand(count)
    signal, noise = scales(scheduler, t)
    # The row's level is where the scheduler has the latent.
    torch.testing.assert_close(
        torch.sigmoid(-logsnr / 2)[0], noise / (signal + noise), rtol=0, atol=1e-4, check_dtype=False
    )
    sample = sample[:count]

    def reading(raw: Tensor) -> Tensor:
        whole = raw if scheduler.config.get("variance_type") in ("learned", "learned_range") else narrowed(row, raw)
        # Some networks know of a frame that the scheduler does not.
        whole = whole.reshape(sample.shape) if whole.numel() == sample.numel() else whole
        clean = clean_of(copy.deepcopy(scheduler), row.sign * whole, t, sample)
        return row.event(pipe, (sample - signal * clean) / noise)

    return Moment(row, prompts, x, logsnr, prompt, null, reading)


def narrowed(row: Row, raw: Tensor) -> Tensor:
    return raw.chunk(2, dim=1)[0] if row.learned_variance else raw


def index_of(scheduler: Any, t: Any) -> int:
    return int((scheduler.timesteps == t).nonzero()[0])


def scales(scheduler: Any, t: Any) -> tuple[Tensor, Tensor]:
    """Signal and noise of the latent that a scheduler of diffusers is given at a timestep, from its own state."""
    name = type(scheduler).__name__
    if not hasattr(scheduler, "sigmas"):
        alpha = scheduler.alphas_cumprod[int(t)].double()
        return alpha.sqrt(), (1 - alpha).sqrt()
    sigma = scheduler.sigmas[index_of(scheduler, t)].double()
    if name.startswith("FlowMatch") or scheduler.config.get("use_flow_sigmas"):
        return 1 - sigma, sigma
    if hasattr(scheduler, "convert_model_output") and not name.startswith("EDM"):
        return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    return torch.ones_like(sigma), sigma


def clean_of(scheduler: Any, raw: Tensor, t: Any, sample: Tensor) -> Tensor:
    """The scheduler's own x of a raw output."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        sigma = scheduler.sigmas[index_of(scheduler, t)]
        moved = type(scheduler).step(scheduler, raw, t, sample, return_dict=False)[0]
        velocity = (moved - sample) / (scheduler.sigmas[index_of(scheduler, t) + 1] - sigma)
        return sample - sigma * velocity
    if hasattr(scheduler, "convert_model_output"):
        if scheduler.step_index is None:
            scheduler._init_step_index(t)
        return scheduler.convert_model_output(raw, sample=sample)
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True
    return type(scheduler).step(scheduler, raw, t, sample).pred_original_sample


def runs(row: Row, pipe: Any, size: tuple[int, int]) -> list[Run]:
    """A run of the pipeline for each prompt: two at once round differently, and some pad prompts to each other."""
    return [run_pipeline(row, pipe, (prompt,), size) for prompt in row.prompts]


# ---- ours against it ----


def same_value(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(same_value(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and bool((one.to(other) == other).all())
    return one == other


def same_given(row: Row, ours: Call, theirs: Call, count: int, branch: str) -> None:
    """Raise an AssertionError unless a network was given the same, bit for bit.

    What was encoded at another length, which moves the last bits of float32, is held to these.
    """
    skip = row.ignore if branch == "null" else ()
    assert ours.network is theirs.network, f"{branch}: another network was called"
    assert ours.given.keys() == theirs.given.keys(), f"{branch}: {sorted(ours.given)} and not {sorted(theirs.given)}"
    for name, value in theirs.given.items():
        mine = ours.given[name]
        if name == row.time:
            mine, value = (torch.as_tensor(each).float() for each in (mine, value))
            mine, value = (each if each.ndim > 1 else each.expand(count) for each in (mine, value))
        if name in row.filled and mine.shape != value.shape:
            mask = row.filled[name]
            mine, value = (each[call.given[mask] != 0] for each, call in ((mine, ours), (value, theirs)))
            torch.testing.assert_close(mine, value, rtol=1e-5, atol=1e-5)
            continue
        if branch == "null" and name in row.zero_filled:
            length = mine.shape[1]
            assert not value[:, length:].any(), f"null: {name} is not filled up with zeros"
            value = value[:, :length]
        assert name in skip or same_value(mine, value), f"{branch}: {name} is {mine} and not {value}"


@torch.no_grad()
def hold(moment: Moment, denoiser: Any, condition: dict[str, Tensor], *networks: torch.nn.Module) -> None:
    """Raise an AssertionError unless a denoiser of ours does at this moment what the pipeline did."""
    row, count = moment.row, len(moment.x)
    # What a row's level says of the network's input.
    whole = scale(row.prediction, *(torch.sigmoid(sign * moment.logsnr).sqrt() for sign in (1, -1)))
    z = moment.x.double() / whole.view(-1, *(1,) * (moment.x.ndim - 1))
    for branch, theirs, cond in (("prompt", moment.prompt, condition), ("null", moment.null, None)):
        with listening(*networks) as calls:
            eps = denoiser(z, moment.logsnr, cond)
        (ours,) = calls
        same_given(row, ours, theirs, count, branch)
        raw = theirs.raw
        if branch == "null" and row.ignore:
            raw = ours.raw
        assert raw is not None
        # The scheduler gives x, in float32; at the clean end the noise is what is left when x is taken off.
        atol = 5e-5 + 5e-6 / float(torch.sigmoid(-moment.logsnr).sqrt().min())
        torch.testing.assert_close(eps.float(), moment.reading(raw).float(), rtol=1e-3, atol=atol)


def later(told: Tensor) -> Tensor:
    return told * 1.001 if told.is_floating_point() else told + 1


class Changed:
    """A convention whose coefficients are changed."""

    def __init__(self, convention: Any, change: Callable[[Any], Any]) -> None:
        self.convention, self.change = convention, change

    def coefficients(self, logsnr: Tensor) -> Any:
        return self.change(self.convention.coefficients(logsnr))


BREAKS: dict[str, Callable[[Any], Any]] = {
    "time": lambda c: Changed(c, lambda k: k._replace(c_noise=later(k.c_noise))),
    "sign": lambda c: Changed(c, lambda k: k._replace(c_out=-k.c_out)),
    "scale": lambda c: Changed(c, lambda k: k._replace(c_in=k.c_in * 1.001)),
}
"""Ways to break a convention, each of which the parity test must catch."""


def broken(denoiser: Any, way: str, condition: dict[str, Tensor]) -> Any:
    """A denoiser that is wrong in one way; its network is the same."""
    other = copy.copy(denoiser)
    if way == "null":
        other.null = {name: value[:1] for name, value in condition.items()}
    else:
        other.convention = BREAKS[way](denoiser.convention)
    return other


def latents_by_pipeline(row: Row, pipe: Any, run: Run, images: Tensor) -> Tensor:
    """Latents of images in [0, 1], scaled as the pipeline's own decoding undoes it, channel by channel."""
    images = 2 * images - 1
    if run.decoded is None:
        return images.double()
    vae = getattr(pipe, "vae", None) or pipe.movq
    if row.images is not None:
        clean = row.images(pipe, images)
    else:
        encoded = vae.encode(images)
        clean = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
    decoded = run.decoded.reshape(run.latents.shape).double()
    latents = run.latents.double()
    scaled = torch.empty_like(clean, dtype=torch.float64)
    for channel in range(clean.shape[1]):
        a, b = decoded[:, channel].flatten(), latents[:, channel].flatten()
        slope = ((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()
        scaled[:, channel] = (clean[:, channel].double() - a.mean()) * slope + b.mean()
        # It is a shift and a factor: the last digits of float32 remain.
        assert float(((a - a.mean()) * slope + b.mean() - b).abs().max()) < 1e-4 * float(b.abs().max())
    return scaled


def model_of(row: Row, pipe: Any) -> Any:
    """Our model of the row's pipeline, without a bar."""
    from mmg_diffusers import MMGPipeline

    model = MMGPipeline(pipe, null=row.null)
    model.set_progress_bar_config(disable=True)
    return model
