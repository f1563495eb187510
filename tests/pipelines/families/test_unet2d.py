"""UNet2DModel, whose pipelines have no guidance and so no row in the table: what they are told, and what they refuse."""

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from mmg_diffusers import MMGPipeline
from tests.pipelines.families import parity, parts
from tests.pipelines.families.row import Row, vp


def unet(**config):
    return UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        **config,
    )


def pipeline(kind=DDPMPipeline, scheduler=DDPMScheduler, prediction="epsilon", variance="fixed_small", **config):
    return parts.ready(
        lambda: kind(
            unet(**config),
            scheduler(
                clip_sample=False,
                prediction_type=prediction,
                **({"variance_type": variance} if scheduler is DDPMScheduler else {}),
            ),
        )
    )


LEARNED = {"out_channels": 6, "variance": "learned_range"}
CASES = {
    "ddpm": (pipeline(), "epsilon"),
    "ddpm-centred-sample": (pipeline(prediction="sample", center_input_sample=True), "sample"),
    "ddpm-learned-variance": (pipeline(**LEARNED), "epsilon"),
    "ddim-v": (pipeline(DDIMPipeline, DDIMScheduler, "v_prediction"), "v"),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_parity_without_a_prompt(name):
    build, prediction = CASES[name]
    pipe = build()
    row = Row(name, build, vp, prediction, network="unet", learned_variance="learned" in name)
    model = parity.model_of(row, pipe)
    steps = []

    def step(output, t, sample, **kwargs):
        steps.append((output, t, sample))
        return type(pipe.scheduler).step(pipe.scheduler, output, t, sample, **kwargs)

    pipe.scheduler.step = step
    with parity.listening(pipe.unet) as calls:
        pipe(num_inference_steps=3, generator=torch.Generator().manual_seed(1), output_type="pt")
    del pipe.scheduler.step
    assert len(calls) == len(steps) == 3

    def hold(denoiser):
        for theirs, (output, t, sample) in zip(calls, steps, strict=True):
            x, told = theirs.given["sample"], theirs.given["timestep"]
            with parity.listening(pipe.unet) as ours:
                eps = denoiser(x, row.level(pipe, told).expand(1))
            parity.same_given(row, ours[0], theirs, 1, "null")
            signal, noise = parity.scales(pipe.scheduler, t)
            clean = parity.clean_of(pipe.scheduler, output, t, sample)
            expected = (sample - signal * clean) / noise
            torch.testing.assert_close(eps.double(), expected.double(), rtol=1e-3, atol=1e-4)

    row = Row(name, build, vp, prediction, network="unet", time="timestep")
    hold(model.denoiser)
    for way in parity.BREAKS:
        with pytest.raises(AssertionError):
            hold(parity.broken(model.denoiser, way, {}))


def test_an_unconditional_network_takes_no_prompt(tmp_path):
    pipe = CASES["ddpm"][0]()
    pipe.save_pretrained(tmp_path)
    for model in (MMGPipeline(pipe), MMGPipeline.from_pretrained(tmp_path)):
        with pytest.raises(ValueError, match=r"got the prompt 'a dot', and this network is unconditional.*denoiser"):
            model(torch.rand(3, 8, 8), "a dot", levels=2)
        assert model.denoiser.has_marginal
        assert model.describe()["prompts"] == "none: it is unconditional"
        assert model.describe()["null"] == "none"
    with pytest.raises(ValueError, match="null is 'last_class'; expected, for UNet2DModel, none at all"):
        MMGPipeline(pipe, null="last_class")


def test_classes_are_compared_as_candidates_and_with_a_null_that_is_named():
    build = pipeline(num_class_embeds=5)
    model = MMGPipeline(build())
    model.set_progress_bar_config(disable=True)
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"UNet2DModel has no unconditional branch.*Candidates.*say null='last_class'"):
        model(image, "3", levels=2)
    assert (model(image, 3, given=1, levels=2).nats != 0).all()
    with pytest.raises(
        ValueError, match=r"'5' is no class of this model; expected a number from 0 to 4; it has no names"
    ):
        model(image, "5", levels=2)
    found = model.classify(image, ["0", "3"], levels=16)
    assert found.log_posterior.exp().sum() == pytest.approx(1)
    with_null = MMGPipeline(build(), null="last_class")
    with_null.set_progress_bar_config(disable=True)
    assert (with_null(image, "3", levels=2).nats != 0).all()
    assert with_null(image, "4", levels=2).nats.tolist() == [0.0]
    assert "class 4, which the user says" in with_null.describe()["null"]


class Named(DDPMPipeline):
    """A pipeline that keeps names of classes beside its parts."""

    def __init__(self, unet, scheduler, id2label=None):
        super().__init__(unet, scheduler)
        self.register_to_config(id2label=id2label)


@pytest.mark.parametrize("holder", ["pipeline", "unet"])
def test_a_class_goes_by_its_names_where_a_config_has_them(holder):
    pipe = pipeline(Named, num_class_embeds=5)()
    config = {"id2label": {"0": "cat, tabby", "3": "dog", "7": "one too many"}}
    (pipe if holder == "pipeline" else pipe.unet).register_to_config(**config)
    told = MMGPipeline(pipe).encoder.condition(["tabby", "dog", "cat", "4"])["class_labels"]
    assert told.tolist() == [0, 3, 0, 4]
    model = MMGPipeline(pipe)
    for wrong in ("horse", "one too many"):
        with pytest.raises(ValueError, match=f"'{wrong}' is no class of this model.*one of 3 names"):
            model(torch.rand(3, 8, 8), wrong, levels=2)


@torch.no_grad()
def test_a_class_is_told_as_it_is():
    pipe = pipeline(num_class_embeds=5)()
    model = MMGPipeline(pipe)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    told = torch.tensor([300, 700])
    eps = model.denoiser(x, vp(pipe, told), model.encoder.condition(["3", "1"]))
    assert torch.equal(eps, pipe.unet(x, told, class_labels=torch.tensor([3, 1])).sample)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"in_channels": 1, "out_channels": 1},
            "denoises 1 channels, which is not supported; expected the 3 of images",
        ),
        ({"class_embed_type": "timestep"}, "is told 'timestep' beside the level"),
    ],
)
def test_networks_that_are_told_more_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        MMGPipeline(pipeline(**config)())
