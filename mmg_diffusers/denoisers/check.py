"""Check a denoiser, and dress exact ones in foreign conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import Brief, of_type, shown, whole
from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.denoisers.levels import add_noise, part_of_range
from mmg_diffusers.denoisers.precision import widened

# The foreign side is written from the papers' own formulas, not from the library's conversion, so that a
# mistake in one is not repeated in the other. Each returns (z, logsnr) from a network's input and time.
_Reader = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


class ForeignNetwork(nn.Module):
    """An exact denoiser dressed as a network of another convention.

    Call it as such networks are called: ``network(noisy, time, **condition, present=...)``; rows with
    ``present == 0`` are unconditional.

    Args:
        oracle: the exact denoiser.
        convention: which dress; its tables are only read for discrete timesteps.
    """

    def __init__(self, oracle: Denoiser, convention: Convention) -> None:
        super().__init__()
        self.oracle, self.convention = oracle, convention

    def _read(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        convention = self.convention
        if isinstance(convention, DiscreteVP):
            row = (convention.timesteps[None] == time[:, None]).int().argmax(1)
            alpha = torch.sigmoid(convention.levels)[row]
            return noisy, torch.log(alpha / (1 - alpha))
        if isinstance(convention, Karras):
            sigma = torch.exp(4 * time.double())
            known = convention.sigma_data
            y = noisy if known is None else noisy * _column((sigma**2 + known**2).sqrt(), noisy)
            return y / _column((1 + sigma**2).sqrt(), noisy), -2 * sigma.log()
        if isinstance(convention, Interpolant):
            signal, noise = convention.signal(time.double()), convention.noise(time.double())
            return noisy / _column((signal**2 + noise**2).sqrt(), noisy), 2 * (signal / noise).log()
        assert isinstance(convention, RectifiedFlow)
        t = time.double() / convention.time_scale
        match convention.told:
            case "signal":  # Lumina (arXiv 2405.05945): t of t x + (1 - t) eps
                t = 1 - t
            case "unshifted":  # Esser et al. 2024 (arXiv 2403.03206), eq. 23: t_m of t_n, and the latent at t_m
                t = convention.shift * t / (1 + (convention.shift - 1) * t)
        return noisy / _column(((1 - t) ** 2 + t**2).sqrt(), noisy), 2 * torch.log((1 - t) / t)

    def forward(self, noisy: Tensor, time: Tensor, *, present: Tensor, **condition: Tensor) -> Tensor:
        z, logsnr = self._read(noisy, time)
        eps = torch.where(_column(present, z) > 0, self.oracle(z, logsnr, condition), self.oracle(z, logsnr, None))
        snr = logsnr.exp()
        a, s = _column((snr / (1 + snr)).sqrt(), z), _column((1 / (1 + snr)).sqrt(), z)
        x = (z - s * eps) / a
        match self.convention.prediction:
            case "epsilon":
                return eps
            case "sample":
                return x
            case "v_prediction":
                return a * eps - s * x
            case "flow_prediction":
                return eps - x
            case "reversed_flow_prediction":
                return x - eps
        data = getattr(self.convention, "sigma_data", 0.5)
        sigma = s / a
        y = x + sigma * eps
        skip = data**2 / (sigma**2 + data**2)
        raw = (x - skip * y) / (sigma * data / (sigma**2 + data**2).sqrt())
        return -raw if self.convention.prediction == "reversed_edm" else raw


def foreign(oracle: Denoiser, convention: Convention, empty: Condition) -> Adapted:
    """An oracle that is reached through a foreign convention, as pretrained networks are.

    Args:
        oracle: the exact denoiser.
        convention: the convention to speak.
        empty: one row of each condition tensor, of any value: a placeholder if no condition is present.
    """
    network = ForeignNetwork(oracle, convention)
    null = {**empty, "present": torch.zeros(1)}
    return Adapted(network, convention, null=null, dtype=torch.float64)


def present(cond: Condition) -> dict[str, Tensor]:
    """A condition for a `ForeignNetwork`: the same, marked as given."""
    return {**cond, "present": torch.ones(len(next(iter(cond.values()))))}


@dataclass(frozen=True, repr=False)
class DenoiserCheck(Brief):
    """Errors of a denoiser along its range, per dimension: E|eps - e(z)|^2 / d at `logsnr`, `(L,)` each.

    `error` is that of the marginal, not a number for a denoiser that has none; `conditional` is that of the conditional
    branch; `linear` is that of the best multiple of z (beside a constant), which no denoiser should exceed.
    """

    logsnr: Tensor
    error: Tensor
    conditional: Tensor
    linear: Tensor


# Mean squares are of this many numbers or more; of small events the variables are repeated, with noise of their own.
NUMBERS = 4096
# How far above the error of the best multiple of z an error may lie where that one sees most of the noise: a factor,
# and a sum.
SLACK, LEEWAY = 1.25, 0.03
# What a multiple of the prediction may gain over it, per dimension, beyond chance: of ideal predictions none does. The
# first where a multiple of z leaves less than a quarter of the noise.
GAIN, GAIN_BEYOND = 0.02, 0.04
# Beyond this error of the best multiple of z, the clean end, networks err by more than a wrong scale would.
HARD = 0.9
# Where a multiple of z leaves more of the noise than this, and less than HARD, a network of the right convention leaves no more.
LEARNED = 0.05
# How far from the right level an answer is asked for as well, in log-SNR, and by which share, and how many standard errors over the
# variables, it may be better than the right one's: no answer is better than that of the level itself.
OTHER_LEVELS = (-2.0, -1.0, 1.0, 2.0)
BETTER, BEYOND = 0.04, 3.0
# Nor by less than this, per dimension. Where nearly all of z is noise a network of the right level errs by ten times less, and by a share
# of that more than if it were told to tell less of x.
LITTLE = 3e-3
# An error that no level should reach, in units of the noise that was drawn; predicting 0 gives 1.
HIGHEST = 1.5


def _need(holds: bool, message: str) -> None:
    # No assert statement, which python -O leaves out.
    if not holds:
        raise AssertionError(message)


def _error(eps: Tensor, predicted: Tensor) -> float:
    return float(widened(eps - predicted).square().mean())


def error_of_each(eps: Tensor, predicted: Tensor) -> Tensor:
    """Mean squared error of each row, `(B,)` float64 on the CPU."""
    return widened(eps - predicted).square().flatten(1).mean(1).cpu()


def share_gained(errors: Tensor, others: Tensor) -> float:
    """By which share other errors of the same variables are below these, if by more than chance and `LITTLE`; 0 if they are not.

    Args:
        errors, others: `(N,)` each.
    """
    gained = errors - others
    chance = BEYOND * float(gained.std()) / len(gained) ** 0.5
    mean = float(gained.mean())
    return mean / float(errors.mean()) if mean > max(chance, LITTLE) else 0.0


def linear_error(eps: Tensor, z: Tensor) -> float:
    """Mean squared error of the best multiple of z about its mean."""
    eps, z = (widened(part - part.mean(0)).flatten() for part in (eps, z))
    return float(eps.square().mean() - (eps @ z) ** 2 / (z @ z) / len(z))


def _multiple(eps: Tensor, predicted: Tensor, variables: int) -> tuple[float, float]:
    """The multiple of a prediction that has the least mean squared error, and how much less that is, beyond three
    standard errors over the variables.
    """  # fmt: skip
    along = widened((eps - predicted) * predicted).flatten(1).sum(1).view(-1, variables).sum(0)
    energy = float(widened(predicted).square().sum())
    if energy == 0.0:
        return 1.0, 0.0
    total, chance = float(along.sum()), 3 * float(along.std()) * variables**0.5
    return 1 + total / energy, max(0.0, abs(total) - chance) ** 2 / energy / eps.numel()


@torch.inference_mode()
def check_denoiser(
    denoiser: Denoiser,
    x: Tensor,
    cond: Condition,
    *,
    seed: int = 0,
    levels: int = 9,
    logsnr_range: tuple[float, float] | None = None,
) -> DenoiserCheck:
    """Check that a denoiser means by its numbers what this library means, in both branches.

    A denoiser that says by `has_marginal` that it has no marginal is checked in its conditional branch alone.

    Args:
        denoiser: the one to check; trained, or exact.
        x: `(N, *event)` variables from the data it was trained on; 16 or more.
        cond: N rows of its condition.
        seed: names the noise.
        levels: how many noise levels are tried, between the ends of its range.
        logsnr_range: a part of its range, ``known_range(denoiser, x).logsnr_range`` for a network that hardly learned an end.

    Raises:
        AssertionError: with the branch, what is wrong and what usually causes it: shapes, types, levels that `snap`
            does not fix, answers that depend on the batch or on what was asked before, predictions that are not the
            noise (wrong sign, wrong scale, wrong time), and those that are better for another level than for their own.
            Where only the levels of one end are wrong, that they may be hardly learned.
        TypeError, ValueError: for arguments that no denoiser could be checked with.
    """
    check_denoiser_type(denoiser)
    of_type(x, Tensor, "x", "a tensor of variables, one a row")
    if x.ndim < 2 or len(x) < 16:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, *event) with 16 variables or more")
    of_type(cond, Mapping, "cond", "a condition: tensors by name, such as {'y': y}")
    for key, value in cond.items():
        if len(value) != len(x):
            raise ValueError(
                f"cond[{shown(key)}] has {len(value)} rows for {len(x)} values of x; expected one row each"
            )
    whole(levels, "levels", 2)
    low, high = part_of_range(denoiser.logsnr_range, logsnr_range)
    asked = torch.linspace(max(low, -20.0), min(high, 20.0), levels, dtype=torch.float64)
    grid = denoiser.snap(asked)
    _need(grid.dtype == torch.float64, f"snap() must return float64 levels, got {grid.dtype}")
    _need(torch.equal(denoiser.snap(grid), grid), "snap() must map its levels to themselves")
    variables, copies = len(x), -(-NUMBERS // x.numel())
    x = x.repeat(copies, *(1,) * (x.ndim - 1))
    cond = {key: value.repeat(copies, *(1,) * (value.ndim - 1)) for key, value in cond.items()}
    branches: dict[str, Condition | None] = {"conditional": cond}
    if denoiser.has_marginal:
        branches["unconditional"] = None
    generator = torch.Generator().manual_seed(whole(seed, "seed", 0))
    errors: dict[str, list[float]] = {name: [] for name in branches}
    linear: list[float] = []
    faults: dict[str, dict[int, str]] = {name: {} for name in branches}
    for place, level in enumerate(grid):
        eps = torch.randn(x.shape, generator=generator).to(x)
        z = add_noise(x, level.expand(len(x)), eps)
        linear.append(linear_error(eps, z))
        answers = {name: _answer(denoiser, z, level, condition, name) for name, condition in branches.items()}
        if None in branches.values():
            again = denoiser(z, level.expand(len(x)), None)
            _need(
                torch.allclose(again, answers["unconditional"], atol=1e-3),
                "the unconditional branch answers differently once a condition was asked for; what does it keep?",
            )
        for name, predicted in answers.items():
            errors[name].append(_error(eps, predicted))
            fault = _fault(name, float(level), eps, predicted, linear[-1], variables)
            own = error_of_each(eps, predicted).view(-1, variables).mean(0)
            # At the clean end, which small networks hardly learn, any level that tells less of the noise errs less.
            for by in OTHER_LEVELS if fault is None and linear[-1] <= HARD else ():
                there = denoiser(z, denoiser.snap(level + by).expand(len(x)), branches[name])
                gained = share_gained(own, error_of_each(eps, there).view(-1, variables).mean(0))
                if gained >= BETTER:
                    fault = (
                        f"at log-SNR {float(level):.2f} the error of the {name} branch is {gained:.0%} less if it is told one {by:+g} from "
                        "there. Is the level that the network is told another than in training?"
                    )
                    break
            if fault is not None:
                faults[name][place] = fault
    for name, found in faults.items():
        _need(not found, _summary(name, found, grid, errors[name], linear))
    unknown = [float("nan")] * len(grid)
    return DenoiserCheck(
        grid,
        torch.tensor(errors.get("unconditional", unknown)),
        torch.tensor(errors["conditional"]),
        torch.tensor(linear),
    )


def _answer(denoiser: Denoiser, z: Tensor, level: Tensor, cond: Condition | None, name: str) -> Tensor:
    """The prediction of one branch, of the right shape and type, and row by row."""
    logsnr = level.expand(len(z))
    out = denoiser(z, logsnr, cond)
    _need(
        out.shape == z.shape,
        f"the {name} branch returned {tuple(out.shape)} for z of shape {tuple(z.shape)}; expected the noise in z",
    )
    _need(
        out.dtype == torch.promote_types(z.dtype, torch.float32),
        f"the {name} branch returned {out.dtype} for z of {z.dtype}; expected float32, or the type of z if that is wider",
    )
    _need(bool(out.isfinite().all()), f"the {name} branch returned NaN or infinity at log-SNR {float(level):.2f}")
    alone = denoiser(z[:1], logsnr[:1], None if cond is None else {key: value[:1] for key, value in cond.items()})
    _need(
        torch.allclose(alone, out[:1], atol=1e-3),
        f"a row's answer of the {name} branch depends on the rest of its batch",
    )
    return out


def _fault(name: str, level: float, eps: Tensor, predicted: Tensor, linear: float, variables: int) -> str | None:
    """What is wrong with a prediction that is not the noise."""
    error, drawn = _error(eps, predicted), float(widened(eps).square().mean())
    at = f"at log-SNR {level:.2f} the error of the {name} branch is {error:.3f} per dimension"
    if linear < 0.5 and not error < SLACK * linear + LEEWAY:
        return (
            f"{at}; a multiple of z itself has {linear:.3f}. Is the prediction's sign or type wrong, or time reversed?"
        )
    if not error < HIGHEST * drawn:
        return f"{at}; predicting 0 gives 1. Is the level in the unit that the network expects, and the input scaled as in training?"
    if linear < HARD:
        multiple, gain = _multiple(eps, predicted, variables)
        if not gain < (GAIN if linear < 0.25 else GAIN_BEYOND):
            return (
                f"{at}, and {gain:.3f} less for {multiple:.2f} times the prediction. Is the scale of the prediction, or the level that "
                "the network is told, another than in training?"
            )
    return None


def _summary(name: str, faults: Mapping[int, str], grid: Tensor, errors: list[float], linear: list[float]) -> str:
    """What to say of a branch with faults at some places of the grid: of an end alone, first that it may be hardly learned."""
    if not faults:
        return ""
    count, places, first = len(grid), list(faults), next(iter(faults.values()))
    ends = {"noisy": list(range(len(places))), "clean": list(range(count - len(places), count))}
    end = next((end for end, those in ends.items() if places == those), None)
    # A wrong sign, type or time would show where a multiple of z leaves some of the noise, but not nearly all.
    fair = [k for k in range(count) if k not in faults and LEARNED < linear[k] < HARD]
    told = bool(fair) and all(errors[k] < linear[k] + LEEWAY for k in fair)
    if end is None or not told:
        return first
    return (
        f"the {name} branch is wrong at the {end} end alone, log-SNR {float(grid[places[0]]):.2f} to {float(grid[places[-1]]):.2f} ({len(places)} of "
        f"{count} levels), and right at others: it hardly learned this end, most likely. Measure over "
        "known_range(denoiser, x).logsnr_range, with cond if labels are compared, and check it there, check_denoiser(..., logsnr_range=). If it was "
        f"trained there: {first}"
    )
