"""One interface to every denoiser: levels, conventions, what wraps foreign networks, exact denoisers, and the passes through them.

The only place that knows conventions other than log-SNR and the variance-preserving z. May import `checks` and `files`; must not
know how anything is measured.
"""

from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser, Rescaled, TwoDenoisers
from mmg_diffusers.denoisers.check import DenoiserCheck, check_denoiser
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.exact import GaussianDenoiser, MixtureDenoiser
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.denoisers.known import ExactDenoiser
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.denoisers.selftest import SelfTest, self_test

__all__ = [
    "Adapted",
    "Condition",
    "Convention",
    "Denoiser",
    "DenoiserCheck",
    "DiscreteVP",
    "ExactDenoiser",
    "GaussianDenoiser",
    "GaussianReference",
    "Interpolant",
    "Karras",
    "MixtureDenoiser",
    "RectifiedFlow",
    "Rescaled",
    "SelfTest",
    "TwoDenoisers",
    "add_noise",
    "check_denoiser",
    "self_test",
]
