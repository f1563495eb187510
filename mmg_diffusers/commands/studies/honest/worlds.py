"""Worlds whose information is known pair by pair, and exact denoisers with one thing wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.exact import GaussianDenoiser, MixtureDenoiser
from mmg_diffusers.denoisers.levels import per_event


@dataclass(frozen=True)
class Sample:
    """Pairs, and the information of each in closed form: `x` `(N, d)`, the condition, `truth` `(N,)` nats."""

    x: Tensor
    cond: Condition
    truth: Tensor


@dataclass(frozen=True)
class Labels:
    """Equally likely labels, each a normal about a mean of its own.

    Args:
        count: labels.
        size: dimensions of x.
        spread: standard deviation of the means' coordinates; x has unit variance in all.
        seed: of the means.
    """

    count: int
    size: int
    spread: float
    seed: int = 0

    @property
    def means(self) -> Tensor:
        """`(count, size)` float64."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(self.count, self.size, generator=generator, dtype=torch.float64)
        return self.spread * (drawn - drawn.mean(0))

    @property
    def variance(self) -> float:
        """Of x given its label, in every dimension."""
        return max(0.02, 1 - self.spread**2)

    def exact(self) -> MixtureDenoiser:
        """Both branches as they should be."""
        return MixtureDenoiser(torch.ones(self.count), self.means, torch.full((self.count,), self.variance))

    def sample(self, pairs: int, seed: int, among: int | None = None) -> Sample:
        """Fresh pairs; of the first labels alone, if `among` says how many, each as often as the others.

        The information is that about these labels, of which alone the pairs are.
        """
        known = among or self.count
        label = torch.arange(pairs) % known
        noise = torch.randn(pairs, self.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x = self.means[label] + self.variance**0.5 * noise
        squares = torch.cdist(x, self.means[:known]).square() / (2 * self.variance)
        truth = torch.log_softmax(-squares, 1).gather(1, label[:, None])[:, 0] + torch.tensor(float(known)).log()
        return Sample(x.float(), {"label": label}, truth.double())


@dataclass(frozen=True)
class Correlated:
    """Normal x and y in `size` dimensions, each coordinate with its partner's correlation."""

    size: int
    correlation: float

    def exact(self) -> GaussianDenoiser:
        """Both branches as they should be."""
        one = torch.eye(self.size, dtype=torch.float64)
        across = self.correlation * one
        return GaussianDenoiser(torch.cat([torch.cat([one, across], 1), torch.cat([across, one], 1)]), self.size)

    def sample(self, pairs: int, seed: int) -> Sample:
        """Fresh pairs."""
        drawn = torch.randn(2, pairs, self.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rest = 1 - self.correlation**2
        y = drawn[0]
        x = self.correlation * y + rest**0.5 * drawn[1]
        log_ratio = x.square() / 2 - drawn[1].square() / 2 - 0.5 * torch.tensor(rest).log()
        return Sample(x.float(), {"y": y}, log_ratio.sum(1))


class Erring(Denoiser):
    """A denoiser whose branches err, each by a field of its own that depends on z as a network's errors do.

    Args:
        exact: what errs.
        null, conditional: mean square of each branch's error, a share of that of the noise.
        above: log-SNR above which they err, within about a unit.
        seed: of the fields.
    """

    def __init__(
        self, exact: Denoiser, null: float = 0.0, conditional: float = 0.0, above: float = -torch.inf, seed: int = 0
    ) -> None:
        super().__init__()
        self.exact, self.shares, self.above, self.seed = exact, (null, conditional), above, seed
        self.logsnr_range = exact.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        right = self.exact(z, logsnr, cond)
        share = self.shares[cond is not None]
        if share == 0:
            return right
        size = z[0].numel()
        generator = torch.Generator().manual_seed(2 * self.seed + (cond is not None))
        weights = torch.randn(size, size, generator=generator) / size**0.5
        phase = 6.3 * torch.rand(size, generator=generator)
        field = (1.5 * z.flatten(1).float() @ weights + phase).sin().view(z.shape)
        switched = torch.sigmoid(4 * (logsnr - self.above)) if self.above > -torch.inf else torch.ones_like(logsnr)
        return right + per_event((2 * share * switched).sqrt(), z) * field.to(right)


class Scaled(Denoiser):
    """A denoiser whose predictions are multiplied, in one branch or both: shrunk to the mean, as regularised networks' are."""

    def __init__(self, exact: Denoiser, null: float = 1.0, conditional: float = 1.0) -> None:
        super().__init__()
        self.exact, self.factors = exact, (null, conditional)
        self.logsnr_range = exact.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.factors[cond is not None] * self.exact(z, logsnr, cond)


class Retold(Denoiser):
    """A denoiser that is told another level than z has."""

    def __init__(self, exact: Denoiser, by: float) -> None:
        super().__init__()
        self.exact, self.by = exact, by
        self.logsnr_range = exact.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.exact(z, logsnr + self.by, cond)


class Rounded(Denoiser):
    """A denoiser whose predictions come out in half precision."""

    def __init__(self, exact: Denoiser, dtype: torch.dtype) -> None:
        super().__init__()
        self.exact, self.dtype = exact, dtype
        self.logsnr_range = exact.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.exact(z, logsnr, cond).to(self.dtype).float()


class Forgetful(Denoiser):
    """Two denoisers of one variable: the first answers without a condition, the second with one."""

    def __init__(self, null: Denoiser, conditional: Denoiser) -> None:
        super().__init__()
        self.null, self.conditional = null, conditional
        self.logsnr_range = conditional.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.null(z, logsnr, None) if cond is None else self.conditional(z, logsnr, cond)
