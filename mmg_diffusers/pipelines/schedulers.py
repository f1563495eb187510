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
    if config.get("snr_shift_scale") is not None:
        # Yang et al. 2024 (CogVideoX, arXiv 2408.06072): SNR divided by a factor, before zero SNR is enforced.
        scale = finite(config["snr_shift_scale"], "snr_shift_scale")
        alphas = alphas / (scale + (1 - scale) * alphas)
    if config.get("rescale_betas_zero_snr", False):
        # Lin et al. 2023 (arXiv 2305.08891), algorithm 1: shift and scale the signal so that it ends at 0.
        root = alphas.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alphas = root**2
    return alphas


_VP = (
    *("DDIMScheduler", "DDIMInverseScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler"),
    *("PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
    *("LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler"),
    *("DPMSolverSDEScheduler", "UniPCMultistepScheduler", "SASolverScheduler"),
    *("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
)
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
# What EDM schedulers call the raw network's output F of Karras et al. (arXiv 2206.00364), and -F.
_EDM_PREDICTIONS = {"epsilon": "edm", "v_prediction": "reversed_edm"}


def convention_from_config(name: str, config: Mapping[str, Any], *, tokens: int | None = None) -> Convention:
    """The convention that a diffusers scheduler's class name and config describe.

    Schedulers that only differ in how they sample (DDIM, Euler, DPM-Solver ...) share their training config.

    Args:
        name: of the scheduler's class.
        config: its config.
        tokens: image tokens of the model's own size, for flows whose times are shifted by it.

    Raises:
        ValueError: for a scheduler, a prediction or a schedule that is not known, and for times that are shifted by the
            number of tokens unless that is given.
    """
    if name in _FLOW or (name in _VP and config.get("use_flow_sigmas")):
        return _flow(name, config, tokens)
    if name in _EDM:
        said = config.get("prediction_type", "epsilon")
        if said not in _EDM_PREDICTIONS:
            raise ValueError(
                f"{name} with prediction {shown(said)} is not known; expected one of {list(_EDM_PREDICTIONS)}"
            )
        return Karras(
            _EDM_PREDICTIONS[said],
            sigma_min=config.get("sigma_min", 0.002),
            sigma_max=config.get("sigma_max", 80.0),
            sigma_data=config.get("sigma_data", 0.5),
        )
    if name not in _VP:
        raise ValueError(
            f"the noise that {name} describes is not known; expected one of {', '.join((*_VP, *_FLOW, *_EDM))}. If the network "
            "was trained with one of these, replace the pipeline's scheduler by it; else build a Convention of "
            "mmg_diffusers.denoisers.conventions."
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction == "flow_prediction":
        raise ValueError(
            f"{name} has prediction_type='flow_prediction' and no use_flow_sigmas: it would read a velocity on levels that are no "
            "flow's. Set use_flow_sigmas=True and flow_shift as the network was trained, or the prediction_type that it has"
        )
    alphas = alphas_cumprod_from_config(_training_part(name, config))
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        return _continuous(config, alphas)
    return DiscreteVP.from_alphas(alphas, prediction)


def _training_part(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with the defaults of the scheduler's own class, where those differ."""
    if not name.startswith("CogVideoX"):
        return config
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "snr_shift_scale": 3.0,
        **config,
    }


def _continuous(config: Mapping[str, Any], alphas: Tensor) -> Karras:
    """Euler's ``timestep_type="continuous"``: the variance-preserving z goes in, 0.25 ln sigma is told (CosXL, SVD)."""
    sigmas = torch.exp(-torch.logit(alphas[alphas > 1e-12]) / 2)
    low, high = config.get("sigma_min"), config.get("sigma_max")
    return Karras(
        "v_prediction",
        sigma_min=float(sigmas[0]) if low is None else low,
        sigma_max=float(sigmas[-1]) if high is None else high,
        sigma_data=1.0,
    )


def _flow(name: str, config: Mapping[str, Any], tokens: int | None) -> RectifiedFlow:
    prediction = config.get("prediction_type", "flow_prediction")
    if name in _FLOW:
        prediction, shift = "flow_prediction", config.get("shift", 1.0)
    elif prediction == "v_prediction":
        # What these read on a flow's levels, (a^2 - 1) x / s + a eps with a = 1 - s, nobody trains.
        raise ValueError(
            f"{name} has use_flow_sigmas=True and prediction_type='v_prediction', which is of variance-preserving noise; expected "
            "'flow_prediction', or use_flow_sigmas=False"
        )
    else:
        shift = config.get("flow_shift", 1.0)
    if config.get("use_dynamic_shifting"):
        if tokens is None:
            raise ValueError(
                f"{name} shifts its times by the image's size (use_dynamic_shifting), so its training levels are not in "
                "the config; give tokens=, the number of image tokens, or build RectifiedFlow.shifted(shift=...)."
            )
        shift = dynamic_shift(config, tokens)
    steps = config.get("num_train_timesteps", 1000)
    if config.get("invert_sigmas"):
        return RectifiedFlow.shifted(
            "reversed_flow_prediction", shift=shift, steps=steps, time_scale=float(steps), told="signal"
        )
    return RectifiedFlow.shifted(prediction, shift=shift, steps=steps, time_scale=float(steps))


def dynamic_shift(config: Mapping[str, Any], tokens: int) -> float:
    """The shift k of t = k u / (1 + (k - 1) u) for an image of so many tokens (Esser et al., arXiv 2403.03206, section 5.3.2).

    Its logarithm, or itself for ``time_shift_type="linear"``, is linear in the number of tokens.

    Raises:
        ValueError: for another kind of shift.
    """
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (high - low) / (last - first) * (whole(tokens, "tokens", 1) - first)
    match config.get("time_shift_type", "exponential"):
        case "exponential":
            return math.exp(mu)
        case "linear":
            return mu
        case other:
            raise ValueError(f"unknown time_shift_type {shown(other)}; expected 'exponential' or 'linear'")
