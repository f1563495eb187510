"""How much of the evidence along a noise path to believe: fitted on some pairs, used on others, so that a bound stays a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type

# Deviation of the prior of log trust, for one band; of the prior of trust about 1, for several, of which any may be 0.
LOG_TRUST = TRUST = 0.5
# Even bands of log-SNR that a path is cut into, and parts of the pairs of which each is read as the others say.
BANDS, FOLDS = 4, 5
# Fewer pairs than these fit nothing.
FEWEST = 20


@dataclass(frozen=True)
class Calibration:
    """How much of each noise band's evidence to believe: log q = log prior + bias + sum_b trust[b] score_b.

    Args:
        edges: inner edges of the bands in log-SNR, rising; none for one band over the whole range.
        trust: one non-negative factor a band. A single band is a temperature, ``1 / trust[0]``.
        bias: what is added to each candidate, in nats; none for no bias.

    Raises:
        TypeError: for other than tuples of numbers.
        ValueError: for edges that do not rise, or not one non-negative factor a band.
    """

    edges: tuple[float, ...] = ()
    trust: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("edges", "trust", "bias"):
            values = getattr(self, name)
            of_type(values, (tuple, list), name, "a tuple of numbers")
            object.__setattr__(self, name, tuple(finite(value, f"a number in {name}") for value in values))
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if len(self.trust) != len(self.edges) + 1 or min(self.trust) < 0 or not rising:
            raise ValueError(f"expected one non-negative factor a band, got {self.trust} for edges {self.edges}")

    def check(self, candidates: int) -> None:
        """Raise a ValueError if the bias is not that of so many candidates."""
        if self.bias and len(self.bias) != candidates:
            raise ValueError(
                f"the calibration has a bias for {len(self.bias)} candidates, not {candidates}; fit it to the same candidates"
            )

    @property
    def temperature(self) -> float:
        """What the scores are divided by.

        Raises:
            ValueError: when there are several bands, and hence no single temperature.
        """
        if len(self.trust) != 1:
            raise ValueError(f"there are {len(self.trust)} bands, each with its own trust; no single temperature")
        return 1 / self.trust[0] if self.trust[0] > 0 else float("inf")


def even_edges(low: float, high: float, bands: int = BANDS) -> tuple[float, ...]:
    """Inner edges of even bands of log-SNR."""
    return tuple(np.linspace(low, high, bands + 1)[1:-1].tolist())


def in_bands(score: Tensor, levels: Tensor, edges: Sequence[float]) -> Tensor:
    """Evidence `(N, L, K)` of steps that begin at `levels` `(L,)`, added up by band, `(N, B, K)`."""
    band = torch.bucketize(levels, torch.tensor(list(edges), dtype=torch.float64), right=True)
    out = torch.zeros((len(score), len(edges) + 1, score.shape[-1]), dtype=torch.float64)
    return out.index_add_(1, band, score)


def posterior_of(bands: Tensor, log_prior: Tensor, trust: Tensor) -> Tensor:
    """log q `(N, K)` by one trust a band, `(B,)`, or by each variable's own, `(N, B)`."""
    weight = trust[:, None] if trust.ndim == 1 else trust[..., None]
    return torch.log_softmax(log_prior + (weight * bands).sum(1), 1)


def fit_trust(bands: Tensor, log_prior: Tensor, truth: Tensor) -> Tensor:
    """The trust in each band, `(B,)`, at the maximum of its posterior: each is 0 or more, with a normal prior about 1.

    The likelihood is concave in trusts, so that there is one maximum. Trusts that gain less than two nats a
    band are 1, which chance gives to 1 of 300 of four bands: evidence that is calibrated stays as it is.

    Args:
        bands: `(N, B, K)` evidence.
        log_prior: `(N, K)`.
        truth: `(N,)` slots.
    """
    # Here, and not above: importing the package should not wait for scipy.
    from scipy.optimize import minimize

    rows = torch.arange(len(truth))
    # Slots without a candidate are out of the sum, and their evidence is of no weight.
    evidence = torch.where(log_prior[:, None].isfinite(), bands, 0.0)

    def loss(trust: np.ndarray) -> tuple[float, np.ndarray]:
        log_q = posterior_of(evidence, log_prior, torch.from_numpy(trust))
        surprise = -float(log_q[rows, truth].sum())
        slope = (log_q.exp()[:, None] * evidence).sum(2) - evidence[rows, :, truth]
        held = ((trust - 1) ** 2).sum() / (2 * TRUST**2)
        return surprise + float(held), slope.sum(0).numpy() + (trust - 1) / TRUST**2

    start = np.ones(bands.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start))
    gained = loss(start)[0] - float(found.fun)
    return torch.from_numpy(found.x if gained > 2 * len(start) else start)


def cross_fitted(bands: Tensor, log_prior: Tensor, truth: Tensor) -> Tensor:
    """Each pair's trust in the bands `(N, B)`, as pairs of the other parts say; 1 of fewer than 20 pairs.

    No pair is read by what was fitted on it, so that the mean of H(Y) + log q is a lower bound in expectation, as with any q.
    """
    count = len(truth)
    trust = torch.ones(bands.shape[:2], dtype=torch.float64)
    if count < FEWEST:
        return trust
    # By lot, since pairs often come sorted.
    fold = torch.randperm(count, generator=torch.Generator().manual_seed(0)) % FOLDS
    for part in range(FOLDS):
        inside = fold == part
        trust[inside] = fit_trust(bands[~inside], log_prior[~inside], truth[~inside])
    return trust
