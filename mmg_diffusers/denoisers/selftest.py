"""Whether a network does what its configs say: its errors on data, and what mends them if they are wrong.

`check_denoiser` raises for what is wrong. This looks for the mistake: it tries the usual ones the other way round, and names the one
that makes a denoiser of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, of_type, shown, whole
from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser, check_denoiser_type, condition_rows
from mmg_diffusers.denoisers.check import (
    BETTER,
    BEYOND,
    LEEWAY,
    OTHER_LEVELS,
    SLACK,
    error_of_each,
    linear_error,
    share_gained,
)
from mmg_diffusers.denoisers.conventions import Coefficients
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.levels import add_noise, signal_and_noise
from mmg_diffusers.denoisers.precision import onto, widened
from mmg_diffusers.denoisers.predictions import PREDICTIONS, TARGETS

# A network that was trained leaves, at some level, less than this share of the error of the best multiple of z.
LEARNED = 0.8
# Levels that are looked at lie within this range: beyond it all errors are near 0, or near 1.
LOOKED_AT = (-6.0, 5.0)
# Factors by which a variable may have been scaled wrongly.
SCALES = (0.2, 0.5, 2.0, 5.0)

Verdict = Literal["passed", "failed", "cannot tell"]


@dataclass(frozen=True, repr=False)
class SelfTest(Brief):
    """What a network's errors say of the way in which it is used.

    Args:
        logsnr: `(L,)`, rising.
        errors: mean squared errors per dimension, `(L,)` each: "conditional", "unconditional", and "another's", that of the condition
            of another variable; those that there are.
        linear: `(L,)` error of the best multiple of z.
        verdict: whether the network was found to be used as it was trained; one that seems not to be trained cannot tell.
        findings: what is wrong, or why nothing can be told, in sentences.
        remarks: what a reader should know beside.
    """

    logsnr: Tensor
    errors: Mapping[str, Tensor]
    linear: Tensor
    verdict: Verdict
    findings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Probe:
    """The same noise of the same variables at the same levels, for a denoiser or one that is used otherwise."""

    denoiser: Denoiser
    x: Tensor
    levels: Tensor
    seed: int
    batch_size: int | None
    kept: dict[str, Tensor] = field(default_factory=dict)

    def noisy(self, scale: float = 1.0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Level `()`, noise and z, on the device."""
        generator = torch.Generator().manual_seed(self.seed)
        device = device_of(self.denoiser, self.x)
        for level in self.levels:
            eps = onto(torch.randn(self.x.shape, generator=generator).to(self.x.dtype), device)
            yield level, eps, add_noise(scale * onto(self.x, device), level.expand(len(self.x)), eps)

    def linear(self, scale: float = 1.0) -> Tensor:
        """`(L,)` errors of the best multiples of z."""
        return torch.tensor([linear_error(eps, z) for _, eps, z in self.noisy(scale)], dtype=torch.float64)

    def errors(
        self,
        cond: Condition | None,
        *,
        denoiser: Denoiser | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
        read: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """`(N, L)` squared errors per dimension.

        Args:
            cond: N rows, or none.
            denoiser: in place of the one that is tested.
            scale: of the variables.
            offset: how far the level that the denoiser is given lies from the right one, in log-SNR.
            read: what is made of (prediction, z, level `(N,)`).
        """
        asked = self.denoiser if denoiser is None else denoiser
        device = device_of(self.denoiser, self.x)
        forwards = Forwards(asked, self.x.shape[1:], device, self.batch_size)
        rows = None if cond is None else {name: onto(value, device) for name, value in cond.items()}
        columns: list[Tensor] = []
        for level, eps, z in self.noisy(scale):
            at = asked.snap(level + offset).expand(len(z))
            if read is None:
                predicted = forwards(z, at, rows)
            else:  # of a prediction that was made before
                name = f"{float(level)}"
                predicted = self.kept[name] if name in self.kept else self.kept.setdefault(name, forwards(z, at, rows))
            columns.append(error_of_each(eps, predicted if read is None else read(predicted, z, at)))
        return torch.stack(columns, 1)


@torch.inference_mode()
def self_test(
    denoiser: Denoiser,
    x: Tensor,
    cond: Condition | None,
    *,
    seed: int = 0,
    levels: int = 6,
    batch_size: int | None = None,
) -> SelfTest:
    """Find out whether a network is used as it was trained: the sign and kind of its prediction, its time, the scale of its variable.

    A network that was trained tells more of the noise than any multiple of z does; one that does not was not trained, or is used
    wrongly. Then the usual mistakes are undone one by one, and the one that makes it tell more is named. Finer ones, a time that is off by
    a step or a scale that is off by a hundredth, change its errors by too little to be seen.

    Args:
        denoiser: the network, with its convention.
        x: `(N, *event)` variables of the data that it was trained on; 8 or more.
        cond: N rows of its condition; none for an unconditional network.
        seed: names the noise.
        levels: how many are looked at.
        batch_size: rows per forward pass.

    Raises:
        TypeError, ValueError: for arguments that no denoiser could be tested with.
    """
    check_denoiser_type(denoiser)
    of_type(x, Tensor, "x", "a tensor of variables, one a row")
    if x.ndim < 2 or len(x) < 8:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, *event) with 8 variables or more")
    for name, value in (cond or {}).items():
        if len(value) != len(x):
            raise ValueError(
                f"cond[{shown(name)}] has {len(value)} rows for {len(x)} values of x; expected one row each"
            )
    if cond is None and not denoiser.has_marginal:
        raise ValueError("the denoiser has no unconditional branch, and no condition was given; give N rows of one")
    low, high = denoiser.logsnr_range
    looked_at = torch.linspace(
        max(low, LOOKED_AT[0]), min(high, LOOKED_AT[1]), whole(levels, "levels", 3), dtype=torch.float64
    )
    probe = _Probe(denoiser, x, denoiser.snap(looked_at).unique(), whole(seed, "seed", 0), batch_size)
    linear = probe.linear()
    each = {} if cond is None else {"conditional": probe.errors(cond)}
    if denoiser.has_marginal:
        each["unconditional"] = probe.errors(None)
    if cond is not None and len(x) > 1:
        each["another's"] = probe.errors(condition_rows(cond, torch.arange(len(x)).roll(1)))
    main = "unconditional" if cond is None else "conditional"
    verdict, findings = _judge(probe, each[main], linear, cond)
    # What no trained network says of itself is no news of its prompts.
    remarks = () if verdict != "passed" else tuple(_of_prompts(each))
    errors = {name: values.mean(0) for name, values in each.items()}
    return SelfTest(probe.levels, errors, linear, verdict, findings, (*remarks, *_of_scale(x)))


