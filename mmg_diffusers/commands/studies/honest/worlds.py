"""Worlds whose information is known pair by pair, and exact denoisers with one thing wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.exact import GaussianDenoiser, MixtureDenoiser
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise


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
    """A denoiser that computes in half precision.

    Args:
        exact: what is rounded.
        dtype: of its predictions.
        embedding: size of what stands for the condition and is added to z in that dtype, as networks do, so that branches round otherwise;
            0 rounds predictions alone.
    """

    def __init__(self, exact: Denoiser, dtype: torch.dtype, embedding: float = 0.0) -> None:
        super().__init__()
        self.exact, self.dtype, self.embedding = exact, dtype, embedding
        self.logsnr_range = exact.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        if self.embedding:
            generator = torch.Generator().manual_seed(int(cond is not None))
            added = self.embedding * torch.randn(z.shape[1:], generator=generator).to(self.dtype)
            z = (z.to(self.dtype) + added).float() - added.float()
        return self.exact(z, logsnr, cond).to(self.dtype).float()


class Forgetful(Denoiser):
    """Two denoisers of one variable: the first answers without a condition, the second with one."""

    def __init__(self, null: Denoiser, conditional: Denoiser) -> None:
        super().__init__()
        self.null, self.conditional = null, conditional
        self.logsnr_range = conditional.logsnr_range

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        return self.null(z, logsnr, None) if cond is None else self.conditional(z, logsnr, cond)


@dataclass(frozen=True)
class Bits:
    """Equally likely labels, each with chances of its own for independent bits 0 and 1.

    Args:
        count: labels.
        size: bits.
        seed: of the chances.
    """

    count: int
    size: int
    seed: int = 0

    @property
    def chances(self) -> Tensor:
        """`(count, size)` that a bit is 1."""
        generator = torch.Generator().manual_seed(self.seed)
        return 0.05 + 0.5 * torch.rand(self.count, self.size, generator=generator, dtype=torch.float64).square()

    def sample(self, pairs: int, seed: int) -> Sample:
        """Fresh pairs."""
        label = torch.arange(pairs) % self.count
        drawn = torch.rand(pairs, self.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x = (drawn < self.chances[label]).double()
        each = x @ self.chances.log().T + (1 - x) @ (1 - self.chances).log().T
        truth = torch.log_softmax(each, 1).gather(1, label[:, None])[:, 0] + torch.tensor(float(self.count)).log()
        return Sample(x.float(), {"label": label}, truth.double())


class OfBits(Denoiser):
    """What training on squared errors, or on absolute ones, makes of `Bits`: posterior means, or posterior medians."""

    logsnr_range = (-12.0, 12.0)

    def __init__(self, world: Bits, median: bool = False) -> None:
        super().__init__()
        self.chances, self.median = world.chances, median

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        a, s = (scale[:, None] for scale in signal_and_noise(logsnr.double()))
        wide = z.double()
        # log of what a bit's being 1 makes of z, against its being 0.
        evidence = a * (wide - a / 2) / s**2
        # Of every label: what z says of it, and its posterior chances of the bits.
        prior = self.chances.logit()
        posterior = torch.sigmoid(prior + evidence[:, None])
        said = torch.logaddexp((1 - self.chances).log(), self.chances.log() + evidence[:, None]).sum(2)
        if cond is None:
            one = (torch.softmax(said, 1)[..., None] * posterior).sum(1)
        else:
            one = posterior[torch.arange(len(z)), cond["label"]]
        x = (one > 0.5).double() if self.median else one
        return ((wide - a * x) / s).to(torch.promote_types(z.dtype, torch.float32))


class Masking(Denoiser):
    """Labels of two words, of which the second may be masked, as an index from `count` on: one for every first word.

    Args:
        world: of the labels; label `words * first + second`.
        words: second words.
        right: whether a masked condition is answered by the mixture over the second word, as it should be, or by a normal about the
            mean of their means, as by a network that never saw a mask.
    """

    logsnr_range = (-torch.inf, torch.inf)

    def __init__(self, world: Labels, words: int, right: bool) -> None:
        super().__init__()
        self.world, self.words, self.right, self.exact = world, words, right, world.exact()

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        if cond is None or int(cond["label"].max()) < self.world.count:
            return self.exact(z, logsnr, cond)
        first = cond["label"] - self.world.count
        means = self.world.means.unflatten(0, (-1, self.words))
        out = torch.zeros_like(z, dtype=torch.promote_types(z.dtype, torch.float32))
        for group in first.unique().tolist():
            rows, own = first == group, means[group]
            kept = own if self.right else own.mean(0, keepdim=True)
            mixture = MixtureDenoiser(torch.ones(len(kept)), kept, torch.full((len(kept),), self.world.variance))
            out[rows] = mixture(z[rows], logsnr[rows], None)
        return out

    def sample(self, pairs: int, seed: int) -> tuple[Sample, Condition]:
        """Fresh pairs, and their conditions with the second word masked; the truth is what the second word tells given the first."""
        drawn = self.world.sample(pairs, seed)
        label = drawn.cond["label"]
        first = label // self.words
        own = self.world.means.unflatten(0, (-1, self.words))[first]
        squares = (drawn.x.double()[:, None] - own).square().sum(2) / (2 * self.world.variance)
        truth = torch.log_softmax(-squares, 1).gather(1, (label % self.words)[:, None])[:, 0]
        truth = truth + torch.tensor(float(self.words)).log()
        return Sample(drawn.x, drawn.cond, truth), {"label": self.world.count + first}
