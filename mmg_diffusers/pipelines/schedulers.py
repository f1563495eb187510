"""The noise conventions that schedulers of diffusers describe in their configs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.checks import finite, shown, whole
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP, Karras, RectifiedFlow


def alphas_cumprod_from_config(config: Mapping[str, Any]) -> Tensor:
    """``alphas_cumprod`` in float64, `(T,)`, from the training part of a scheduler's config.

    Only the config is read: a scheduler's own tables are float32 and some change when steps are set.

    Raises:
        ValueError: for a beta schedule that is not known.
    """
    steps = whole(config.get("num_train_timesteps", 1000), "num_train_timesteps", 2)
    start, end = finite(config.get("beta_start", 1e-4), "beta_start"), finite(config.get("beta_end", 0.02), "beta_end")
    schedule = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = torch.as_tensor(config["trained_betas"], dtype=torch.float64)
    elif schedule == "linear":
        betas = torch.linspace(start, end, steps, dtype=torch.float64)
    elif schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    elif schedule == "squaredcos_cap_v2":
        edges = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    elif schedule == "sigmoid":
        betas = torch.sigmoid(torch.linspace(-6, 6, steps, dtype=torch.float64)) * (end - start) + start
    else:
        raise ValueError(
            f"unknown beta_schedule {shown(schedule)}; expected linear, scaled_linear, squaredcos_cap_v2 or sigmoid. "
            "Give `trained_betas` in the scheduler's config instead."
        )
    if not bool(((betas > 0) & (betas <= 1)).all()):
        raise ValueError(
            f"the scheduler's betas run from {float(betas.min()):.4g} to {float(betas.max()):.4g}; expected shares of the "
            "variance, between 0 and 1"
        )
    alphas = (1 - betas).cumprod(0)
    if config.get("rescale_betas_zero_snr", False):
        # Lin et al. 2023 (arXiv 2305.08891), algorithm 1: shift and scale the signal so that it ends at 0.
        root = alphas.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alphas = root**2
    return alphas


def convention_from_config(name: str, config: Mapping[str, Any]) -> Convention:
    """The convention that a diffusers scheduler's class name and config describe.

    Schedulers that only differ in how they sample (DDIM, Euler, DPM-Solver ...) share their training config.

    Raises:
        ValueError: for a prediction or schedule that is not known.
    """
    if name.startswith("FlowMatch"):
        if config.get("use_dynamic_shifting"):
            raise ValueError(
                f"{name} shifts its times by the image's size (use_dynamic_shifting), so its training levels are not in "
                "the config; build RectifiedFlow.shifted(shift=...) for your size."
            )
        return RectifiedFlow.shifted(shift=config.get("shift", 1.0), steps=config.get("num_train_timesteps", 1000))
    if name.startswith("EDM"):
        # These schedulers call the raw network's output "epsilon".
        if config.get("prediction_type", "epsilon") != "epsilon":
            raise ValueError(
                f"{name} with prediction {shown(config['prediction_type'])} is not known; expected 'epsilon'"
            )
        return Karras(
            "edm",
            sigma_min=config.get("sigma_min", 0.002),
            sigma_max=config.get("sigma_max", 80.0),
            sigma_data=config.get("sigma_data", 0.5),
        )
    return DiscreteVP.from_alphas(alphas_cumprod_from_config(config), config.get("prediction_type", "epsilon"))
