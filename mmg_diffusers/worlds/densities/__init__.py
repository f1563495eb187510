"""Laws whose density, or probability, is known for every value, with their draws and their exact posterior mean in noise.

    world = Ising(8, 8, coupling=0.4)
    pictures = world.draw(100, np.random.default_rng(0))  # (100, 1, 8, 8) of -1 and 1
    world.log_prob(pictures), world.entropy  # nats

`mmg_diffusers.denoisers.ExactDenoiser` makes a denoiser of each. May import `checks` and `files` only, as all worlds.
"""

from mmg_diffusers.worlds.densities.base import KnownLaw, Labelled
from mmg_diffusers.worlds.densities.ising import Ising
from mmg_diffusers.worlds.densities.levels import LevelMixture
from mmg_diffusers.worlds.densities.mixtures import GaussianMixture
from mmg_diffusers.worlds.densities.moved import Moved

__all__ = ["GaussianMixture", "Ising", "KnownLaw", "Labelled", "LevelMixture", "Moved"]
