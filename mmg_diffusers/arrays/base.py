"""Networks over named variables, each of which is diffused, given or absent at any call, and the denoisers read off them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.values import named
from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.levels import add_noise

# Devices whose numbers have 32 bits at most.
_NO_FLOAT64 = {"mps"}


def levels_on(logsnr: Tensor, device: torch.device) -> Tensor:
    """Levels of noise on a device, in float64 unless it has none."""
    return (logsnr.float() if device.type in _NO_FLOAT64 else logsnr).to(device)


class Roles(NamedTuple):
    """Which variables are diffused and which are given, by name; all others are absent."""

    diffused: tuple[str, ...]
    given: tuple[str, ...]


class MultiDenoiser(nn.Module, ABC):
    """One network over named variables. Only `forward` has to be written.

    Args:
        shapes: of one value of each variable.
        logsnr_range: levels that it is trained on.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], logsnr_range: tuple[float, float]) -> None:
        super().__init__()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.logsnr_range = logsnr_range

    @abstractmethod
    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict the noise in every diffused variable.

        Args:
            noisy: the diffused variables, `(B, *shape)` each, all at the same level.
            logsnr: `(B,)` float64; float32 on devices that have no float64.
            given: the variables that are known, clean. What is in neither is absent: averaged over, never zero.

        Returns:
            eps of every diffused variable.
        """

    def read(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Prepare `given` for many calls of `forward`, so that a network does once what is the same at all levels of noise.

        Each value has as many rows as what it was made of, or one. By default the variables as they are.
        """
        return dict(given)

    def losses(
        self, data: Mapping[str, Tensor], assignments: Sequence[Roles], logsnr: Tensor, eps: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Squared errors of all assignments at one shared noise, and how far their predictions of a variable differ: see `losses.losses`."""
        errors: list[Tensor] = []
        seen: dict[str, Tensor] = {}
        differ: list[Tensor] = []

        def square(difference: Tensor) -> Tensor:
            return difference.square().flatten(logsnr.ndim).sum(-1)

        def repeated(x: Tensor) -> Tensor:
            copies = logsnr.shape[-1] // x.shape[logsnr.ndim - 1]
            return x if copies == 1 else x.repeat(copies, *[1] * (x.ndim - 1))

        for roles in assignments:
            clean = {name: repeated(data[name]) for name in self.shapes if name in roles.diffused}
            noisy = {name: add_noise(x, logsnr, eps[name]) for name, x in clean.items()}
            given = self.read({name: data[name] for name in self.shapes if name in roles.given})
            parts = self(noisy, logsnr, {name: repeated(x) for name, x in given.items()})
            errors.append(sum((square(eps[name] - part) for name, part in parts.items()), torch.zeros(())))
            for name, part in parts.items():
                if name in seen:
                    differ.append(square(part.detach() - seen[name]))
                else:
                    seen[name] = part.detach()
        return torch.stack(errors), sum(differ, torch.zeros_like(errors[0].detach()))

    def snap(self, logsnr: Tensor) -> Tensor:
        """The levels that the network knows, nearest to those asked for; by default all that there are. Any shape, float64."""
        return logsnr

    def view(self, *diffused: str) -> View:
        """See the network as a denoiser of these variables; its conditions hold given variables by name.

        Raises:
            ValueError: for a name that it does not have.
        """
        return View(self, diffused)

    def crossed(self, first: str, second: str) -> Crossed:
        """See the joint denoiser of two variables against both conditional ones, for MINDE-J."""
        return Crossed(self, first, second)

    def need(self, names: Sequence[str]) -> None:
        """Raise a ValueError for a name that the network does not have."""
        unknown = [name for name in names if name not in self.shapes]
        if unknown:
            raise ValueError(f"no variable {shown(unknown[0])}; the network has {named(self.shapes)}")


class GaussianStart(MultiDenoiser):
    """A network that starts as the exact denoiser of a Gaussian law.

    The law's covariance is float64 and stays on the CPU, wherever the network goes: not every device has float64. It
    travels in the state dict as a buffer would.

    Args:
        shapes, logsnr_range: as of any `MultiDenoiser`.
        covariance: of the law.
    """

    covariance: Tensor

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], logsnr_range: tuple[float, float], covariance: Tensor
    ) -> None:
        super().__init__(shapes, logsnr_range)
        self.covariance = covariance.detach().cpu().double()

    @abstractmethod
    def forget(self) -> None:
        """Drop what was computed from the covariance, which is another one now."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}covariance"] = self.covariance

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        key = f"{prefix}covariance"
        rest = {name: value for name, value in state_dict.items() if name != key}
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        value = state_dict.get(key)
        if value is None:
            missing_keys.append(key)
        elif value.shape != self.covariance.shape:
            error_msgs.append(
                f"{key} has shape {tuple(value.shape)}; expected that of this network, {tuple(self.covariance.shape)}"
            )
        else:
            self.covariance = value.detach().cpu().double().clone()
            self.forget()


class View(Denoiser):
    """A `MultiDenoiser` for one choice of diffused variables: an ordinary denoiser.

    One variable keeps its shape; several are laid side by side along dimension 1. A condition holds the given
    variables by name; those that are in neither are absent, and no condition means that all others are.
    """

    def __init__(self, network: MultiDenoiser, diffused: Sequence[str]) -> None:
        super().__init__()
        network.need(diffused)
        if not diffused:
            raise ValueError(f"nothing is diffused; name one or more of {named(network.shapes)}")
        self.network, self.diffused = network, tuple(diffused)
        self.logsnr_range = network.logsnr_range

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.network.snap(super().snap(logsnr))

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        given = dict(cond or {})
        self.network.need(list(given))
        sizes = [self.network.shapes[name][0] for name in self.diffused]
        noisy = dict(zip(self.diffused, z.split(sizes, 1), strict=True))
        eps = self.network(noisy, logsnr, given)
        return torch.cat([eps[name] for name in self.diffused], 1)


class Crossed(Denoiser):
    """The joint denoiser of two variables; with a condition, each of the two given the other, clean.

    z holds both, side by side along dimension 1; the condition holds both by name. Gap and orthogonal of the two
    branches are the mutual information (arXiv 2310.09031, eq. 20).
    """

    def __init__(self, network: MultiDenoiser, first: str, second: str) -> None:
        super().__init__()
        self.joint = network.view(first, second)
        self.network, self.names = network, (first, second)
        self.logsnr_range = network.logsnr_range

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.network.snap(super().snap(logsnr))

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        if cond is None:
            return self.joint(z, logsnr)
        first, second = self.names
        sizes = [self.network.shapes[name][0] for name in self.names]
        z_first, z_second = z.split(sizes, 1)
        return torch.cat(
            [
                self.network({first: z_first}, logsnr, {second: cond[second]})[first],
                self.network({second: z_second}, logsnr, {first: cond[first]})[second],
            ],
            1,
        )
