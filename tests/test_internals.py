"""Each private attribute that is read is there in the installed versions, and says what is taken from it."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

from mmg_diffusers import internals, shapes_model


@pytest.fixture
def plain():
    return StableDiffusionPipeline.from_pretrained(shapes_model())


def test_attributes_of_pipelines_are_there(plain):
    assert internals.execution_device(plain) == plain.device == torch.device("cpu")
    assert "prompt_embeds" in internals.changeable_inputs(plain)
    assert internals.loaded_from(plain) == str(shapes_model())
    plain.set_progress_bar_config(disable=True, leave=False)
    assert internals.progress_options(plain) == {"disable": True, "leave": False}


def test_a_pipeline_in_memory_has_no_place(plain):
    built = StableDiffusionPipeline(**plain.components)
    assert internals.loaded_from(built) == ""
    assert internals.progress_options(built) == {}


def test_weights_from_files_are_marked(plain):
    assert all(map(internals.came_from_file, plain.text_encoder.parameters()))
    assert not internals.came_from_file(torch.nn.Parameter(torch.zeros(1)))


def test_configs_lose_where_they_came_from(plain):
    config = internals.without_private(plain.vae.config)
    assert "scaling_factor" in config
    assert not any(name.startswith("_") for name in config)
    assert any(name.startswith("_") for name in plain.vae.config)


def test_hooks_of_sequential_offload_hold_the_weights(plain):
    from accelerate import cpu_offload

    before = {name: weight.clone() for name, weight in internals.named_weights(plain.unet)}
    expected = {name for name, _ in (*plain.unet.named_parameters(), *plain.unet.named_buffers())}
    assert set(before) == expected
    cpu_offload(plain.unet, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in plain.unet.parameters())
    after = dict(internals.named_weights(plain.unet))
    assert all(torch.equal(after[name], before[name]) for name in expected)
    devices = {internals.execution_device_of_hook(module) for module in plain.unet.modules()} - {None}
    assert devices == {torch.device("cpu")}


def test_hooks_of_any_kind_say_where_a_pipeline_runs(plain):
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    networks = [part for part in plain.components.values() if isinstance(part, torch.nn.Module)]
    hook = ModelHook()
    hook.execution_device = "meta"
    for network in networks:
        add_hook_to_module(network, hook)
    assert internals.execution_device(plain) == torch.device("meta")
    for network in networks:
        remove_hook_from_module(network)
    assert not any(map(internals._hooked, networks))
    plain.unet.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    assert internals._hooked(plain.unet)
    assert internals.execution_device(plain) == torch.device("cpu")


def test_a_network_without_hooks_has_none(plain):
    assert internals.offloaded_weights(plain.unet) is None
    assert internals.execution_device_of_hook(plain.unet) is None


def test_prompts_are_mended_if_the_pipeline_can(monkeypatch):
    import diffusers
    from diffusers.pipelines.wan import pipeline_wan_video2video

    plain, other = (object.__new__(getattr(diffusers, f"Wan{name}Pipeline")) for name in ("", "VideoToVideo"))
    assert internals.mended(plain, " a  red &amp;amp; dot") == "a red & dot"
    monkeypatch.delattr(pipeline_wan_video2video, "ftfy", raising=False)
    assert internals.mended(other, "a dot") is None


def test_prompts_are_cleaned_as_their_pipeline_cleans_them():
    from diffusers import PixArtAlphaPipeline

    assert internals.preprocessed(object.__new__(PixArtAlphaPipeline), " A Dot ", clean=False) == "a dot"
