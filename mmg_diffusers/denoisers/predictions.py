"""What networks predict: targets p x + q eps, as factors (p, q) of the scales (a, s) of signal and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _edm(a: Tensor, s: Tensor, sigma_data: float = 0.5) -> tuple[Tensor, Tensor]:
    # Karras et al. 2022, table 1: x = c_skip y + c_out F with y = x + sigma eps.
    sigma = s / a
    total = (sigma**2 + sigma_data**2).sqrt()
    skip, out = sigma_data**2 / total**2, sigma * sigma_data / total
    return (1 - skip) / out, -skip * sigma / out


def _reversed_edm(a: Tensor, s: Tensor, sigma_data: float = 0.5) -> tuple[Tensor, Tensor]:
    p, q = _edm(a, s, sigma_data)
    return -p, -q


PREDICTIONS: Mapping[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "epsilon": lambda a, s: (torch.zeros_like(a), torch.ones_like(a)),
    "sample": lambda a, s: (torch.ones_like(a), torch.zeros_like(a)),
    "v_prediction": lambda a, s: (-s, a),
    "flow_prediction": lambda a, s: (-torch.ones_like(a), torch.ones_like(a)),
    "reversed_flow_prediction": lambda a, s: (torch.ones_like(a), -torch.ones_like(a)),
    "edm": _edm,
    "reversed_edm": _reversed_edm,
}
"""What a network predicts, as the factors (p, q) of its target p x + q eps. Names are those of diffusers; its flow
prediction is eps - x, the reversed one x - eps. The reversed EDM prediction is -F, which EDM schedulers call v_prediction."""
TARGETS: Mapping[str, str] = {
    "epsilon": "eps",
    "sample": "x",
    "v_prediction": "a eps - s x",
    "flow_prediction": "eps - x",
    "reversed_flow_prediction": "x - eps",
    "edm": "F of Karras et al. 2022",
    "reversed_edm": "-F of Karras et al. 2022",
}
"""The same in words, sign and all, of z = a x + s eps."""
OF_DATA = {"edm": _edm, "reversed_edm": _reversed_edm}
"""Those that depend on the standard deviation of the data."""
