"""A small residual network over vectors, which starts as the exact denoiser of their Gaussian law."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.base import GaussianStart, MultiDenoiser, Roles
from mmg_diffusers.arrays.seeds import generator_of
from mmg_diffusers.checks import shown, two_ends, whole
from mmg_diffusers.denoisers.levels import add_noise, per_event, signal_and_noise

__all__ = ["MultiDenoiser", "Roles", "VectorNetwork"]


class _Linear(nn.Module):
    """A linear layer of each member of a stack: `(E, B, in) -> (E, B, out)`."""

    def __init__(self, members: int, features: int, out: int, generator: torch.Generator, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(members, features, out).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(members, 1, out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _Norm(nn.Module):
    """Layer norm of each member of a stack."""

    def __init__(self, members: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, features))
        self.bias = nn.Parameter(torch.zeros(members, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:  # one operation, and one backwards
            return nn.functional.layer_norm(x, x.shape[-1:], self.weight[0, 0], self.bias[0, 0])
        return torch.addcmul(self.bias, nn.functional.layer_norm(x, x.shape[-1:]), self.weight)


class _Block(nn.Module):
    """A gated residual block, normalised first."""

    def __init__(self, members: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = _Norm(members, width)
        self.grow = _Linear(members, width, 2 * width, generator)
        self.shrink = _Linear(members, width, width, generator)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.grow(self.norm(x)).chunk(2, -1)
        return x + self.shrink(value * nn.functional.silu(gate))


class _Gaussian(NamedTuple):
    """The exact denoiser of the diffused given the given, for one choice of roles and a Gaussian law; `(E, ...)`."""

    values: Tensor
    vectors: Tensor
    gain: Tensor
    axes: bool  # whether the vectors are the coordinate axes


class _Places(NamedTuple):
    """Rows of the first layer and columns of the last that one choice of roles needs; the others see zeros."""

    inlet: Tensor
    flags: Tensor  # rows that see a one
    absent: Tensor  # columns whose learned null stands in for a value
    absent_inlet: Tensor
    outlet: Tensor


class _Noisy(NamedTuple):
    """A noisy value, its level, and what a network reads off them."""

    z: Tensor
    a: Tensor
    s: Tensor
    squares: Tensor
    level: Tensor
    waves: list[Tensor]


class _Started(NamedTuple):
    """One choice of roles before the trunk, and what its output is put together with."""

    hidden: Tensor
    linear: Tensor
    unexplained: Tensor
    scaled: Tensor
    vectors: Tensor | None

    def eps(self, shift: Tensor, stretch: Tensor) -> Tensor:
        """The predicted noise."""
        eps = self.linear + self.unexplained * torch.addcmul(shift, stretch, self.scaled)
        return eps if self.vectors is None else eps @ self.vectors.mT


class VectorNetwork(GaussianStart):
    """A residual MLP over vectors, for one member or a stack of members that are trained side by side.

    It starts as the exact denoiser of a Gaussian law, for any choice of roles, and learns what that lacks: a task that is
    Gaussian is solved before the first step.

    Args:
        sizes: of each variable. Values are expected standardised and, best, whitened.
        covariance: `(E, D, D)` or `(D, D)` of all variables, in the order of `sizes`.
        logsnr_range: levels that it is trained on.
        width, blocks: of the trunk.
        frequencies: Fourier features of the level.
        waves: Fourier features of every coordinate's rank in a normal law, sin and cos of pi k Phi(v) for k from 1 on: what
            repeats or is cut into cells is slow to find without them.
        seed: of the starting weights, or a generator on the CPU that they are drawn from. Two networks with the same
            seed start alike; torch's global generator is not touched.

    Raises:
        ValueError: for a covariance of another size, or one that is not positive definite.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        covariance: Tensor,
        *,
        logsnr_range: tuple[float, float] = (-8.0, 12.0),
        width: int = 64,
        blocks: int = 2,
        frequencies: int = 5,
        waves: int = 0,
        seed: int | torch.Generator = 0,
    ) -> None:
        low, high = two_ends(logsnr_range, "logsnr_range")
        generator = seed if isinstance(seed, torch.Generator) else generator_of(whole(seed, "seed", 0))
        if not sizes:
            raise ValueError("the network has no variable; name one or more, with their sizes")
        for name, size in (*sizes.items(), ("width", width), ("blocks", blocks), ("frequencies", frequencies)):
            whole(size, f"the size of {shown(name)}" if name in sizes else name, 1)
        whole(waves, "waves", 0)
        if not low < high:
            raise ValueError(f"logsnr_range is {logsnr_range}; expected a rising range")
        total = sum(sizes.values())
        covariance = covariance.detach().cpu().double()
        covariance = covariance if covariance.ndim == 3 else covariance[None]
        if covariance.shape[1:] != (total, total):
            raise ValueError(f"expected a covariance of {total} coordinates, got {tuple(covariance.shape)}")
        if not bool(covariance.isfinite().all()) or float(torch.linalg.eigvalsh(covariance).min()) <= 0:
            raise ValueError("the covariance is not positive definite; whiten the variables, and drop constant columns")
        super().__init__({name: (size,) for name, size in sizes.items()}, (low, high), covariance)
        members = len(covariance)
        self.sizes, self.members, self.frequencies, self.waves = dict(sizes), members, frequencies, waves
        self.where = {}
        start = 0
        for name, size in sizes.items():
            self.where[name] = slice(start, start + size)
            start += size
        # Of every coordinate: noisy value, normalised residual of the linear prediction, square; clean value, square; and
        # both values times every variable's norm, as scales and rotations that depend on a norm are slow to find
        # otherwise. Of every variable: log of its norm, and two flags for its role. And the level.
        # And of every coordinate, if asked for, the waves of its noisy and of its clean value.
        kinds = (
            [total] * (5 + 2 * len(sizes))
            + [3 * len(sizes), 2 * frequencies + 1]
            + [2 * waves * total] * (2 * (waves > 0))
        )
        self.null = nn.Parameter(torch.zeros(members, 1, total))
        self.inlet = _Linear(members, sum(kinds), width, generator)
        # Kinds of features start with equal weight: many coordinates would drown the few norms and the level.
        scale = torch.cat([torch.full((n, 1), math.sqrt(sum(kinds) / len(kinds) / n)) for n in kinds])
        with torch.no_grad():
            self.inlet.weight.mul_(scale)
        self.trunk = nn.ModuleList(_Block(members, width, generator) for _ in range(blocks))
        self.norm = _Norm(members, width)
        self.outlet = _Linear(members, width, 2 * total, generator, zero=True)
        self._laws: dict[tuple[Roles, torch.device], _Gaussian] = {}
        self._kept: dict[tuple[Roles, torch.device], _Places] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments that make the network, beside its covariance; JSON can hold them."""
        return {
            "sizes": self.sizes,
            "logsnr_range": list(self.logsnr_range),
            "width": self.norm.weight.shape[-1],
            "blocks": len(self.trunk),
            "frequencies": self.frequencies,
            "waves": self.waves,
        }

    # ---- the Gaussian part ----

    def forget(self) -> None:
        self._laws.clear()

    def _columns(self, names: Sequence[str]) -> Tensor:
        return torch.cat(
            [torch.arange(self.where[n].start, self.where[n].stop) for n in names] or [torch.zeros(0).long()]
        )

    def _law(self, roles: Roles, device: torch.device) -> _Gaussian:
        key = (roles, device)
        if key not in self._laws:
            cov = self.covariance
            d, g = self._columns(roles.diffused), self._columns(roles.given)
            inner, cross, outer = cov[:, d][:, :, d], cov[:, d][:, :, g], cov[:, g][:, :, g]
            gain = torch.linalg.solve(outer, cross.mT).mT if len(g) else cross
            rest = inner - gain @ cross.mT
            diagonal = rest.diagonal(dim1=1, dim2=2)
            axes = bool((rest - torch.diag_embed(diagonal)).abs().max() < 1e-12)
            if axes:
                values, vectors = diagonal, torch.eye(len(d), dtype=cov.dtype).expand_as(rest)
            else:
                values, vectors = torch.linalg.eigh((rest + rest.mT) / 2)
            self._laws[key] = _Gaussian(
                values.clamp(min=1e-12).float()[:, None].to(device),
                vectors.float().to(device),
                gain.float().to(device),
                axes,
            )
        return self._laws[key]

    # ---- the network ----

    def _places(self, roles: Roles, device: torch.device) -> _Places:
        key = (roles, device)
        if key not in self._kept:
            total, count = self.covariance.shape[-1], len(self.sizes)
            d, g = self._columns(roles.diffused), self._columns(roles.given)
            absent = self._columns([n for n in self.sizes if n not in roles.diffused and n not in roles.given])
            present = [k for k, name in enumerate(self.sizes) if name in roles.diffused or name in roles.given]
            blocks = [d, total + d, 2 * total + d, 3 * total + g, 4 * total + g]
            for k in present:
                blocks += [(5 + 2 * k) * total + d, (6 + 2 * k) * total + g]
            marks = (5 + 2 * count) * total
            waves = marks + 3 * count + 2 * self.frequencies + 1
            level = torch.arange(marks + 3 * count, waves)
            each = torch.arange(2 * self.waves)[:, None] * total
            ripples = [(waves + each + d).flatten(), (waves + 2 * self.waves * total + each + g).flatten()]
            flags = [marks + count + k for k, name in enumerate(self.sizes) if name in roles.diffused]
            flags += [marks + 2 * count + k for k, name in enumerate(self.sizes) if name in roles.given]
            rows = torch.cat([*blocks, marks + torch.tensor(present), level, *ripples])
            places = (rows, torch.tensor(flags), absent, 3 * total + absent, torch.cat([d, total + d]))
            self._kept[key] = _Places(*(part.to(device) for part in places))
        return self._kept[key]

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        roles = Roles(tuple(n for n in self.sizes if n in noisy), tuple(n for n in self.sizes if n in given))
        z = torch.cat([noisy[name] for name in roles.diffused], -1)
        known = torch.cat([given[name] for name in roles.given], -1) if roles.given else z[..., :0]
        flat = z.ndim == 2  # a plain batch, for one member
        if flat:
            if self.members > 1:
                raise ValueError(f"a stack of {self.members} networks; take one with .member(k)")
            z, known, logsnr = z[None], known[None], logsnr[None]
        # At the clean end the noise is in the last digits of z, which half precision does not have.
        kind = z.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            eps = self.stacked(roles, z.float(), logsnr, known.float())
        parts = eps.split([self.sizes[name] for name in roles.diffused], -1)
        return {name: part[0] if flat else part for name, part in zip(roles.diffused, parts, strict=True)}

    def stacked(self, roles: Roles, z: Tensor, logsnr: Tensor, known: Tensor) -> Tensor:
        """eps of the diffused variables, side by side: `(E, B, d)` float32, for `known` `(E, B, g)`."""
        return self.together([(roles, known)], z, logsnr)[0]

    def together(self, asked: Sequence[tuple[Roles, Tensor]], z: Tensor, logsnr: Tensor) -> list[Tensor]:
        """What `stacked` gives of several roles that diffuse the same variables, at one noise and in one pass of the trunk.

        Args:
            asked: roles, and what they are given, `(E, B, g)` each.
            z, logsnr: `(E, B, d)` and `(E, B)`.
        """
        noisy = self._noisy(z, logsnr)
        parts = [self._start(roles, noisy, known) for roles, known in asked]
        hidden = torch.cat([part.hidden for part in parts], -2) if len(parts) > 1 else parts[0].hidden
        for block in self.trunk:
            hidden = block(hidden)
        outlet = self._places(asked[0][0], z.device).outlet
        last_weight = self.outlet.weight.index_select(-1, outlet)
        last_bias = self.outlet.bias.index_select(-1, outlet)
        found = torch.baddbmm(last_bias, self.norm(hidden), last_weight).split(z.shape[-2], -2)
        return [part.eps(*one.chunk(2, -1)) for part, one in zip(parts, found, strict=True)]

    def losses(
        self, data: Mapping[str, Tensor], assignments: Sequence[Roles], logsnr: Tensor, eps: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if all(roles.diffused == assignments[0].diffused for roles in assignments):
            return _losses_at_once(self, data, assignments, logsnr, eps)
        return super().losses(data, assignments, logsnr, eps)

    def _noisy(self, z: Tensor, logsnr: Tensor) -> _Noisy:
        """What a noisy value and its level are to a network, whatever is given."""
        low, high = self.logsnr_range
        place = (2 * (logsnr - low) / (high - low) - 1).float().to(z.device)[..., None]
        waves = place * (torch.arange(1, self.frequencies + 1, device=z.device) * (math.pi / 2))
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        return _Noisy(z, a, s, z.square(), torch.cat([place, waves.sin(), waves.cos()], -1), _ripples(z, self.waves))

    def _norms(self, names: Sequence[str], squares: Tensor) -> dict[str, Tensor]:
        """The log of each variable's norm, from the squares of its coordinates."""
        norms: dict[str, Tensor] = {}
        for name, part in zip(names, squares.split([self.sizes[n] for n in names], -1), strict=True):
            size = self.sizes[name]
            norms[name] = ((part.sum(-1, keepdim=True) + 1e-3).log() - math.log(size)) / math.sqrt(2 / size + 0.1)
        return norms

    def _start(self, roles: Roles, noisy: _Noisy, known: Tensor) -> _Started:
        """One choice of roles up to the trunk."""
        z, a, s = noisy.z, noisy.a, noisy.s
        law = self._law(roles, z.device)
        residual = z - a * (known @ law.gain.mT) if roles.given else z
        if not law.axes:
            residual = residual @ law.vectors
        variance = a * a * law.values + s * s
        deviation = variance.rsqrt()
        scaled = residual * deviation
        # In its eigenbasis a Gaussian's linear prediction leaves a v / (a v + s) of eps unexplained.
        unexplained = a * law.values.sqrt() * deviation
        norms = self._norms(roles.diffused, noisy.squares)
        features = [z, scaled, (noisy.squares - 1) * 0.3]
        if roles.given:
            squares = known.square()
            norms |= self._norms(roles.given, squares)
            features += [known, (squares - 1) * 0.3]
        # In the order of the variables, as the first layer has them.
        ordered = [norms[name] for name in self.sizes if name in norms]
        features += [value * norm for norm in ordered for value in ((z, known) if roles.given else (z,))]
        features += [*ordered, noisy.level, *noisy.waves, *_ripples(known, self.waves)]
        places, weight = self._places(roles, z.device), self.inlet.weight
        bias = self.inlet.bias + weight.index_select(1, places.flags).sum(1, keepdim=True)
        if len(places.absent):
            bias = bias + self.null.index_select(-1, places.absent) @ weight.index_select(1, places.absent_inlet)
        hidden = torch.baddbmm(bias, torch.cat(features, -1), weight.index_select(1, places.inlet))
        return _Started(hidden, s * scaled * deviation, unexplained, scaled, None if law.axes else law.vectors)

    def member(self, index: int) -> VectorNetwork:
        """Take one network out of the stack, with a copy of its weights.

        Raises:
            IndexError: if there is no such member.
        """
        if not 0 <= index < self.members:
            raise IndexError(f"there are {self.members} members, no number {index}")
        return part_of(self, slice(index, index + 1))


