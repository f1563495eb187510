"""Pairs that a network was shown many times: does it say more of them than is true, and what tells them from others?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.analysis.excess import excess
from mmg_diffusers.commands.studies.uses.orders import area
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.denoisers.levels import signal_and_noise
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import Value
from mmg_diffusers.runs.stages import Stages

SIDE, WORDS = 8, 6
# What is measured, in log-SNR.
LOW, HIGH = -6.0, 6.0
TIMES = torch.linspace(0.018, 0.982, 400, dtype=torch.float64)
SCORES: Mapping[str, str] = {
    "excess": "excess over the exact information",
    "held out": "excess over a network that never saw them",
    "information": "information alone",
    "norm": "norm of the difference",
    "angle": "angle of the difference to the prediction without a caption",
    "towards": "angle of the difference to what it should be",
    "error": "denoising error, told the caption (less is more)",
}
# Fixed before anything was measured: of pairs that were copied so often, the area under the curve of the excess.
COPIED, AREA = 64, 0.9


@dataclass(frozen=True)
class Settings:
    """What is planted, and how it is looked for.

    Args:
        alone: pairs that are in the training set once.
        planted: pairs for each number of copies.
        copies: the numbers.
        steps, batch, width: of training.
        levels: at which the branches are compared, each with noise of both signs.
        seeds: a training set and a network for each; settings were chosen on 20.
    """

    alone: int = 8_192
    planted: int = 24
    copies: tuple[int, ...] = (8, 64, 512)
    steps: int = 4_000
    batch: int = 256
    width: int = 256
    levels: int = 16
    seeds: tuple[int, ...] = (21, 22)


@dataclass(frozen=True)
class Drawn:
    """Smooth 8x8 pictures `(N, 64)` and their captions `(N, 6)`, what the law says of them, and how often they are in the set."""

    x: Tensor
    y: Tensor
    exact: Tensor


class Pictures:
    """Normal pictures whose captions are some averages of them, and noise: i(x; y) is known in closed form."""

    def __init__(self) -> None:
        place = torch.stack(torch.meshgrid(*(torch.arange(SIDE, dtype=torch.float64),) * 2, indexing="ij"), -1)
        flat = place.reshape(-1, 2)
        covariance = 0.95 * (-torch.cdist(flat, flat).square() / (2 * 2.0**2)).exp() + 0.05 * torch.eye(SIDE**2)
        self.root = torch.linalg.cholesky(covariance)
        generator = torch.Generator().manual_seed(5)
        reads = torch.randn(WORDS, SIDE**2, generator=generator, dtype=torch.float64)
        spread = (reads @ covariance @ reads.T).diagonal().sqrt()
        self.reads = reads / spread[:, None]
        # As much noise as there is picture in a word.
        self.noise = 1.0
        told = self.reads @ covariance @ self.reads.T + self.noise**2 * torch.eye(WORDS, dtype=torch.float64)
        self.law = torch.distributions.MultivariateNormal(torch.zeros(WORDS, dtype=torch.float64), told)

    def sample(self, count: int, seed: int) -> Drawn:
        """Fresh pairs."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, SIDE**2, generator=generator, dtype=torch.float64) @ self.root.T
        mean = x @ self.reads.T
        y = mean + self.noise * torch.randn(count, WORDS, generator=generator, dtype=torch.float64)
        given = torch.distributions.Normal(mean, self.noise).log_prob(y).sum(1)
        return Drawn(x, y, given - self.law.log_prob(y))


