"""How much, and where, a network attends to a token of the prompt while it draws: the baseline of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self


class Attention:
    """Cross attention, seen while a UNet draws: ``with Attention(pipe.unet) as seen: pipe(...)``; then ``seen.maps(tokens)``.

    The heat maps of DAAM (arXiv 2210.04885, section 2.2), layer by layer: softmax(q k) of the token, in the mean over heads and over the
    calls in the context, which all have to be of the same rows, one for each prompt.

    Args:
        network: whose modules called ``attn2`` are read.

    Raises:
        ValueError: for a network without them.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = {name: part for name, part in network.named_modules() if name.endswith("attn2")}
        if not self._layers:
            raise ValueError(f"{type(network).__name__} has no cross attention that is called attn2")
        self._hooks: list[Any] = []
        self._sums: dict[str, Tensor] = {}
        self._calls = dict.fromkeys(self._layers, 0)

    def __enter__(self) -> Self:
        self._hooks = [
            part.register_forward_pre_hook(self._seen(name), with_kwargs=True) for name, part in self._layers.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _seen(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, told = args[0] if args else kwargs["hidden_states"], kwargs["encoder_hidden_states"]

            def heads(x: Tensor) -> Tensor:
                return x.unflatten(-1, (module.heads, -1)).transpose(1, 2)

            query, key = heads(module.to_q(hidden)), heads(module.to_k(told))
            share = (query @ key.transpose(2, 3) * module.scale).softmax(3).mean(1).detach().double()
            self._sums[name] = self._sums.get(name, 0) + share
            self._calls[name] += 1

        return hook

    def maps(self, tokens: Sequence[int], size: int) -> Tensor:
        """`(N, layers, size, size)` shares of attention that a token of each prompt gets, one token a prompt."""
        rows, place = torch.arange(len(tokens)), torch.tensor(list(tokens))
        found: list[Tensor] = []
        for name, total in self._sums.items():
            own = (total / self._calls[name])[rows, :, place]
            side = round(own.shape[1] ** 0.5)
            square = own.reshape(-1, 1, side, side)
            found.append(functional.interpolate(square, (size, size), mode="bilinear", align_corners=False)[:, 0])
        return torch.stack(found, 1)

    @property
    def names(self) -> list[str]:
        """The layers that were seen, in the order of `maps`."""
        return list(self._sums)
