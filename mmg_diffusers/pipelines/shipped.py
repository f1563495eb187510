"""The models that ship with the package."""

from importlib import resources
from pathlib import Path


def shapes_model() -> Path:
    """Folder of the Stable Diffusion model of the Shapes world that ships with the package."""
    return Path(str(resources.files("mmg_diffusers") / "models" / "shapes"))
