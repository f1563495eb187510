"""Telling the levels of a grid apart at the clean end of a range, by a softmax that the network tilts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.levels import add_noise, per_event, signal_and_noise
from mmg_diffusers.denoisers.precision import onto, widened
from mmg_diffusers.measure.batches import Pairs, check_finite, rows_of
from mmg_diffusers.measure.draws import PairDraws

# Draws that no measurement has the noise of.
_APART = 2**40
# Numbers of one batch of softmaxes, so that memory stays bounded.
_AT_A_TIME = 2**23
# Standard deviations of the noise beyond which a level is out of the question.
_FAR = 14.0
# Share that is spread over all levels, so that none is impossible; steps of the search for a tilt; and how near to an end
# of the grid a mean may be, in its steps.
_SPREAD, _STEPS, _MARGIN = 1e-3, 25, 1e-3


@dataclass(frozen=True)
class CleanEnd:
    """The clean end of a measurement: whose prediction is asked for there, of what, and with which noise."""

    denoiser: Denoiser
    pairs: Pairs
    cond: Condition | None
    logsnr: float
    draws: int
    seed: int
    batch_size: int | None = None

    @property
    def level(self) -> float:
        """The log-SNR nearest to it that the network knows."""
        return float(self.denoiser.snap(torch.tensor([self.logsnr], dtype=torch.float64)))

    @torch.inference_mode()
    def of_each(self, cost: Callable[[Tensor, Tensor, Tensor], Tensor], width: int) -> Tensor:
        """What a noisy value costs, `(N, draws)`.

        Args:
            cost: `(B,)` of x `(B, *event)`, of its noisy value z / a, and of what the network predicts of x.
            width: numbers that it makes of one coordinate.

        Raises:
            ValueError: if the network returns NaN or infinity.
        """
        x, ids = self.pairs.x, self.pairs.ids.tolist()
        event = tuple(x.shape[1:])
        forwards = Forwards(self.denoiser, x.shape[1:], device_of(self.denoiser, x), self.batch_size)
        level = torch.tensor([self.level], dtype=torch.float64)
        costs = torch.empty((len(x), self.draws), dtype=torch.float64)
        where = [(row, draw) for row in range(len(x)) for draw in range(self.draws)]
        size = max(1, min(forwards.rows, _AT_A_TIME // (width * x[0].numel())))
        for start in range(0, len(where), size):
            rows, draws = torch.tensor(where[start : start + size]).T
            noise = [PairDraws(self.seed, ids[row], _APART + draw) for row, draw in where[start : start + size]]
            eps = onto(torch.cat([source.normals(1, event, x.dtype) for source in noise]), forwards.device)
            logsnr = level.expand(len(rows))
            clean = onto(x[rows.to(x.device)], forwards.device)
            z = add_noise(clean, logsnr, eps)
            error = widened(forwards(z, logsnr, rows_of(self.cond, rows, forwards.device))).cpu()
            check_finite(error, logsnr)
            a, s = (per_event(scale, error) for scale in signal_and_noise(logsnr))
            seen = clean.cpu().double() + s / a * eps.cpu().double()
            costs[rows, draws] = cost(clean.cpu().double(), seen, seen - s / a * error)
        return costs


@dataclass(frozen=True)
class TiltedSoftmax:
    """A choice between equally spaced levels: by the fit to a noisy value, and by the mean that a network predicts.

    Of two levels it is what a network knows, exactly; of many, what it knows of the mean, with the spread of the noise.

    Args:
        levels: how many; places are counted in them, from 0.
        apart: their distance in standard deviations of the noise.
    """

    levels: int
    apart: float

    @property
    def width(self) -> int:
        """Levels that are compared for one noisy value."""
        return min(self.levels, 2 * (math.ceil(_FAR / self.apart) + 1) + 1)

    def costs(self, index: Tensor, seen: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """-log q of the right levels, in nats, with the tilt and without it; of any shape.

        Args:
            index: which levels are right.
            seen, predicted: the noisy places and their means as predicted.
        """
        width = self.width
        first = (seen.round().long() - width // 2).clamp(0, self.levels - width)
        offset = torch.arange(width, dtype=torch.float64)
        # Places from here on are counted from the first level of each window.
        seen, predicted, right = seen - first, predicted - first, index - first
        logits = -((seen[..., None] - offset) * self.apart).square() / 2
        inside = (right >= 0) & (right < width)
        right = right.clamp(0, width - 1)[..., None]
        mean = predicted.clamp(_MARGIN, width - 1 - _MARGIN)
        log_q = torch.log_softmax(logits + self._tilt(logits, offset, mean)[..., None] * offset, -1)
        log_q = log_q.gather(-1, right)[..., 0].masked_fill(~inside, -math.inf)
        spread = torch.full_like(log_q, math.log(_SPREAD / self.levels))
        flat = torch.log_softmax(logits, -1).gather(-1, right)[..., 0]
        return -torch.logaddexp(log_q + math.log1p(-_SPREAD), spread), -flat

    def _tilt(self, logits: Tensor, offset: Tensor, mean: Tensor) -> Tensor:
        """The tilts with which softmaxes have given means: Newton's steps, halving the bracket where they leave it."""
        most = self.apart**2 * len(offset) + 20.0
        low, high = torch.full_like(mean, -most), torch.full_like(mean, most)
        tilt = torch.zeros_like(mean)
        for _ in range(_STEPS):
            share = torch.softmax(logits + tilt[..., None] * offset, -1)
            reached = share @ offset
            variance = share @ offset.square() - reached.square()
            low, high = torch.where(reached < mean, tilt, low), torch.where(reached < mean, high, tilt)
            step = tilt + (mean - reached) / variance.clamp(min=1e-12)
            tilt = torch.where((step > low) & (step < high), step, (low + high) / 2)
        return tilt