def part_of(network: VectorNetwork, members: slice) -> VectorNetwork:
    """Take some members out as a stack of their own, with a copy of their weights."""
    some = VectorNetwork(covariance=network.covariance[members], **network.config).to(network.null.device)
    some.load_state_dict({key: value[members] for key, value in network.state_dict().items()})
    return some


def _ripples(values: Tensor, waves: int) -> list[Tensor]:
    """Waves of coordinates, sin and cos: each `(E, B, waves d)`, frequency by frequency."""
    if not waves or not values.shape[-1]:
        return []
    numbers = torch.arange(1, waves + 1, device=values.device, dtype=values.dtype) * math.pi
    turns = (torch.special.ndtr(values)[..., None, :] * numbers[:, None]).flatten(-2)
    return [turns.sin(), turns.cos()]


def _losses_at_once(
    network: VectorNetwork,
    data: Mapping[str, Tensor],
    assignments: Sequence[Roles],
    logsnr: Tensor,
    eps: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """`losses` of branches that diffuse the same variables, in one pass: the small operations of two are what takes time."""

    def beside(values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        chosen = [values[name] for name in network.sizes if name in names]
        whole = chosen[0] if len(chosen) == 1 else torch.cat(chosen, -1) if chosen else noise[..., :0]
        copies = logsnr.shape[-1] // whole.shape[-2]
        whole = whole if copies == 1 else torch.cat([whole] * copies, -2)
        return whole.float() if logsnr.ndim == 2 else whole.float()[None]

    diffused = assignments[0].diffused
    noise = torch.cat([eps[name] for name in network.sizes if name in diffused], -1)
    noise = noise if logsnr.ndim == 2 else noise[None]
    levels = logsnr if logsnr.ndim == 2 else logsnr[None]
    z = add_noise(beside(data, diffused), levels, noise)
    roles = [Roles(*(tuple(n for n in network.sizes if n in names) for names in each)) for each in assignments]
    found = network.together([(each, beside(data, each.given)) for each in roles], z, levels)
    errors = torch.stack([(noise - one).square().sum(-1) for one in found])
    seen = [one.detach() for one in found]
    differ = sum(((one - seen[0]).square().sum(-1) for one in seen[1:]), torch.zeros_like(errors[0].detach()))
    return (errors, differ) if logsnr.ndim == 2 else (errors[:, 0], differ[0])