class Network(nn.Module):
    """Hidden layers over the noisy picture, its time, its caption, and whether there is one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(SIDE**2 + 5 + WORDS + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, SIDE**2),
        )

    def forward(self, noisy: Tensor, time: Tensor, y: Tensor, told: Tensor) -> Tensor:
        """Predict eps - x at flow time `(B,)`, of captions where `told` `(B,)` is 1."""
        t, said = time.to(noisy)[:, None], told.to(noisy)[:, None]
        clock = torch.cat([t, (3.14 * t).sin(), (3.14 * t).cos(), (6.28 * t).sin(), (6.28 * t).cos()], 1)
        return self.layers(torch.cat([noisy, clock, y.to(noisy) * said, said], 1))


def trained(x: Tensor, y: Tensor, settings: Settings, seed: int) -> Adapted:
    """A network of these pairs, one in five of them shown without its caption."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(settings.width)
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=settings.steps)
        pictures, captions = x.float(), y.float()
        for _ in range(settings.steps):
            rows = torch.randint(len(pictures), (settings.batch,))
            clean, eps = pictures[rows], torch.randn(settings.batch, SIDE**2)
            t = torch.rand(settings.batch) * 0.964 + 0.018
            told = (torch.rand(settings.batch) < 0.8).float()
            noisy = (1 - t)[:, None] * clean + t[:, None] * eps
            loss = (network(noisy, t, captions[rows], told) - (eps - clean)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    convention = RectifiedFlow("flow_prediction", TIMES, time_scale=1.0)
    null = {"y": torch.zeros(1, WORDS), "told": torch.zeros(1)}
    return Adapted(network.eval(), convention, null=null)


def memory(stages: Stages, settings: Settings) -> dict[str, Any]:
    """Train on planted copies and look for them, a seed at a time; each is kept."""
    return {
        "parts": [stages(f"memory-{seed}", lambda seed=seed: looked_for(settings, seed)) for seed in settings.seeds]
    }


def looked_for(settings: Settings, seed: int) -> dict[str, Any]:
    """What each score says of pairs by how often they were in the training set; 0 times for fresh ones."""
    law = Pictures()
    alone = law.sample(settings.alone, 100 * seed)
    planted = law.sample(settings.planted * len(settings.copies), 100 * seed + 1)
    times = torch.tensor(settings.copies).repeat_interleave(settings.planted)
    x = torch.cat([alone.x, planted.x.repeat_interleave(times, 0)])
    y = torch.cat([alone.y, planted.y.repeat_interleave(times, 0)])
    network = trained(x, y, settings, seed)
    other = law.sample(len(x), 100 * seed + 2)
    held_out = trained(other.x, other.y, settings, seed)
    fresh = law.sample(4 * settings.planted, 100 * seed + 3)
    once = slice(0, settings.planted)
    looked = Drawn(
        *(
            torch.cat([getattr(fresh, name), getattr(alone, name)[once], getattr(planted, name)])
            for name in ("x", "y", "exact")
        )
    )
    copies = [0] * len(fresh.x) + [1] * settings.planted + times.tolist()
    cond = {"y": looked.y.float(), "told": torch.ones(len(looked.y))}

    def measured(denoiser: Adapted, levels: int) -> Estimate:
        rule = MMG("gap", Trapezoid(levels), antithetic=True)
        return rule(denoiser, looked.x, cond, logsnr_range=(LOW, HIGH), seed=seed)

    found = measured(network, settings.levels)
    # Two networks at half of the levels take as many rows.
    over = excess(measured(network, settings.levels // 2), measured(held_out, settings.levels // 2))
    above = excess(found, looked.exact)
    norm, angle, towards = differences(network, looked.x, cond, settings.levels, seed)
    return {
        "copies": copies,
        "rows": found.evaluations / len(copies),
        "nats": above.nats.tolist(),
        "stderr": above.stderr.tolist(),
        "exact": looked.exact.tolist(),
        "scores": {
            "excess": above.nats.tolist(),
            "held out": over.nats.tolist(),
            "information": found.nats.tolist(),
            "norm": norm.tolist(),
            "angle": angle.tolist(),
            "towards": towards.tolist(),
            "error": (-found.curve.error.mean((1, 2))).tolist(),
        },
    }


@torch.no_grad()
def differences(
    denoiser: Adapted, x: Tensor, cond: Mapping[str, Tensor], levels: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of e_c - e_u, `(N,)` each, in the mean over levels: its norm, its cosine to e_u, and to eps - e_u."""
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    parts: list[Tensor] = []
    for level in torch.linspace(LOW, HIGH, levels, dtype=torch.float64):
        for own in (eps, -eps):
            at = level.expand(len(x))
            signal, noise = (scale[:, None] for scale in signal_and_noise(at))
            noisy = (signal * x + noise * own).float()
            plain, told = denoiser(noisy, at).double(), denoiser(noisy, at, dict(cond)).double()
            off = told - plain

            def cosine(to: Tensor, off: Tensor = off) -> Tensor:
                return torch.nn.functional.cosine_similarity(off, to, dim=1)

            parts.append(torch.stack([off.norm(dim=1), cosine(plain), cosine(own - plain)]))
    norm, angle, towards = torch.stack(parts).mean(0)
    return norm, angle, towards


# ---- what it says ----


def memory_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: the excess by copies, and how well each score tells copied pairs from fresh ones."""
    parts = result["parts"]
    copies = sorted(set(parts[0]["copies"]))
    yield f"{len(parts)} training sets; {parts[0]['rows']:g} rows a pair for every score."
    yield ""
    yield f"| copies | {' | '.join(map(str, copies))} |"
    yield "|---" * (len(copies) + 1) + "|"
    means = {count: _over_sets([_mean(part, count) for part in parts]) for count in copies}
    yield f"| excess, nats | {' | '.join(plus_minus(means[count], 2) for count in copies)} |"
    yield ""
    own = copies[1:]
    yield f"| told from fresh pairs: area under the curve | {' | '.join(map(str, own))} |"
    yield "|---" * (len(own) + 1) + "|"
    areas: dict[str, dict[int, list[float]]] = {}
    for name, said in SCORES.items():
        areas[name] = {count: [_area(part, name, count) for part in parts] for count in own}
        yield f"| {said} | {' | '.join(plus_minus(_over_sets(areas[name][count])) for count in own)} |"
    yield ""
    yield "| bar | found | met |"
    yield "|---|---|---|"
    rising = all(means[a].value < means[b].value for a, b in pairwise(own))
    yield f"| the excess rises with every step of copies | {', '.join(f'{means[count].value:.2f}' for count in own)} | {_met(rising)} |"
    if COPIED not in own:
        return
    at = _over_sets(areas["excess"][COPIED])
    yield f"| area at {COPIED} copies at least {AREA:g} | {plus_minus(at)} | {_met(at.value >= AREA)} |"
    for name in ("norm", "angle"):
        pairs = zip(areas["excess"][COPIED], areas[name][COPIED], strict=True)
        less = _over_sets([a - b for a, b in pairs])
        clear = less.value > 2 * less.stderr
        yield f"| - above {SCORES[name]} by more than two errors | {plus_minus(less)} | {_met(clear)} |"


def _met(met: bool) -> str:
    return "yes" if met else "no"


def _rows(part: Mapping[str, Any], count: int) -> Tensor:
    return torch.tensor(part["copies"]) == count


def _mean(part: Mapping[str, Any], count: int) -> float:
    return float(torch.tensor(part["nats"], dtype=torch.float64)[_rows(part, count)].mean())


def _area(part: Mapping[str, Any], name: str, count: int) -> float:
    score = torch.tensor(part["scores"][name], dtype=torch.float64)
    chosen = _rows(part, count) | _rows(part, 0)
    return area(score[chosen], _rows(part, count)[chosen])


def _over_sets(values: Sequence[float]) -> Value:
    """The mean over training sets, with its standard error over them."""
    held = torch.tensor(values, dtype=torch.float64)
    error = float(held.std() / len(held) ** 0.5) if len(held) > 1 else float("nan")
    return Value(float(held.mean()), error)
