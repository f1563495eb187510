"""Pictures of the Shapes world for the tests of commands."""

import pytest
from PIL import Image

from mmg_diffusers.worlds.shapes import Shapes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sample = Shapes("soft").sample(3, seed=4)
    for k, image in enumerate(sample.images):
        Image.fromarray((image * 255).round().astype("uint8")).save(folder / f"{k}.png")
    return folder, sample
