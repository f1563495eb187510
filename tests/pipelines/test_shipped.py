"""The models that ship: what they are, and that captions tell them something."""

import json

import pytest
import torch

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.pipelines.shipped import SHIPPED, model_place
from mmg_diffusers.worlds.pairs import Pairs
from mmg_diffusers.worlds.shapes import Shapes

FAMILIES = {
    "shapes": "StableDiffusionPipeline",
    "shapes-plain": "StableDiffusionPipeline",
    "shapes-flow": "StableDiffusion3Pipeline",
    "pairs-flow": "StableDiffusion3Pipeline",
}
WORLDS = {name: Pairs("hard") if name == "pairs-flow" else Shapes("hard") for name in SHIPPED}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_folder_is_safe_small_and_has_a_card(name):
    folder = shapes_model(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors", ".txt"}
    assert sum(path.stat().st_size for path in files) < 12.5e6
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == FAMILIES[name]
    # diffusers writes where a part was loaded from, which is nobody else's path.
    assert not any("_name_or_path" in json.loads(path.read_text()) for path in files if path.name == "config.json")
    card = (folder / "README.md").read_text()
    # One of them was shown the posterior that it is held against, and says so.
    assert ("fitted to that truth" in card) == (name == "shapes")
    assert ("nothing of it took part in the training" in card) == (name != "shapes")


@pytest.mark.parametrize("name", SHIPPED[1:])
def test_captions_of_their_own_images_tell_more_than_those_of_others(name):
    pipe = MMGPipeline.from_pretrained(model_place(name))
    pipe.set_progress_bar_config(disable=True)
    sample = WORLDS[name].sample(12, 8)
    turned = [*sample.prompts[1:], sample.prompts[0]]
    options = {"levels": 12, "logsnr_range": (-4.0, 3.0), "integrand": "gap"}
    with folded_zeros(pipe.pipe):  # as the demo does, for speed alone
        right, wrong = (pipe(list(sample.images), prompts, **options).nats for prompts in (sample.prompts, turned))
    different = torch.tensor([a != b for a, b in zip(sample.prompts, turned, strict=True)])
    more = (right - wrong)[different]
    assert float(more.mean()) > 3 + 2 * float(more.std()) / len(more) ** 0.5
    assert float(pipe(sample.images[0], "", levels=2, logsnr_range=(-1.0, 1.0)).nats[0]) == 0.0


def test_names_stand_for_folders_and_others_do_not():
    assert model_place("shapes-flow") == shapes_model("shapes-flow")
    assert model_place("runs/mine") == "runs/mine"
    with pytest.raises(
        ValueError, match="no model named 'shapes-sharp' ships with the package; expected one of shapes, "
    ):
        shapes_model("shapes-sharp")
