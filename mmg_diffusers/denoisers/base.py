"""One interface to every denoiser: noisy z and its log-SNR in, a prediction of the noise out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import of_type
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.denoisers.precision import onto

Condition = Mapping[str, Tensor]
"""What a denoiser is conditioned on: batch-first tensors, keyed as the network's own keyword arguments."""


def condition_rows(cond: Condition, index: Tensor) -> dict[str, Tensor]:
    """The rows `index` of every tensor of a condition."""
    return {key: value[index.to(value.device)] for key, value in cond.items()}


def same_rows(one: Condition | None, other: Condition | None) -> Tensor | bool:
    """Which rows of two conditions are equal: `(B,)` booleans, or one for all."""
    if one is None or other is None:
        return one is other
    if one.keys() != other.keys() or any(one[key].shape != other[key].shape for key in one):
        return False
    equal = [(one[key] == other[key].to(one[key].device)).reshape(len(one[key]), -1).all(1) for key in one]
    return torch.stack(equal).all(0)


class Denoiser(nn.Module, ABC):
    """Predicts the noise in z at a given log-SNR, with a condition or without.

    Only `forward` has to be written. `logsnr_range` is the range of levels that the network was trained on;
    `notes` are remarks that belong into every result. `closed_form` says that no network is behind it whose rows are
    counted, `compares` what its two branches are: a model with a condition and without, two models, or a model and a
    Gaussian.
    """

    logsnr_range: tuple[float, float]
    notes: tuple[str, ...] = ()
    closed_form: bool = False
    compares: Literal["conditions", "models", "reference"] = "conditions"

    @abstractmethod
    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        """Predict eps.

        Args:
            z: `(B, *event)` noisy variable, ``a x + s eps`` (see `mmg_diffusers.denoisers.conventions`).
            logsnr: `(B,)` float64, values that `snap` returned.
            cond: batch-first tensors; ``None`` asks for the marginal denoiser E[eps | z].

        Returns:
            `(B, *event)`, float32 or the dtype of z if that is wider.
        """

    @property
    def has_marginal(self) -> bool:
        """Whether it answers without a condition."""
        return True

    @property
    def counted(self) -> tuple[int, int]:
        """Rows of a network that the base branch and the other take for each noisy variable."""
        return (0, 0) if self.closed_form else (1, 1)

    def snap(self, logsnr: Tensor) -> Tensor:
        """The levels that the network knows, nearest to those asked for. Any shape, float64."""
        return logsnr.double().clamp(*self.logsnr_range)

    def check_data(self, x: Tensor) -> None:
        """Raise a ValueError for data `(N, *event)` that must not be measured with it; most may measure any."""
        return None

    def branches(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor]:
        """`forward` for several conditions at one z. Denoisers that can, do it in one pass of the network."""
        return [self(z, logsnr, cond) for cond in conds]


def check_denoiser_type(*denoisers: object) -> None:
    """Raise a TypeError for something other than a denoiser."""
    for denoiser in denoisers:
        of_type(
            denoiser,
            Denoiser,
            "the denoiser",
            "a Denoiser; mmg_diffusers.denoisers.base.Adapted makes one of a network",
        )


