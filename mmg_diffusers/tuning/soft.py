"""A marginal as a mixture of a few prompts: those of the data themselves if they are few, else soft ones that stand for many each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from mmg_diffusers.arrays.checkpoints import cosine_rate
from mmg_diffusers.arrays.losses import Levels
from mmg_diffusers.arrays.seeds import generator_of, step_generator
from mmg_diffusers.checks import finite, somebody_looks, whole
from mmg_diffusers.denoisers.base import Adapted, Condition
from mmg_diffusers.denoisers.forwards import device_of
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.precision import onto
from mmg_diffusers.tuning.branches import Encoded

# Rounds of k-means, which settles long before.
_ROUNDS = 50


@dataclass(frozen=True)
class SoftPlan:
    """How a marginal of a few prompts is made.

    Args:
        prompts: how many at most. Data with no more different ones keep theirs, as often as they occur; of others so many soft prompts
            are made, vectors in the place of words, each beginning as the mean of prompts that are told alike.
        steps, batch, lr: of training soft prompts, by AdamW along a cosine: the squared error of the noise that a soft prompt leaves on
            images of its own prompts, at levels even in log-SNR.
        check_every: steps between looks at the images that are held out; those with the least error are kept.
        patience: looks without a better one after which training ends.

    Raises:
        TypeError, ValueError: for counts below 1, fewer than two prompts, or a rate that is not positive.
    """

    prompts: int = 64
    steps: int = 200
    batch: int = 16
    lr: float = 3e-3
    check_every: int = 50
    patience: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", whole(self.prompts, "prompts", 2))
        for name in ("steps", "batch", "check_every", "patience"):
            object.__setattr__(self, name, whole(getattr(self, name), name, 1))
        object.__setattr__(self, "lr", finite(self.lr, "lr"))
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}; expected a number above 0")


@dataclass(frozen=True)
class SoftPrompts:
    """K prompts whose mixture is a marginal.

    Args:
        probability: `(K,)` float64, how often each is meant.
        texts: K of them, if they are prompts of the data.
        vectors: what the network is told in their place, K rows, if they are not.

    Raises:
        ValueError: unless they are either, and as many as probabilities.
    """

    probability: Tensor
    texts: tuple[str, ...] = ()
    vectors: Condition | None = None

    def __post_init__(self) -> None:
        counts = {len(self.probability), *([len(self.texts)] if self.vectors is None else [])}
        counts |= {len(value) for value in (self.vectors or {}).values()}
        if len(counts) != 1 or bool(self.texts) == (self.vectors is not None):
            raise ValueError(
                f"got {sorted(counts)} probabilities, texts and vectors; expected texts or vectors, one each"
            )

    def __len__(self) -> int:
        return len(self.probability)


def soft_prompts(
    denoiser: Adapted,
    trained: Encoded,
    watched: Encoded,
    texts: Sequence[str],
    plan: SoftPlan,
    ends: tuple[float, float],
    *,
    seed: int = 0,
    progress: bool = True,
) -> SoftPrompts:
    """Make the prompts whose mixture stands for no prompt.

    Args:
        denoiser: of the model.
        trained, watched: images with their prompts: to fit to, and to stop by.
        texts: the different prompts, in the order of `Encoded.conditions`.
        plan: how.
        ends: of the levels.
        seed: of batches, levels and noise.
        progress: whether a bar is shown.

    Raises:
        ValueError: for one prompt alone, more of them than the plan keeps that are told as whole numbers, and a loss that is not finite.
    """
    assert trained.conditions is not None
    assert trained.which is not None
    assert watched.which is not None
    number = torch.bincount(torch.cat([trained.which, watched.which]), minlength=len(texts)).double()
    kept = number.nonzero()[:, 0]
    if len(kept) < 2:
        raise ValueError(
            "all prompts are the same, and tell nothing of one another; expected two different ones or more"
        )
    if len(kept) <= plan.prompts:
        return SoftPrompts(number[kept] / number.sum(), tuple(str(texts[int(k)]) for k in kept))
    whole_numbers = sorted(key for key, value in trained.conditions.items() if not value.is_floating_point())
    moving = {key: value for key, value in trained.conditions.items() if key not in whole_numbers}
    masks = {key: trained.conditions[key] for key in whole_numbers}
    if not moving or any(not bool(((value == 0) | (value == 1)).all()) for value in masks.values()):
        raise ValueError(
            f"got {len(kept)} different prompts, and this model is told them as whole numbers, between which there is nothing; expected "
            f"SoftPlan(prompts={len(kept)}) or more"
        )
    share = number / number.sum()
    group = _clusters(moving, share, plan.prompts, seed)
    count = int(group.max()) + 1
    vectors = {key: _means(value, share, group, count) for key, value in moving.items()}
    held = {key: torch.stack([value[group == k].amax(0) for k in range(count)]) for key, value in masks.items()}
    probability = torch.zeros(count, dtype=torch.float64).index_add_(0, group, share)
    start = SoftPrompts(probability, vectors={**vectors, **held})
    return _trained(denoiser, (trained, watched), group, start, plan, ends, seed, progress)


def _means(value: Tensor, share: Tensor, group: Tensor, count: int) -> Tensor:
    weight = share.to(torch.float32)
    total = torch.zeros(count).index_add_(0, group, weight)
    flat = value.detach().cpu().float().flatten(1) * weight[:, None]
    return (torch.zeros(count, flat.shape[1]).index_add_(0, group, flat) / total[:, None]).unflatten(1, value.shape[1:])


def _clusters(conditions: Condition, share: Tensor, count: int, seed: int) -> Tensor:
    """`(U,)` which of at most `count` groups each condition is in, by k-means, begun with some far from each other."""
    flat = torch.cat([value.detach().cpu().float().flatten(1) for _, value in sorted(conditions.items())], 1)
    generator = generator_of(seed)
    chosen = [int(torch.multinomial(share.float(), 1, generator=generator))]
    away = (flat - flat[chosen[0]]).square().sum(1)
    while len(chosen) < count and bool((away > 0).any()):
        chosen.append(int(torch.multinomial(away * share.float(), 1, generator=generator)))
        away = torch.minimum(away, (flat - flat[chosen[-1]]).square().sum(1))
    centres = flat[chosen]
    group = torch.cdist(flat, centres).argmin(1)
    for _ in range(_ROUNDS):
        total = torch.zeros(len(centres)).index_add_(0, group, share.float())
        sums = torch.zeros_like(centres).index_add_(0, group, flat * share.float()[:, None])
        centres = torch.where(total[:, None] > 0, sums / total[:, None].clamp(min=1e-30), centres)
        again = torch.cdist(flat, centres).argmin(1)
        if torch.equal(again, group):
            break
        group = again
    return torch.unique(group, return_inverse=True)[1]


def _trained(
    denoiser: Adapted,
    data: tuple[Encoded, Encoded],
    group: Tensor,
    start: SoftPrompts,
    plan: SoftPlan,
    ends: tuple[float, float],
    seed: int,
    progress: bool,
) -> SoftPrompts:
    assert start.vectors is not None
    trained, watched = data
    device, levels = device_of(denoiser, trained.x), Levels(*ends, 1.0)
    own = {key: value.dtype for key, value in (trained.conditions or {}).items()}
    held = {key: onto(value, device) for key, value in start.vectors.items()}
    weights = {key: value.clone().requires_grad_(True) for key, value in held.items() if value.is_floating_point()}
    optimizer = torch.optim.AdamW(list(weights.values()), lr=plan.lr, weight_decay=0.0)

    def error(rows: Encoded, chosen: Tensor, generator: torch.Generator) -> Tensor:
        assert rows.which is not None
        x = onto(rows.x[chosen].float(), device)
        logsnr = denoiser.snap(levels.draw(len(x), generator))
        eps = onto(torch.randn(x.shape, generator=generator), device)
        own_group = onto(group[rows.which[chosen]], device)
        told = {key: weights.get(key, value)[own_group].to(own[key]) for key, value in held.items()}
        return (eps - denoiser(add_noise(x, logsnr, eps), logsnr, told)).square().flatten(1).sum(1).mean()

    def look() -> float:
        with torch.no_grad():
            chosen = torch.arange(len(watched.x)).split(64)
            parts = [error(watched, rows, generator_of(seed + k)) * len(rows) for k, rows in enumerate(chosen)]
        return float(torch.stack(parts).sum()) / len(watched.x)

    best, kept, stale = look(), {key: value.detach().clone() for key, value in weights.items()}, 0
    with (
        torch.enable_grad(),
        tqdm(total=plan.steps, desc="soft prompts", disable=not (progress and somebody_looks())) as bar,
    ):
        for step in range(plan.steps):
            generator = step_generator(seed, step)
            loss = error(trained, torch.randint(len(trained.x), (plan.batch,), generator=generator), generator)
            if not bool(loss.isfinite()):
                raise ValueError(f"the loss is {float(loss.detach())} at step {step}; lower the rate of {plan.lr}")
            optimizer.param_groups[0]["lr"] = cosine_rate(plan.lr, step, plan.steps, max(1, plan.steps // 10))
            grads = torch.autograd.grad(loss, list(weights.values()))
            for value, grad in zip(weights.values(), grads, strict=True):
                value.grad = grad
            optimizer.step()
            bar.update()
            if (step + 1) % plan.check_every == 0 or step + 1 == plan.steps:
                seen = look()
                if seen < best:
                    best, kept, stale = seen, {key: value.detach().clone() for key, value in weights.items()}, 0
                else:
                    stale += 1
                if stale >= plan.patience:
                    break
    vectors = {key: kept.get(key, value).detach().cpu().to(own[key]) for key, value in held.items()}
    return replace(start, vectors=vectors)
