"""See both branches of guidance in any pipeline, by one hook on the network that makes them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from mmg_diffusers.analysis.path_influence import PathInfluence, PathRecorder
from mmg_diffusers.pipelines.adapters import Family

# What networks of diffusers call their level.
_TIMES = ("timestep", "timesteps", "t")


class Watch:
    """A context in which what guidance's two branches differ by is recorded: ``with pipe.watch() as seen: pipe.pipe(...)``.

    Nothing that the pipeline does changes, and no call is added. Branches are told by what the network is given: rows whose
    two halves are one noisy image, or two calls in a row of the same one at the same level. Their order does not matter.

    Args:
        family: of the pipeline.
    """

    def __init__(self, family: Family) -> None:
        self._family, self._recorder = family, PathRecorder(family.convention())
        self._hooks: list[Any] = []
        self._waiting: tuple[Tensor, float, Tensor] | None = None

    def __enter__(self) -> Self:
        self._hooks = [
            network.register_forward_hook(self._seen, with_kwargs=True) for network in self._family.networks()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._give_up()

    def read(self) -> PathInfluence:
        """What was seen of the last run.

        Raises:
            ValueError: if no two steps ran both branches.
        """
        return self._recorder.read()

    def _give_up(self) -> None:
        """A call that no second one followed was a step of one branch."""
        if self._waiting is not None:
            self._recorder.skip(self._waiting[1])
        self._waiting = None

    def _seen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        given = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        x = _stacked(list(given.values())[1])
        time = next(given[name] for name in _TIMES if name in given)
        predicted = _stacked(out[0] if isinstance(out, tuple) else getattr(out, "sample", out))
        if self._family.learned_variance:
            predicted = predicted.chunk(2, 1)[0]
        config = getattr(module, "config", {})
        if predicted.ndim == 5 and predicted.shape[2] == config.get("out_channels") != predicted.shape[1]:
            predicted = predicted.movedim(2, 1)  # frames come before channels (CogVideoX)
        # With a time for every token, those of what is denoised are the noisiest.
        told = torch.as_tensor(time).double().cpu()
        told = told.flatten(1)[0].amax() if told.ndim > 1 else told.flatten()[0]
        logsnr = float(self._family.level_told(told, x))
        half = len(x) // 2
        if len(x) % 2 == 0 and torch.equal(x[:half], x[half:]):
            self._give_up()
            self._recorder.add(logsnr, predicted[:half], predicted[half:], True)
            return
        if self._waiting is not None:
            before, level, other = self._waiting
            if level == logsnr and before.shape == x.shape and torch.equal(before, x):
                self._waiting = None
                self._recorder.add(logsnr, predicted, other, True)
                return
        self._give_up()
        self._waiting = x.detach().clone(), logsnr, predicted.detach().clone()


class Calls:
    """A context in which the rows that go through networks are counted: ``with Calls(networks) as counted: ...; counted.rows``."""

    def __init__(self, networks: tuple[nn.Module, ...]) -> None:
        self._networks, self._hooks = networks, list[Any]()
        self.rows = 0

    def __enter__(self) -> Self:
        self._hooks = [network.register_forward_hook(self._count) for network in self._networks]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, _module: nn.Module, _args: Any, out: Any) -> None:
        made = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        self.rows += len(made)


def _stacked(value: Any) -> Tensor:
    """Rows, that some networks take and give as a list."""
    return torch.stack(list(value)) if isinstance(value, (list, tuple)) else value