def _share(errors: Tensor, linear: Tensor) -> float:
    """The least share of the error of the best multiple of z that is left at a level; not a number counts as no share."""
    left = (errors.mean(0) / linear)[linear > 1e-3]
    return float(left.nan_to_num(torch.inf, torch.inf).min()) if len(left) else torch.inf


def _judge(probe: _Probe, errors: Tensor, linear: Tensor, cond: Condition | None) -> tuple[Verdict, tuple[str, ...]]:
    if not bool(errors.isfinite().all()):
        return "failed", ("the network returned NaN or infinity; load it with a wider dtype",)
    seen = linear < 0.5
    above = bool((errors.mean(0)[seen] > SLACK * linear[seen] + LEEWAY).any())
    share = _share(errors, linear)
    if share < LEARNED and not above:
        off = _level_off(probe, errors, cond)
        if off is None:
            return "passed", ()
        _, mended = _mended(probe, cond, linear, share)
        why = "its time, or the scale of its variable, is another than in training"
        return "failed", (f"{off}: {why}" if mended is None else f"{off}, and it tells most if {mended}",)
    least, mended = _mended(probe, cond, linear, share)
    at = f"the network leaves {share:.2f} of the error of the best multiple of z, at best"
    if above:
        place = int((errors.mean(0) - SLACK * linear).where(seen, -torch.inf).argmax())
        at = (
            f"at log-SNR {float(probe.levels[place]):.2f} the error is {float(errors.mean(0)[place]):.3f} per dimension, where a "
            f"multiple of z has {float(linear[place]):.3f}"
        )
    if mended is not None:
        return "failed", (f"{at}; {least:.2f} of it is left if {mended}",)
    if share < LEARNED:
        return "failed", (f"{at}, and no usual mistake explains it",)
    return "cannot tell", (
        f"{at}: it was not trained, or not on such data, or is used wrongly in a way that is none of the usual ones. Nothing can be told "
        "from an untrained network, whose errors are the same whatever it means by its numbers",
    )


def _mended(probe: _Probe, cond: Condition | None, linear: Tensor, share: float) -> tuple[float, str | None]:
    """The repair that leaves the least share of a multiple's error, in words; none if none leaves clearly less than `share`."""
    least, mended = 1.0, None
    for words, repaired, reference in _repairs(probe, cond, linear):
        left, seen = _share(repaired, reference), reference < 0.5
        # Mended is what tells more than a multiple of z at one level, and nowhere far less.
        fits = bool((repaired.mean(0)[seen] <= SLACK * reference[seen] + LEEWAY).all())
        if left < min(LEARNED, 0.9 * share, least) and fits:
            least, mended = left, words
    return least, mended


