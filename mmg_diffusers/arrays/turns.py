"""Maps of whole variables that undo what turns them: linear maps, and rotations of planes by angles that depend on the place.

A rotation by an angle that only what it leaves as it is decides has an inverse, so that turned variables carry the same
information. What is left of a relation that was wound up is linear, and a network that starts from the Gaussian law has little
to learn: a network alone would have to know each angle as finely as the noise at every level, which costs it ten thousands of
steps where there are ten nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.checkpoints import cosine_rate
from mmg_diffusers.arrays.seeds import generator_of, step_generator

# Turns one behind the other, and the width of the network that reads an angle.
LAYERS, WIDTH = 2, 48
# Pairs from which and coordinates up to which turns are looked for, and nats that third powers have to show before: few, as a look
# takes a second.
ENOUGH, WIDEST, SHOWN = 3_000, 128, 0.04
# Steps of the first round (each is twice as long as the one before), pairs a step, rate and its rise.
PILOT, BATCH, RATE, RISE = 100, 1_024, 1e-2, 50
# Nats, and errors of them, that held-out pairs have to gain in the first round, and nats and share that lead to another one.
LEAST, SIGMAS, MORE, SHARE = 0.1, 4, 0.01, 0.002
# Pairs whose law held-out ones are measured by and whose powers are looked at, and rows that are turned at once.
LAW, ROWS = 20_000, 20_000


class _Turn(nn.Module):
    """A linear map, then rotations of some planes by angles that a small network reads off radii and the other coordinates."""

    def __init__(self, size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.planes = max(1, size // 4)
        rest = size - 2 * self.planes
        features = 2 * rest + self.planes + 2
        # Near the identity, but not at it, where no plane could be found.
        self.matrix = nn.Parameter(torch.eye(size) + 0.01 * torch.randn(size, size, generator=generator))
        self.shift = nn.Parameter(torch.zeros(size))
        self.inner = nn.Sequential(
            _linear(features, width, generator), nn.SiLU(), _linear(width, width, generator), nn.SiLU()
        )
        self.angles = _linear(width + features, self.planes, generator, bound=1e-3)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        values = (values + self.shift) @ self.matrix
        turned, rest = values[:, : 2 * self.planes].reshape(len(values), -1, 2), values[:, 2 * self.planes :]
        radii, squares = turned.square().sum(-1), rest.square()
        norm = (radii.sum(-1, keepdim=True) + squares.sum(-1, keepdim=True)) / values.shape[1]
        seen = torch.cat(
            [rest, 0.3 * (squares - 1), 0.3 * (radii - 2), norm - 1, (norm + 1e-3).log()], -1
        )  # no angle, so that there is an inverse
        angle = self.angles(torch.cat([self.inner(seen), seen], -1))
        cos, sin = angle.cos(), angle.sin()
        one, two = turned.unbind(-1)
        turned = torch.stack([cos * one - sin * two, sin * one + cos * two], -1)
        # Rotations keep volumes; what the next turn rotates comes first.
        return torch.cat([rest, turned.flatten(1)], -1), torch.linalg.slogdet(self.matrix)[1]


class Turns(nn.Module):
    """Turns of one variable, one behind the other, and a last linear map.

    Args:
        size: of the variable, 2 or more.
        layers: how many turns.
        width: of the networks that read angles.
        generator: of the starting weights.
    """

    def __init__(
        self, size: int, layers: int = LAYERS, width: int = WIDTH, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        generator = generator_of(0) if generator is None else generator
        self.config = {"size": size, "layers": layers, "width": width}
        self.turns = nn.ModuleList(_Turn(size, width, generator) for _ in range(layers))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("last", torch.eye(size))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Turn `(N, d)` values: what they become before the last map, and the log of the volumes' change, a scalar."""
        volume = values.new_zeros(())
        for turn in self.turns:
            values, change = turn(values)
            volume = volume + change
        return values, volume

    @torch.no_grad()
    def apply_to(self, values: Tensor) -> Tensor:
        """Turn `(N, d)` float64 values, the last map included."""
        ready = copy.deepcopy(self).double()
        turned = torch.cat([ready(part)[0] for part in values.double().split(ROWS)])
        return (turned - ready.get_buffer("mean")) @ ready.get_buffer("last")

    def then(self, mean: Tensor, matrix: Tensor) -> Turns:
        """The same turns, with another last map: less a mean, times a matrix."""
        other = copy.deepcopy(self).double()
        other.get_buffer("mean").copy_(mean)
        other.get_buffer("last").copy_(matrix)
        return other.requires_grad_(False)


class Turned(NamedTuple):
    """Turns by the name of the variable, and by how many nats each round of fitting them raised what held-out pairs tell."""

    turns: dict[str, Turns]
    rounds: tuple[float, ...]

    @property
    def gained(self) -> float:
        """Nats of all rounds that gained."""
        return sum(max(gain, 0.0) for gain in self.rounds)


