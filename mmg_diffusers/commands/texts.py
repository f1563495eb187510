"""The words of figures, pages and tables: each stands here once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from mmg_diffusers.analysis.influence import Axis
from mmg_diffusers.measure.value import Value, mean_over_pairs

AXIS_NAMES: Mapping[Axis, str] = {"logsnr": "log-SNR", "timestep": "timestep", "tau": "diffusion time τ"}
# What figures show, as their titles and for those who cannot see them; {text} is a prompt or a caption.
TITLES = {
    "mmse": "What the {text} takes off the denoising error",
    "curves": "Gap and orthogonal along log-SNR",
    "mixture": "Gap and orthogonal to the mixture, along log-SNR",
    "audit": "The null branch from the mixture, along log-SNR",
    "influence": "What the {text} still adds, by noise level",
    "words": "Information of each word given the others",
    "map": "Map of the information",
}
CERTIFICATE = "gap - orthogonal, 0 for ideal networks"
PER_LOGSNR = "nats per unit of log-SNR"
STILL_TO_COME = "nats still to come"
GIVEN_THE_REST = "nats, given the rest of the prompt"


def title_of(name: str, text: str = "prompt") -> str:
    """The title of a figure about prompts, or about captions."""
    return TITLES[name].format(text=text)


def plus_minus(value: Value | tuple[float, ...] | list[float] | None, digits: int = 3) -> str:
    """A value with its standard error, a question mark if that is not known, or "none"."""
    if value is None:
        return "none"
    return f"{value[0]:.{digits}f} ± {error_of(value[1], digits)}"


def error_of(error: float, digits: int = 3) -> str:
    """A standard error, or a question mark if it is not known."""
    return "?" if math.isnan(error) else f"{error:.{digits}f}"


def by_error(value: Value) -> str:
    """A value with as many decimals as its standard error tells of, and no powers of ten."""
    known = math.isfinite(value.stderr) and value.stderr > 0
    return plus_minus(value, min(max(0, 1 - math.floor(math.log10(value.stderr))), 4) if known else 3)


def pair_by_pair(nats: Tensor, mean: Value, path: bool) -> str:
    """Why the mean of a column of pairs is not the mean that is told, where it is not; else nothing.

    Args:
        nats: `(N,)` of the column.
        mean: that is told.
        path: whether pairs are read by the posterior along their paths, and not by gap and orthogonal.
    """
    column = mean_over_pairs(nats)
    if len(nats) < 2 or abs(column.value - mean.value) < 5e-4:
        return ""
    why = (
        "each pair by what its own path says, the mean above by evidence that is believed as far as other pairs say"
        if path
        else "each pair weighs gap and orthogonal by its own noise, the mean above once for all pairs"
    )
    return f"Pair by pair the mean is {plus_minus(column)} nats: {why}."
