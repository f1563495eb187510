"""The models that ship with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mmg_diffusers.checks import shown

SHIPPED = ("shapes", "shapes-plain", "shapes-flow", "pairs-flow")
"""Their names, which a command line takes in the place of a folder."""


def shapes_model(name: str = "shapes") -> Path:
    """Folder of a text-to-image model that ships with the package, of the Shapes world or of Pairs.

    Args:
        name: ``"shapes-plain"``, a Stable Diffusion, and ``"shapes-flow"``, a Stable Diffusion 3, were trained by the
            denoising loss alone, as published models are. ``"shapes"`` is a Stable Diffusion whose odds between captions
            were fitted to the exact posterior. ``"pairs-flow"`` is a plain Stable Diffusion 3 of pictures of two objects.

    Raises:
        ValueError: for another name.
    """
    if name not in SHIPPED:
        raise ValueError(f"no model named {shown(name)} ships with the package; expected one of {', '.join(SHIPPED)}")
    return Path(str(resources.files("mmg_diffusers") / "models" / name.replace("-", "_")))


def model_place(model: str | Path) -> str | Path:
    """The folder of a model that ships, if this is the name of one; else what was given: a folder, or an id on the hub."""
    return shapes_model(str(model)) if str(model) in SHIPPED else model