def fit_turns(data: Mapping[str, Tensor], held_out: Mapping[str, Tensor], steps: int, seed: int = 0) -> Turned | None:
    """Look for turns of two variables that bring a pair near a Gaussian law, by likelihood, in rounds; ``None`` if there are none.

    Args:
        data, held_out: `(N, d)` by name, of two whitened variables. Those of one coordinate are not turned.
        steps: at most; rounds that would need more are not begun.
        seed: of starting weights and batches.
    """
    train, held = ([values.float() for values in part.values()] for part in (data, held_out))
    count, sizes = len(train[0]), [values.shape[1] for values in train]
    if (
        steps < PILOT
        or count < ENOUGH
        or max(sizes) < 2
        or sum(sizes) > WIDEST
        or wound(*(values[:LAW] for values in train)) < SHOWN
    ):
        return None
    generator = generator_of(seed)
    maps = nn.ModuleList(Turns(v.shape[1], generator=generator) if v.shape[1] > 1 else nn.Identity() for v in train)
    optimizer = torch.optim.Adam(maps.parameters(), lr=RATE, betas=(0.9, 0.99))
    told = _told(maps, train, held, plain=True)
    kept, gains, step, length = copy.deepcopy(maps), list[float](), 0, PILOT
    while step + length <= steps:
        for number in range(length):
            for group in optimizer.param_groups:
                group["lr"] = cosine_rate(RATE, number, length, RISE)
            rows = torch.randint(count, (BATCH,), generator=step_generator(seed, step))
            _far_from_gaussian(maps, [values[rows] for values in train]).backward()
            nn.utils.clip_grad_norm_(maps.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        now = _told(maps, train, held)
        apart = now - told
        gains.append(float(apart.mean()))
        if len(gains) == 1 and gains[0] < max(LEAST, SIGMAS * float(apart.std()) / math.sqrt(len(apart))):
            return None
        if gains[-1] > 0:
            kept, told = copy.deepcopy(maps), now
        if not still_gains(gains, float(told.mean())):
            break
        length *= 2
    turns = {name: part for name, part in zip(data, kept, strict=True) if isinstance(part, Turns)}
    return Turned(turns, tuple(gains))


def still_gains(rounds: Sequence[float], nats: float) -> bool:
    """Whether the last round raised what is told, now so many nats, by enough for another one."""
    return len(rounds) > 0 and rounds[-1] > max(MORE, SHARE * nats)


def wound(x: Tensor, y: Tensor) -> float:
    """About how many nats coordinates times their row's squared length tell of the other variable beyond a linear relation.

    Args:
        x, y: `(N, d)`.
    """
    seen = 0.0
    for source, target in ((x, y), (y, x)):
        source, target = source.double(), target.double()
        white = torch.linalg.qr(source - source.mean(0))[0] * math.sqrt(len(source))
        powers = white * white.square().sum(1, keepdim=True)
        left, rest = (_standard(values - white @ (white.T @ values) / len(white)) for values in (powers, target))
        squares = float((left.T @ rest / len(white)).square().sum())
        seen = max(seen, squares / 2 - left.shape[1] * rest.shape[1] / len(white))
    return seen


def _linear(features: int, out: int, generator: torch.Generator, bound: float | None = None) -> nn.Linear:
    layer = nn.Linear(features, out, device="meta").to_empty(device="cpu")  # torch's global generator stays as it is
    bound = 1 / math.sqrt(features) if bound is None else bound
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0).clamp(min=1e-30)


def _turned(maps: nn.ModuleList, values: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    turned, volume = list[Tensor](), torch.zeros(())
    for part, each in zip(maps, values, strict=True):
        if isinstance(part, Turns):
            each, change = part(each)
            volume = volume + change
        turned.append(each)
    return turned, volume


def _covariance(values: Tensor) -> Tensor:
    centred = values.double() - values.double().mean(0)
    return centred.T @ centred / len(centred)


def _far_from_gaussian(maps: nn.ModuleList, values: list[Tensor]) -> Tensor:
    """Minus the log-likelihood of the pair under the Gaussian law that fits its turned values best, up to a constant."""
    turned, volume = _turned(maps, values)
    return torch.linalg.slogdet(_covariance(torch.cat(turned, 1)))[1] / 2 - volume


@torch.no_grad()
def _told(maps: nn.ModuleList, train: list[Tensor], held: list[Tensor], plain: bool = False) -> Tensor:
    """What the Gaussian law of turned training pairs (or of those as they are) tells of held-out ones: `(N,)` float64, in nats."""
    some = [values[:LAW] for values in train]
    fitted, seen = (some, held) if plain else (_turned(maps, some)[0], _turned(maps, held)[0])
    total = torch.zeros(len(held[0]), dtype=torch.float64)
    for sign, parts in ((1, [0, 1]), (-1, [0]), (-1, [1])):
        law = torch.cat([fitted[k] for k in parts], 1)
        root = torch.linalg.cholesky(_covariance(law))
        centred = torch.cat([seen[k] for k in parts], 1).double() - law.double().mean(0)
        white = torch.linalg.solve_triangular(root, centred.T, upper=False)
        total -= sign * (white.square().sum(0) / 2 + root.diagonal().log().sum())
    return total
