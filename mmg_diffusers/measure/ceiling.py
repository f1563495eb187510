"""The most that a condition can tell: information about a discrete y never exceeds H(Y)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, shown

# Labels stand for a law only if each occurs so often, in the mean.
OCCURRENCES = 5


def ceiling_of(entropy: object, rows: int) -> Tensor | None:
    """What the user states of y, as the most that each of N pairs can tell.

    Args:
        entropy: H(Y) in nats, or `(N,)` the surprise -log p(y) of each pair's own y; ``None`` if it is not known.
        rows: N.

    Returns:
        `(N,)` float64, or ``None``.

    Raises:
        TypeError: for something else than a number or a tensor.
        ValueError: for an entropy below 0 or not finite (y is continuous: it has no ceiling), or another number of them.
    """
    if entropy is None:
        return None
    if isinstance(entropy, Tensor):
        if (
            entropy.dtype == torch.bool
            or entropy.is_complex()
            or entropy.shape != (rows,)
            or not bool(torch.isfinite(entropy).all())
            or bool((entropy < 0).any())
        ):
            raise ValueError(
                f"entropy is {shown(entropy)}; expected H(Y) in nats, or ({rows},) numbers -log p(y), all finite and not "
                "negative"
            )
        return entropy.detach().cpu().double()
    of_type(entropy, (int, float), "entropy", "H(Y) in nats, or a tensor of -log p(y)")
    nats = finite(entropy, "entropy")
    if nats < 0:
        raise ValueError(
            f"entropy is {nats}; the entropy of a discrete y is not negative, and a continuous y has no ceiling: leave it out"
        )
    return torch.full((rows,), nats, dtype=torch.float64)


def surprise_of_labels(labels: Sequence[Hashable]) -> Tensor | None:
    """-log p(y) of each label, by how often it occurs among them, `(N,)` nats; its mean estimates H(Y).

    The bias of the mean, (K - 1) / 2N for K different labels, is added (Miller 1955), so that a ceiling is not too low.

    Returns:
        ``None`` for labels that occur fewer than five times in the mean: they do not show their law; and for one label
        alone, which is a question about images and not about a law of labels.
    """
    times = Counter(labels)
    if len(times) < 2 or len(labels) < OCCURRENCES * len(times):
        return None
    bias = (len(times) - 1) / (2 * len(labels))
    return torch.tensor([bias - math.log(times[label] / len(labels)) for label in labels], dtype=torch.float64)


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The ceilings of several measurements in a row.

    Raises:
        ValueError: if some have one and others have none.
    """
    known = [part for part in parts if part is not None]
    if known and len(known) < len(parts):
        raise ValueError("some estimates know the entropy of y and others do not; state it for all or for none")
    return torch.cat(known) if known else None
