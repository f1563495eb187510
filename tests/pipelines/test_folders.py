"""Folders as people have them: copies that are not whole, links, variants, other schedulers. Nothing is measured of a wrong one."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mmg_diffusers import MMGPipeline
from mmg_diffusers.commands.app import app
from mmg_diffusers.pipelines.adapters.refusals import distilled_name
from tests.pipelines.families import dit, hidream, sana, stable_diffusion, stable_diffusion_3, stable_diffusion_xl, wan

BUILD = {
    "sd": stable_diffusion.pipeline(stable_diffusion.ddim),
    "xl": stable_diffusion_xl.pipeline(),
    "sd3": stable_diffusion_3.pipeline(),
    "sana": sana.pipeline(sana.dpm),
    "hidream": hidream.pipeline(hidream.dynamic),
    "dit": dit.ROWS[0].build,
    "wan": wan.ROWS[0].build,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp("folders") / name for name in BUILD}
    for name, folder in made.items():
        BUILD[name]().save_pretrained(folder)
    return made


@pytest.fixture
def copy(folders, tmp_path):
    def copied(name, to="copy"):
        return shutil.copytree(folders[name], tmp_path / to)

    return copied


def index_of(folder, **parts):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("xl", "text_encoder_2"),
        ("xl", "tokenizer_2"),
        ("sd3", "text_encoder_3"),
        ("sd3", "tokenizer"),
        ("sd3", "tokenizer_3"),
        ("sd3", "scheduler"),
        ("hidream", "tokenizer_4"),
        ("sana", "tokenizer"),
        ("wan", "vae"),
        ("dit", "transformer"),
    ],
)
def test_a_part_that_the_index_names_must_be_there(copy, name, part):
    """transformers makes a tokenizer without words of a folder that is not there."""
    folder = copy(name)
    shutil.rmtree(folder / part)
    with pytest.raises(
        ValueError, match=f"has no folder {part}, which its model_index.json names: the copy is not whole"
    ):
        MMGPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "part"), [("sd", "tokenizer"), ("sd3", "tokenizer_3"), ("sana", "tokenizer"), ("hidream", "tokenizer_4")]
)
def test_a_tokenizer_without_its_vocabulary_is_refused(copy, name, part):
    folder = copy(name)
    MMGPipeline.from_pretrained(folder)
    (folder / part / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=f"the {part} in .* knows no words: the files of its vocabulary are missing"):
        MMGPipeline.from_pretrained(folder)


def test_a_part_may_be_named_as_none(copy):
    folder = copy("sd3")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
    index_of(folder, text_encoder_3=[None, None], tokenizer_3=[None, None])
    assert MMGPipeline.from_pretrained(folder).describe()["missing"] == ["text_encoder_3", "tokenizer_3"]


@pytest.mark.parametrize("name", ["sd3", "dit", "wan"])
def test_a_variant_is_asked_for_by_its_name(copy, name):
    folder = copy(name)
    with pytest.raises(
        ValueError, match="There is no variant 'fp16' in it, its weights are of no variant: leave variant="
    ):
        MMGPipeline.from_pretrained(folder, variant="fp16")
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    with pytest.raises(ValueError, match="load it with variant='fp16'"):
        MMGPipeline.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"There is no variant 'bf16' in it, variants are fp16"):
        MMGPipeline.from_pretrained(folder, variant="bf16")
    assert MMGPipeline.from_pretrained(folder, variant="fp16")._source["variant"] == "fp16"


@pytest.mark.parametrize("scheduler", ["LCMScheduler", "TCDScheduler"])
@pytest.mark.parametrize("name", ["sd", "xl", "sd3"])
def test_schedulers_of_distilled_networks(copy, name, scheduler):
    folder = copy(name)
    index_of(folder, scheduler=["diffusers", scheduler])
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler}))
    with pytest.raises(ValueError, match=f"copy is guidance-distilled .its scheduler, {scheduler}.*measure_candidates"):
        MMGPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    "place",
    [
        "sd-turbo",
        "hub/models--stabilityai--sd-turbo/snapshots/1d0c4ebf6ff58a5caecab40fa1406526bca4b5b9",
        "SDXL-Lightning",
        "sdxl_lightning_4step.fp16",
        "Hyper-SD",
        "DMD2",
        "sana-sprint",
        "sd-turbo-onnx",
        "flash-sd3",
    ],
)
def test_names_of_distilled_folders(copy, place):
    folder = copy("sd", place)
    for path in (folder, f"{folder}/", f"{folder}//"):
        with pytest.raises(ValueError, match=r"is guidance-distilled \(its name says so\)"):
            MMGPipeline.from_pretrained(path)


def test_a_link_is_what_it_leads_to(copy, tmp_path):
    (tmp_path / "current").symlink_to(copy("sd", "sd-turbo"))
    with pytest.raises(ValueError, match="is guidance-distilled"):
        MMGPipeline.from_pretrained(tmp_path / "current")


@pytest.mark.parametrize(
    "name",
    ["lightning-strikes-photos", "balcmodel", "hyperrealistic", "dreamturbocar", "sprinter", "flash-photography"],
)
def test_names_of_other_folders(copy, name):
    assert not distilled_name(name)
    MMGPipeline.from_pretrained(copy("sd", name))


def test_damaged_indices(copy):
    folder = copy("dit")
    for text, says in (
        ('{"_class_name": "DiTPip', "cannot read the model_index.json"),
        ("[1, 2]", "names no pipeline class"),
        ('{"_class_name": 5}', "names no pipeline class"),
        ('{"_class_name": ["DiTPipeline"]}', "names no pipeline class"),
    ):
        (folder / "model_index.json").write_text(text)
        with pytest.raises(ValueError, match=says):
            MMGPipeline.from_pretrained(folder)


def call(*arguments):
    env = {"COLUMNS": "250", "TERMINAL_WIDTH": "250", "NO_COLOR": "1"}
    said = CliRunner().invoke(app, [str(a) for a in arguments], env=env)
    return said.exit_code, re.sub(r"\s+", " ", said.output)


def test_inspect_is_of_the_dtype_that_was_asked_for(folders):
    assert "torch.bfloat16" in call("inspect", folders["sd"], "--dtype", "bfloat16")[1]


def test_checks_draw_classes_and_want_enough_images(folders, tmp_path):
    status, said = call("inspect", folders["dit"], "--check")
    assert status == 1
    assert "self-test on 16 images: cannot tell" in said
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    status, said = call("inspect", folders["sd"], "--check", "--images", tmp_path / "a.png", "--prompt", "a dot")
    assert status == 2
    assert "has 1 image(s); expected 8 or more to check a model on" in said


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["wan", "experts", "sd3", "dit"])
def test_half_precision_of_a_folder(folders, tmp_path, name, dtype):
    """Of a folder diffusers keeps single weights of Wan in float32, which `pipe.to(dtype)` does not."""
    folder = folders.get(name)
    if folder is None:
        folder = tmp_path / "experts"
        wan.EXPERTS().save_pretrained(folder)
    size, prompt = ((1, 32, 32), "a dot") if name in ("wan", "experts") else ((16, 16), "5")
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    nats = []
    for each in (torch.float32, dtype):
        model = MMGPipeline.from_pretrained(folder, torch_dtype=each)
        model.set_progress_bar_config(disable=True)
        found = model(image, prompt, levels=4)
        assert found.settings["dtype"] == str(each).removeprefix("torch.")
        nats.append(found.using("gap").nats)
    torch.testing.assert_close(*nats, rtol=0.1, atol=1.0)
    if name == "wan":
        assert "float32" in found.settings["switches"]["transformer"]["dtype"]


def test_weights_that_are_not_finite_are_named(copy):
    folder = copy("dit")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = min(weights)
    weights[name][...] = float("nan")
    save_file(weights, path)
    with pytest.raises(ValueError, match="NaN or infinite values in transformer"):
        MMGPipeline.from_pretrained(folder)
