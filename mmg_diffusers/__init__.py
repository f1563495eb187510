"""Mutual information with pretrained diffusion models.

from mmg_diffusers import MMGPipeline
pipe = MMGPipeline.from_pretrained("...")
pipe(images, prompts).mean()

The public names are listed in ``__init__.pyi``, and each is imported when it is first asked for.
"""

from lazy_loader import attach_stub

from mmg_diffusers.moved import install

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

install()
