"""A model's two branches as the trainer sees them: a network over an image and its prompt, of which only an adapter is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import Self

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.arrays.losses import Levels
from mmg_diffusers.checks import of_type
from mmg_diffusers.denoisers.base import Adapted, Condition
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.identity import Identity, row_marks
from mmg_diffusers.measure.batches import Pairs, check_condition
from mmg_diffusers.tuning.adapters import Networks

# Fewer different x than this are not tuned to: one would be all that the model then knows.
FEWEST = 8


@dataclass(frozen=True)
class Encoded:
    """Data as the networks see them.

    Args:
        x: `(N, *event)`, such as latents.
        conditions: K different conditions, a row each; ``None`` without prompts.
        which: `(N,)` int64, the condition of each x.

    Raises:
        TypeError, ValueError: for x that cannot be measured, or conditions that do not fit.
    """

    x: Tensor
    conditions: Condition | None = None
    which: Tensor | None = None

    def __post_init__(self) -> None:
        pairs = Pairs.of(self.x)
        if (self.conditions is None) != (self.which is None):
            raise ValueError("conditions and which belong together: give both, or neither")
        if self.conditions is not None and self.which is not None:
            of_type(self.which, Tensor, "which", "the row of each x's condition")
            count = len(next(iter(self.conditions.values()), ()))
            check_condition(self.conditions, count, "conditions")
            if (
                self.which.shape != (len(pairs),)
                or self.which.is_floating_point()
                or not bool(((self.which >= 0) & (self.which < count)).all())
            ):
                raise ValueError(f"which is {tuple(self.which.shape)}; expected for each x one of {count} rows")

    @cached_property
    def marks(self) -> Tensor:
        """A mark of each x, by which it is known again."""
        return row_marks(self.x)

    def rows(self, index: Tensor) -> Self:
        """Some of the rows."""
        return type(self)(self.x[index], self.conditions, None if self.which is None else self.which[index])

    def variables(self) -> dict[str, Tensor]:
        """By the names that `Branches` has for them."""
        held = {"x": self.x.float()}
        return held if self.which is None else {**held, "prompt": self.which[:, None]}

    def split(self, share: float, seed: int) -> tuple[Self, Self]:
        """Those to train on, and those that are held out; equal ones stay together.

        Raises:
            ValueError: for too few different ones.
        """
        different, place = torch.unique(self.marks, return_inverse=True)
        if len(different) < FEWEST:
            raise ValueError(
                f"got {len(different)} different images to tune to; expected {FEWEST} or more, and hundreds are better: a model that "
                "was tuned to few knows those alone"
            )
        order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed % 2**32))
        apart = torch.isin(place, order[: max(2, round(share * len(different)))])
        return self.rows((~apart).nonzero()[:, 0]), self.rows(apart.nonzero()[:, 0])

    def identity(self) -> Identity:
        """Digest all of it."""
        held = {} if self.conditions is None else dict(self.conditions)
        return Identity.of(self.x, held, self.which)


class _Frozen:
    """What of a model is not trained; copies of the trained part share it."""

    def __init__(self, denoiser: Adapted, networks: Networks, conditions: Condition | None) -> None:
        self.call, self.networks = _Call(networks, denoiser), dict(networks)
        # Tensors that were made in inference mode cannot be trained through.
        self.conditions = None if conditions is None else _clones(conditions)
        held = (
            None if denoiser.null is None else {key: value for key, value in denoiser.null.items() if value is not None}
        )
        self.null = None if held is None else _clones(held)
        self.snap = denoiser.snap

    def __deepcopy__(self, memo: object) -> _Frozen:
        return self


class _Call(nn.Module):
    """A denoiser as a module whose parameters have the names of the networks."""

    def __init__(self, networks: Networks, denoiser: Adapted) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)
        # Not as a module of its own, under which the networks would have other names too.
        self.denoiser = (denoiser,)

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition) -> Tensor:
        return self.denoiser[0](z, logsnr, cond)


class Branches(MultiDenoiser):
    """A model over ``x`` and ``prompt``, the row of a condition; without a prompt it is the null branch.

    Its parameters are the adapter's tensors alone. The networks are called with these in the place of their own, and are
    not changed; they have to carry the adapter meanwhile.

    Args:
        denoiser: of the model.
        networks: its networks, by name.
        weights: what is trained, by the names that `Adapter.on` gives.
        event: shape of x.
        conditions: what prompts are rows of.
        logsnr_range: levels that are trained; all that the model knows by default.
    """

    def __init__(
        self,
        denoiser: Adapted,
        networks: Networks,
        weights: Mapping[str, Tensor],
        event: tuple[int, ...],
        conditions: Condition | None = None,
        logsnr_range: tuple[float, float] | None = None,
    ) -> None:
        shapes = {"x": event} if conditions is None else {"x": event, "prompt": (1,)}
        super().__init__(shapes, logsnr_range or denoiser.logsnr_range)
        self._frozen = _Frozen(denoiser, networks, conditions)
        # A parameter's name has no dots.
        self._names = {name: name.replace(".", ":") for name in weights}
        # In float32: what is added to half precision by small steps would be lost in it.
        self.weights = nn.ParameterDict(
            {self._names[name]: nn.Parameter(value.detach().float().clone()) for name, value in weights.items()}
        )

    @property
    def trained(self) -> dict[str, Tensor]:
        """The tensors as they are now, by the adapter's names; on the CPU."""
        return {name: self.weights[key].detach().cpu().clone() for name, key in self._names.items()}

    def snap(self, logsnr: Tensor) -> Tensor:
        return self._frozen.snap(logsnr)

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        z, frozen = noisy["x"], self._frozen
        if "prompt" in given:
            assert frozen.conditions is not None
            rows = given["prompt"][:, 0].long()
            cond = {key: value[rows.to(value.device)].to(z.device) for key, value in frozen.conditions.items()}
        elif frozen.null is not None:
            cond = {key: value.to(z.device).expand(len(z), *value.shape[1:]) for key, value in frozen.null.items()}
        else:
            raise ValueError("this network has no unconditional branch to tune; expected branches='conditional'")
        weights = {name: self.weights[key] for name, key in self._names.items()}
        return {"x": functional_call(frozen.call, weights, (z, logsnr, cond))}


@dataclass
class OwnLevels(Levels):
    """The levels and weights that a network of a convention is trained by: even in its own time, and its own target.

    For epsilon prediction of DDPM it is the loss of Ho et al. 2020; for flows the squared error of the velocity at even times.
    """

    convention: Convention = field(kw_only=True)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        even = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
        times = self.convention.tau(torch.tensor([self.high, self.low], dtype=torch.float64))
        level = self.convention.at_tau((times[0] + (times[1] - times[0]) * even).clamp(0, 1))
        return level[torch.randperm(count, generator=generator)].clamp(self.low, self.high)

    def weight(self, logsnr: Tensor) -> Tensor:
        # eps = c_skip z + c_out F: an error of F is one of eps over c_out.
        return self.convention.coefficients(logsnr.cpu()).c_out.square().reciprocal()


def _clones(tensors: Condition) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in tensors.items()}
