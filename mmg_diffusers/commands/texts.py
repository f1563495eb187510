"""The words of figures, pages and tables: each stands here once."""

from __future__ import annotations

from collections.abc import Mapping

from mmg_diffusers.analysis.influence import Axis
from mmg_diffusers.measure.value import Value

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
    error = "?" if value[1] != value[1] else f"{value[1]:.{digits}f}"
    return f"{value[0]:.{digits}f} ± {error}"