class Adapted(Denoiser):
    """A network in its own convention, made a `Denoiser`.

    Args:
        network: called as ``network(x, time, **condition)``; returns a tensor of the shape of x.
        convention: what the network is told about noise, and what it predicts.
        null: the condition, with a batch of one, that stands for "no condition"; ``None`` for a network that
            has no unconditional branch. A network that is called with ``label=None`` has ``null={"label": None}``. Zeros are a
            legitimate condition, never a stand-in.
        dtype: dtype of the network's noisy input; by default its own ``dtype``, else that of its first parameter.
        learned_variance: whether the network returns twice the channels of x (axis 1), of which the first half is the
            prediction and the second a variance (DiT, PixArt, IF).

    Raises:
        ValueError: by `forward` when the marginal is asked of a network without a null condition, and when what the network
            returned has another shape than these.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        convention: Convention,
        null: Mapping[str, Tensor | None] | None = None,
        *,
        dtype: torch.dtype | None = None,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        self.learned_variance = learned_variance
        self.network = network
        self.convention = convention
        self.null = None if null is None else dict(null)
        self.dtype = dtype
        self.logsnr_range = convention.logsnr_range
        self.notes = convention.notes

    @property
    def has_marginal(self) -> bool:
        return self.null is not None

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.convention.snap(logsnr)

    def _condition(self, cond: Condition | None, z: Tensor) -> dict[str, Tensor | None]:
        if cond is not None:
            return dict(cond)
        if self.null is None:
            raise ValueError(
                "this network has no unconditional branch, so it has no marginal denoiser. Give `given=` a condition "
                "for the base, or compare candidates (`classify`), which needs none."
            )
        return {
            key: None if value is None else onto(value, z.device).expand(len(z), *value.shape[1:])
            for key, value in self.null.items()
        }

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self._predict(z, logsnr, self._condition(cond, z))

    def branches(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor]:
        every = [self._condition(cond, z) for cond in conds]
        filled = [{key: value for key, value in cond.items() if value is not None} for cond in every]
        shapes = {tuple((key, value.shape[1:]) for key, value in sorted(cond.items())) for cond in filled}
        absent = any(len(cond) < len(whole) for cond, whole in zip(filled, every, strict=True))
        if len(filled) == 1 or len(shapes) > 1 or absent:
            return [self._predict(z, logsnr, cond) for cond in every]
        joined = {key: torch.cat([cond[key] for cond in filled]) for key in filled[0]}
        copies = len(filled)
        out = self._predict(z.repeat(copies, *(1,) * (z.ndim - 1)), logsnr.repeat(copies), joined).chunk(copies)
        # One condition means one prediction, the null's as well; the last bits of a batched product may differ.
        equal = (torch.as_tensor(same_rows(filled[0], cond)).to(z.device) for cond in filled[1:])
        shape = (-1, *(1,) * (z.ndim - 1))
        others = zip(equal, out[1:], strict=True)
        return [out[0], *(torch.where(same.view(shape), out[0], other) for same, other in others)]

    def _predict(self, z: Tensor, logsnr: Tensor, cond: Mapping[str, Tensor | None]) -> Tensor:
        c_skip, c_out, c_in, c_noise = self.convention.coefficients(logsnr)
        wide = torch.promote_types(z.dtype, torch.float32)
        z = z.to(wide)
        dtype = self.dtype or self._network_dtype(wide)
        out = self.network((per_event(c_in, z) * z).to(dtype), onto(c_noise, z.device), **cond)
        expected = (z.shape[0], z.shape[1] * (1 + self.learned_variance), *z.shape[2:])
        if out.shape != expected:
            twice = out.shape == (z.shape[0], 2 * z.shape[1], *z.shape[2:])
            remedy = "; if the second half is a learned variance, say so with learned_variance=True" if twice else ""
            raise ValueError(
                f"the network returned {tuple(out.shape)} for a noisy input of {tuple(z.shape)}; expected {expected}{remedy}"
            )
        out = out[:, : z.shape[1]].to(wide)
        return per_event(c_skip, z) * z + per_event(c_out, z) * out

    def _network_dtype(self, fallback: torch.dtype) -> torch.dtype:
        # What it says itself, if it does: some keep single weights in float32 beside those that take the input.
        own = getattr(self.network, "dtype", None)
        if isinstance(own, torch.dtype) and own.is_floating_point:
            return own
        if isinstance(self.network, nn.Module):
            for parameter in self.network.parameters():
                return parameter.dtype
        return fallback


class Rescaled(Denoiser):
    """A denoiser of x as one of scale * x + shift: data in [-1, 1], say, for a network that was trained in [0, 1].

    Information does not change, but the level does: the same noise beside a larger signal is another log-SNR.

    Args:
        denoiser: of x.
        scale, shift: of the variable that is measured; scale is positive.

    Raises:
        ValueError: unless both are finite and scale is positive.
    """

    def __init__(self, denoiser: Denoiser, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        if not (0 < scale < math.inf and math.isfinite(shift)):
            raise ValueError(f"expected a positive scale and a finite shift, got {scale} and {shift}")
        self.denoiser, self.scale, self.shift = denoiser, scale, shift
        self._step = 2 * math.log(scale)
        low, high = denoiser.logsnr_range
        self.logsnr_range = (low - self._step, high - self._step)
        self.notes = denoiser.notes

    @property
    def has_marginal(self) -> bool:
        return self.denoiser.has_marginal

    @property
    def counted(self) -> tuple[int, int]:
        return self.denoiser.counted

    def check_data(self, x: Tensor) -> None:
        # Data are known again by their float32: of x that was scaled in float64 all, of x that was in float32 many.
        inner = (x.detach().cpu().double() - self.shift) / self.scale
        for part in self.denoiser.modules():
            if isinstance(part, Denoiser):
                part.check_data(inner)

    def snap(self, logsnr: Tensor) -> Tensor:
        asked = logsnr.double() + self._step
        known = self.denoiser.snap(asked)
        # A level that is known is returned as it came, so that rounding does not move it.
        return torch.where((known - asked).abs() < 1e-9, logsnr.double(), known - self._step)

    def _inner(self, z: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        level = self.denoiser.snap(logsnr.double() + self._step)
        (a, s), (_, s_inner) = signal_and_noise(logsnr.double()), signal_and_noise(level)
        return (z - per_event(a, z) * self.shift) * per_event(s_inner / s, z), level

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.denoiser(*self._inner(z, logsnr), cond)

    def branches(self, z: Tensor, logsnr: Tensor, conds: Sequence[Condition | None]) -> list[Tensor]:
        return self.denoiser.branches(*self._inner(z, logsnr), conds)


class TwoDenoisers(Denoiser):
    """Two denoisers of one variable as the two branches of one: what they differ by is a divergence.

    Args:
        base: answers if no condition is given.
        other: answers if one is; an empty condition asks it for its own marginal.

    Raises:
        ValueError: if the two know no level in common.
    """

    def __init__(self, base: Denoiser, other: Denoiser) -> None:
        super().__init__()
        check_denoiser_type(base, other)
        self.base, self.other = base, other
        (first, last), (begin, end) = base.logsnr_range, other.logsnr_range
        self.logsnr_range = (max(first, begin), min(last, end))
        if not self.logsnr_range[0] < self.logsnr_range[1]:
            raise ValueError(
                f"one denoiser knows log-SNR {first:.3f} to {last:.3f} and the other {begin:.3f} to {end:.3f}, which have "
                "nothing in common; expected two whose ranges overlap"
            )
        self.notes = (*base.notes, *other.notes)
        self.compares = "reference" if base.closed_form else "models"

    @property
    def has_marginal(self) -> bool:
        return self.base.has_marginal

    @property
    def counted(self) -> tuple[int, int]:
        return self.base.counted[0], self.other.counted[1]

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        if cond is None:
            return self.base(z, logsnr, None)
        return self.other(z, logsnr, cond or None)

    def snap(self, logsnr: Tensor) -> Tensor:
        """Levels of `other`. A base that knows only levels of its own is told the nearest of those."""
        return self.other.snap(logsnr.double().clamp(*self.logsnr_range))