def _level_off(probe: _Probe, errors: Tensor, cond: Condition | None) -> str | None:
    """A level at which errors are less for another than for itself."""
    most, finding = BETTER, None
    for by in OTHER_LEVELS:
        others = probe.errors(cond, offset=by)
        for place, level in enumerate(probe.levels.tolist()):
            gained = share_gained(errors[:, place], others[:, place])
            if gained > most:
                most = gained
                finding = f"at log-SNR {level:.2f} the error is {gained:.0%} less if the network is told one {by:+g} from there"
    return finding


def _repairs(probe: _Probe, cond: Condition | None, linear: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The usual mistakes undone, in words, with the errors `(N, L)` then and those of a multiple of z."""
    denoiser = probe.denoiser
    if isinstance(denoiser, Adapted):
        convention = denoiser.convention

        def raw(predicted: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
            skip, out, _, _ = (_wide(part, z) for part in convention.coefficients(logsnr))
            return (predicted - skip * z) / out

        def turned(predicted: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
            skip, out, _, _ = (_wide(part, z) for part in convention.coefficients(logsnr))
            return skip * z - out * raw(predicted, z, logsnr)

        yield "its prediction's sign is turned", probe.errors(cond, read=turned), linear
        for name in PREDICTIONS:
            if name.endswith("edm"):
                continue

            def as_another(predicted: Tensor, z: Tensor, logsnr: Tensor, name: str = name) -> Tensor:
                p, q = PREDICTIONS[name](*signal_and_noise(logsnr.double()))
                a, s = signal_and_noise(logsnr.double())
                scale = a * q - s * p
                return _wide(-p / scale, z) * z + _wide(a / scale, z) * raw(predicted, z, logsnr)

            yield f"its prediction is read as {name} ({TARGETS[name]})", probe.errors(cond, read=as_another), linear
        reversed_time = copy.copy(denoiser)
        reversed_time.convention = _Reversed(convention, denoiser.logsnr_range)  # type: ignore[assignment]
        yield "its time runs the other way", probe.errors(cond, denoiser=reversed_time), linear
    for by in OTHER_LEVELS:
        yield f"it is told a log-SNR {by:+g} from the right one", probe.errors(cond, offset=by), linear
    for scale in SCALES:
        words = f"its variable is {'multiplied by' if scale > 1 else 'divided by'} {max(scale, 1 / scale):g}"
        yield words, probe.errors(cond, scale=scale), probe.linear(scale)


def _wide(level: Tensor, like: Tensor) -> Tensor:
    return level.to(like).view(-1, *(1,) * (like.ndim - 1))


class _Reversed:
    """A convention whose time runs the other way."""

    def __init__(self, convention: Any, ends: tuple[float, float]) -> None:
        self._convention = convention
        self._sum = convention.coefficients(torch.tensor(ends, dtype=torch.float64)).c_noise.sum()

    def coefficients(self, logsnr: Tensor) -> Coefficients:
        plain = self._convention.coefficients(logsnr)
        return plain._replace(c_noise=(self._sum.to(plain.c_noise.device) - plain.c_noise).to(plain.c_noise.dtype))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._convention, name)


def _of_prompts(each: Mapping[str, Tensor]) -> Iterator[str]:
    """What the branches say of each other: a condition should help, and none should do better than another's."""
    if "another's" not in each:
        return
    other = each["another's"].mean(1)
    if _apart(other, each["conditional"].mean(1)) < BEYOND:
        yield "a condition is no better than another variable's: the network heeds none, or they are too much alike to tell"
    elif "unconditional" in each and _apart(other, each["unconditional"].mean(1)) < 2:
        yield (
            "no condition is no better than another variable's, by as much as these data tell: is what stands for none what the network "
            "was trained with?"
        )


def _apart(errors: Tensor, others: Tensor) -> float:
    """By how many standard errors over the variables others are below these."""
    gained = errors - others
    return float(gained.mean() / (gained.std() / len(gained) ** 0.5).clamp(min=1e-12))


def _of_scale(x: Tensor) -> Iterator[str]:
    deviation = float(widened(x).std())
    if not 0.2 < deviation < 5:
        yield f"the variable has a standard deviation of {deviation:.3g}; most networks are trained at about 1"
