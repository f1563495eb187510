"""A part of a pipeline that is changed or replaced after wrapping is the one that is measured."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from diffusers import DDIMScheduler, StableDiffusionPipeline

from mmg_diffusers import Candidates, MMGPipeline, NullPrompt, Plan, shapes_model
from mmg_diffusers.worlds.shapes import Shapes

OPTIONS = {"levels": 2, "seed": 3}


@pytest.fixture
def own():
    pipe = MMGPipeline(StableDiffusionPipeline.from_pretrained(shapes_model()))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(2, seed=21)


def louder(module, factor=1.5):
    """Another network of the same kind."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.05 * factor)
    return other


def fresh(pipe):
    """A new wrapper of the same parts."""
    made = MMGPipeline(pipe.pipe)
    made.set_progress_bar_config(disable=True)
    return made


def with_lora(encoder):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    changed = get_peft_model(encoder, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return changed.base_model.model


CHANGES = {
    "the network is replaced": lambda p: setattr(p, "unet", louder(p.unet)),
    "the network is changed in place": lambda p: p.unet.load_state_dict(louder(p.unet).state_dict()),
    "the text encoder is replaced": lambda p: setattr(p, "text_encoder", louder(p.text_encoder)),
    "the text encoder gets an adapter": lambda p: setattr(p, "text_encoder", with_lora(p.text_encoder)),
    "the autoencoder is replaced": lambda p: setattr(p, "vae", louder(p.vae)),
    "the dtype changes": lambda p: p.to(torch.bfloat16),
    "the scheduler predicts another thing": lambda p: setattr(
        p, "scheduler", DDIMScheduler.from_config(p.scheduler.config, prediction_type="epsilon")
    ),
    "the scheduler knows other levels": lambda p: setattr(
        p, "scheduler", DDIMScheduler.from_config(p.scheduler.config, beta_end=0.02)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_after_wrapping_is_measured(own, sample, change):
    images, prompts = list(sample.images), sample.prompts
    before, print_before = own(images, prompts, **OPTIONS).nats, own.fingerprint()
    CHANGES[change](own.pipe)
    after = own(images, prompts, **OPTIONS).nats
    assert not torch.equal(after, before)
    assert torch.equal(after, fresh(own)(images, prompts, **OPTIONS).nats)
    if "scheduler" not in change:
        assert own.fingerprint() != print_before
    # The empty prompt is the null prompt, whatever was changed.
    assert own(images, "", **OPTIONS).nats.abs().max() == 0
    names = ["a red circle", "a blue square"]
    scores = [pipe.classify(images, names, levels=2).posterior for pipe in (own, fresh(own))]
    assert torch.equal(*scores)


def test_a_network_in_training_mode_is_evaluated_and_left_as_it_was(own, sample):
    expected = own(list(sample.images), sample.prompts, **OPTIONS).nats
    for part in (own.pipe.unet, own.pipe.text_encoder):
        part.train()
        for module in part.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
    own.set_encoding_cache(0)
    assert torch.equal(own(list(sample.images), sample.prompts, **OPTIONS).nats, expected)
    assert own.pipe.unet.training
    assert own.pipe.text_encoder.training


def test_offloaded_weights_have_the_same_fingerprint(own):
    expected = own.fingerprint()
    assert expected is not None
    for part in (own.pipe.unet, own.pipe.vae, own.pipe.text_encoder):
        cpu_offload(part, execution_device=torch.device("cpu"))
    assert own.fingerprint() == expected


def test_a_part_that_is_taken_away_is_named(own, sample):
    own.pipe.vae = None
    with pytest.raises(ValueError, match="has no vae"):
        own(list(sample.images), sample.prompts, **OPTIONS)


def test_the_denoiser_stays_while_nothing_changes(own):
    one = own.denoiser
    assert own.denoiser is one
    own.pipe.unet = louder(own.pipe.unet)
    assert own.denoiser is not one


def test_options_are_those_of_a_plan(own, sample):
    with pytest.raises(TypeError, match="no option 'level'; did you mean 'levels'"):
        own(list(sample.images), sample.prompts, level=4)
    with pytest.raises(ValueError, match="antithetic= belongs to the null prompt"):
        own(list(sample.images), "a red circle", marginal=Candidates(["a red circle", "a dog"]), antithetic=True)
    with pytest.raises(ValueError, match="prune= belongs to candidates"):
        own(list(sample.images), sample.prompts, prune=0.1)


def test_an_image_in_several_pairs_is_told_of(own, sample):
    image = sample.images[0]
    told = own(
        [image, image, sample.images[1]], ["a red circle", "a blue square", "a square"], levels=2, integrand="gap"
    )
    said = [text for text in told.warnings() if "share an image" in text]
    assert len(said) == 1
    assert said[0].startswith("2 of 3 pairs share an image")
    clustered = told.mean(cluster=["one", "one", "two"])
    assert clustered.value == told.mean().value
    assert clustered.stderr != told.mean().stderr
    assert not [text for text in own(list(sample.images), "a square", levels=2).warnings() if "share" in text]
    against = own.filter([image, image], "a red circle", ["a red circle", "a dog"], levels=2)
    assert any("2 of 2 pairs share an image" in text for text in against.warnings())


def test_pictures_are_decoded_once(own, sample, tmp_path, monkeypatch):
    import PIL.Image

    for k in range(2):
        PIL.Image.fromarray((sample.images[k] * 255).astype("uint8")).save(tmp_path / f"{k}.png")
    opened = []
    real = PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda *args, **kwargs: opened.append(1) or real(*args, **kwargs))
    paths = [tmp_path / "0.png", tmp_path / "1.png", tmp_path / "0.png"]
    told = own(paths, "a red circle", levels=2)
    assert len(opened) == 3
    # A command measures by this, which says so too.
    measured = own.measure(paths, "a red circle", None, NullPrompt(), Plan(levels=2))
    for result in (told, measured):
        assert any("2 of 3 pairs share an image" in text for text in result.warnings())


def test_the_record_states_the_ends_of_the_path_that_was_followed(own, sample):
    among = ["a red circle", "a blue square"]
    asked = (-2.013, 2.377)
    told = own.filter(list(sample.images), "a red circle", among, levels=4, logsnr_range=asked)
    classified = own.classify(list(sample.images), among, levels=4, logsnr_range=asked)
    ends = [float(told.logsnr[0]), float(told.logsnr[-1])]
    assert told.settings["logsnr_range"] == classified.settings["logsnr_range"] == ends
    assert ends != list(asked)
