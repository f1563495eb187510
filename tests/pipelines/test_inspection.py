"""What is said of a model, for every family, and of those that are refused."""

import json
import re

import pytest
import torch
from diffusers import DDPMPipeline, LCMScheduler

from mmg_diffusers import MMGPipeline
from mmg_diffusers.pipelines.inspection import MEASURES, inspect_model, inspect_pipeline
from tests.pipelines.families import dit, flux, sana, stable_diffusion, stable_diffusion_xl, test_unet2d, wan
from tests.pipelines.families.table import ROWS

# What networks predict, sign and all, in the words of the rows.
TARGETS = {
    "epsilon": "epsilon: eps",
    "sample": "sample: x",
    "v": "v_prediction: a eps - s x",
    "flow": "flow_prediction: eps - x",
    "-flow": "reversed_flow_prediction: x - eps",
    "edm": "edm: F of",
}


def numbers(text):
    return [float(each) for each in re.findall(r"-?\d[\d.]*(?:e-?\d+)?", text)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_family_is_described(row):
    pipe = row.build()
    found = inspect_pipeline(pipe, null=row.null)
    facts = found.facts
    assert found.refusal is None
    assert list(found.measures.values()) == [None] * len(MEASURES)
    assert not [name for name, said in facts.items() if said.startswith("not known")]
    turned = {"flow": "-flow", "-flow": "flow"}.get(row.prediction, row.prediction) if row.sign < 0 else row.prediction
    assert facts["prediction"].startswith((TARGETS[turned], TARGETS[row.prediction]))
    assert ("a variance" in facts["prediction"]) == row.learned_variance
    # What the network is told at the ends of the range is what the row's own pipeline tells it there.
    noisy, clean = numbers(facts["told time"].split(":")[-1])
    model = MMGPipeline(pipe, null=row.null)
    if row.name == "cogview4":
        assert "before the shift" in facts["told time"]
    else:
        ends = row.level(pipe, torch.tensor([noisy, clean], dtype=torch.float64))
        assert ends.tolist() == pytest.approx(numbers(facts["range"]), rel=2e-3, abs=2e-3)
    if row.frames is None:
        event = list(model.codec.encode_images(torch.rand(1, 3, *model.codec.native_size)).shape[1:])
        assert facts["latent shape"] == str(event)
    assert facts["null"].split(": ", 1)[1].startswith(model.describe()["null"])
    said = facts["text encoders"]
    there = [name for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    assert [name for name in there if name not in said] == []
    assert facts["frames"] == ("a still image" if row.frames is None else model.codec.medium.said)


def test_what_the_configs_tell_of_the_null():
    said = inspect_pipeline(dit.ROWS[0].build()).facts["trained without a prompt"]
    assert said.startswith("yes: its table embeds")
    pipe = dit.ROWS[0].build()
    table = pipe.transformer.transformer_blocks[0].norm1.emb.class_embedder
    table.embedding_table = torch.nn.Embedding(pipe.transformer.config.num_embeds_ada_norm, 4)
    assert inspect_pipeline(pipe).facts["trained without a prompt"].startswith("no: its table embeds")
    pipe = stable_diffusion_xl.ROWS[0].build()
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    facts = inspect_pipeline(pipe).facts
    assert "force_zeros_for_empty_prompt=False" in facts["trained without a prompt"]
    assert facts["null"].startswith("empty: ")
    assert "the image's own" in facts["size"]
    stated = inspect_pipeline(flux.pipeline()(), null="empty").facts["trained without a prompt"]
    assert "the user stated" in stated


def test_a_distilled_model_says_why_and_what_still_works():
    found = inspect_pipeline(flux.pipeline(guidance=True)())
    assert "guidance-distilled" in found.refusal
    assert found.facts["guidance-distilled"] == "yes: its network is told the guidance (guidance_embeds)"
    assert found.facts["prediction"].startswith("flow_prediction")
    assert "measure_candidates" in found.measures["candidates"]
    assert found.measures["maps"] == "refused"
    pipe = stable_diffusion.ROWS[0].build()
    assert "DDIMScheduler" in inspect_pipeline(pipe).facts["guidance-distilled"]
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    assert inspect_pipeline(pipe).facts["guidance-distilled"].startswith("yes: its scheduler, LCMScheduler")


def test_unconditional_and_class_models_are_described():
    found = inspect_pipeline(test_unet2d.pipeline(DDPMPipeline)())
    assert found.refusal is None
    assert found.measures["likelihood"] is None
    assert "unconditional" in found.measures["information by the null prompt"]
    assert "unconditional" in found.measures["candidates"]
    assert found.facts["trained without a prompt"] == "unconditional: it is its own marginal"
    assert (found.facts["null"], found.facts["text encoders"], found.facts["scaling"]) == ("none", "none", "none")
    found = inspect_pipeline(test_unet2d.pipeline(num_class_embeds=5)())
    assert found.measures["candidates"] is None
    assert "no unconditional branch" in found.measures["information by the null prompt"]
    assert found.rows()["likelihood"] == "open, given a prompt alone: it has no unconditional branch"
    assert found.rows()["maps"] == "open, against candidates alone: it has no unconditional branch"
    found = inspect_pipeline(test_unet2d.pipeline(num_class_embeds=5)(), null="last_class")
    assert found.measures["information by the null prompt"] is None
    assert found.facts["null"].startswith("last_class: class 4")


def test_a_part_that_is_missing_is_said_and_the_rest_as_well():
    pipe = wan.ROWS[0].build()
    pipe.vae = None
    pipe.register_modules(vae=None)
    found = inspect_pipeline(pipe)
    assert "has no vae" in found.refusal
    assert found.facts["missing"].split(", ")[0] == "vae"
    assert found.facts["family"] == "Wan"
    assert found.facts["scaling"].startswith("not known")
    assert found.measures["candidates"] == "refused"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SanaSprintPipeline", "measure_candidates"),
        ("OmniGenPipeline", "measure_candidates"),
        ("KandinskyV22Pipeline", "measure Kandinsky3Pipeline"),
    ],
)
def test_a_class_without_an_adapter_is_described_by_its_index(tmp_path, name, says):
    index = {
        "_class_name": name,
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    found = inspect_model(tmp_path)
    assert found.facts == {"pipeline": name, "parts": "unet (UNet2DConditionModel)"}
    assert says in found.refusal
    assert set(found.rows()) == {"pipeline", "parts", "refused", *MEASURES}


def test_a_folder_is_described_as_its_pipeline_is(tmp_path):
    pipe = sana.ROWS[0].build()
    pipe.save_pretrained(tmp_path / "model")
    one, other = inspect_pipeline(pipe), inspect_model(tmp_path / "model")
    assert one.facts == other.facts
