"""The candidates of many variables: which, how probable, and which of them is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief


@dataclass(frozen=True, repr=False)
class Mixture(Brief):
    """The candidates of N variables: rows of `names`, each variable with slots of its own.

    `slots` `(N, K)` indexes `names`; `prior` `(N, K)` is the probability of each slot, 0 where a variable has fewer;
    `truth` `(N,)` is the slot of the true one.
    """

    names: tuple[str, ...]
    slots: Tensor
    prior: Tensor
    truth: Tensor

    def __post_init__(self) -> None:
        slots, prior, truth = self.slots, self.prior, self.truth
        if slots.ndim != 2 or 0 in slots.shape or prior.shape != slots.shape or truth.shape != slots.shape[:1]:
            raise ValueError(
                f"the candidates have slots {tuple(slots.shape)}, a prior {tuple(prior.shape)} and truths {tuple(truth.shape)}; "
                "expected (N, K), (N, K) and (N,)"
            )
        for name, index, count in (("slots", slots, len(self.names)), ("truths", truth, slots.shape[1])):
            if index.dtype != torch.int64 or int(index.min()) < 0 or int(index.max()) >= count:
                raise ValueError(f"the {name} of a mixture must be int64 below {count}")
        if not bool((prior >= 0).all()) or float((prior.sum(1) - 1).abs().max()) > 1e-6:
            raise ValueError("the prior of a mixture has probabilities that are negative or do not sum to 1")

    def __len__(self) -> int:
        return len(self.slots)

    def rows(self, places: Sequence[int]) -> Mixture:
        """The candidates of some of the variables, by their places."""
        index = torch.as_tensor(list(places), dtype=torch.int64)
        return Mixture(self.names, self.slots[index], self.prior[index], self.truth[index])

    def padded(self, slots: int) -> Mixture:
        """The same with more slots, whose prior is 0."""
        more = (0, slots - self.slots.shape[1])
        pad = torch.nn.functional.pad
        return self if more[1] == 0 else Mixture(self.names, pad(self.slots, more), pad(self.prior, more), self.truth)

    def used(self) -> tuple[tuple[str, ...], Tensor]:
        """The names that are a candidate of some variable, and `(N, K)` the slots as indices into these."""
        theirs, slots = self.slots.unique(return_inverse=True)
        return tuple(self.names[k] for k in theirs.tolist()), slots

    @property
    def log_prior(self) -> Tensor:
        """`(N, K)`, -infinity where there is no candidate."""
        return self.prior.double().log()

    def true_names(self) -> list[str]:
        """The true candidate of every variable."""
        true = self.slots.gather(1, self.truth[:, None])[:, 0]
        return [self.names[k] for k in true.tolist()]

    @property
    def surprise(self) -> Tensor:
        """`(N,)` -log of the prior of each true candidate: the most that can be told of it."""
        return -self.log_prior.gather(1, self.truth[:, None])[:, 0]

    @property
    def ceiling(self) -> float:
        """The most that log q of the true candidate can say, in the mean over these variables."""
        return float(self.surprise.mean())
