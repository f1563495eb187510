"""What changes numbers is in the record, training mode never enters, and half precision that moves a number is remarked on."""

import json

import numpy as np
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.modules.module import register_module_forward_pre_hook

from mmg_diffusers import MMGPipeline
from mmg_diffusers.pipelines.precision import Moved, in_float32
from tests.pipelines.families import parity, stable_diffusion
from tests.pipelines.families.table import ROWS
from tests.pipelines.test_parts import with_lora

FAMILIES = list({row.name.split("-")[0]: row for row in ROWS}.values())


def model_of(row):
    return parity.model_of(row, row.build())


def pictures(model, count=2):
    generator = np.random.default_rng(0)
    # The native sizes of some pipelines are larger than what their tiny networks have positions for.
    most = (getattr(model.codec, "places", None) or 10**6) * model.codec.multiple
    height, width = (min(side, most) for side in model.codec.native_size)
    native = model.codec.describe().get("native_frames")
    shape = (3, height, width) if native is None else (fewest(model.codec.medium), 3, height, width)
    return [torch.from_numpy(generator.random(shape, dtype=np.float32)) for _ in range(count)]


def fewest(medium):
    """The shortest video of more than one frame that a model takes."""
    return next(count for count in range(2, 100) if medium.takes(count))


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row.name)
def test_nothing_runs_in_training_mode_and_modes_are_restored(row):
    model = model_of(row)
    parts = {name: part for name, part in model.pipe.components.items() if isinstance(part, torch.nn.Module)}
    for part in parts.values():
        part.train()
    before = {name: [module.training for module in part.modules()] for name, part in parts.items()}
    own = {id(module) for part in parts.values() for module in part.modules()}
    ran = []

    def note(module, given):
        # What wraps the network for a measurement has no layers of its own.
        if id(module) in own:
            ran.append(module.training)

    hook = register_module_forward_pre_hook(note)
    try:
        model(pictures(model, 1), row.prompts[0], levels=2)
    finally:
        hook.remove()
    assert len(ran) > 10
    assert not any(ran)
    assert before == {name: [module.training for module in part.modules()] for name, part in parts.items()}
    assert all(all(modes) for modes in before.values())


@pytest.fixture
def model():
    return model_of(stable_diffusion.ROWS[0])


def said_of(model):
    found = model(pictures(model, 1), "a dot", levels=2).settings
    assert json.loads(json.dumps(found)) == found
    return found.get("switches", {})


def test_a_record_without_switches_says_nothing_of_them(model):
    assert "switches" not in model(pictures(model, 1), "a dot", levels=2).settings


def test_freeu_is_in_the_record(model):
    model.pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert said_of(model) == {"unet": {"freeu": {"s1": 0.9, "s2": 0.2, "b1": 1.5, "b2": 1.6}}}
    model.pipe.disable_freeu()
    assert said_of(model) == {}


def test_adapters_are_in_the_record_with_their_scales(model):
    model.pipe.register_modules(text_encoder=with_lora(model.pipe.text_encoder))
    assert said_of(model) == {"text_encoder": {"adapters": {"default": [4.0]}}}
    layers = [module for module in model.pipe.text_encoder.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.scaling["default"] = 1.5
    assert said_of(model)["text_encoder"]["adapters"] == {"default": [1.5]}
    for layer in layers:
        layer.enable_adapters(False)
    assert said_of(model) == {}


def test_dtypes_weights_and_tiling_are_in_the_record(model):
    model.pipe.text_encoder.to(torch.float64)
    assert said_of(model) == {"text_encoder": {"dtype": "float64"}}
    model.pipe.text_encoder.to(torch.float32)
    model.pipe.vae.enable_slicing()
    assert said_of(model) == {"vae": {"switched on": ["use_slicing"]}}
    model.pipe.vae.disable_slicing()
    layer = next(module for module in model.pipe.vae.decoder.modules() if isinstance(module, torch.nn.Conv2d))
    layer.weight = torch.nn.Parameter(layer.weight.data.to(torch.int8), requires_grad=False)
    assert said_of(model) == {"vae": {"weights": "quantised, int8"}}


def test_activations_that_are_kept_are_refused(model):
    type(model.pipe.unet).is_cache_enabled = property(lambda self: True)
    try:
        with pytest.raises(ValueError, match="call disable_cache"):
            model(pictures(model, 1), "a dot", levels=2)
    finally:
        del type(model.pipe.unet).is_cache_enabled


# ---- half precision ----


def test_half_precision_that_moves_a_number_is_remarked_on(model, monkeypatch):
    model.pipe.to(torch.bfloat16)
    images = pictures(model, 3)
    before = [(id(weight), weight.data_ptr(), weight.dtype) for weight in model.pipe.unet.parameters()]
    found = model(images, "a dot", levels=4)
    assert before == [(id(weight), weight.data_ptr(), weight.dtype) for weight in model.pipe.unet.parameters()]
    (moved,) = model._moved.values()
    # What it says is what a model with these weights in float32, and the same encodings, differs by.
    with in_float32((model.pipe.unet,)):
        assert model.pipe.unet.dtype == torch.float32
        wide = model(images[:2], "a dot", levels=4)
    difference = found.nats[:2] - wide.nats
    assert moved.root_mean_square == pytest.approx(float(difference.square().mean().sqrt()), rel=1e-6)
    assert moved.root_mean_square > 0
    # It is compared once, and remarked on if it is more than the errors.
    monkeypatch.setattr("mmg_diffusers.pipelines.comparing.in_float32", lambda networks: pytest.fail("compared again"))
    again = model(images, "a dot", levels=4)
    for result in (found, again):
        more = abs(moved.mean) > result.mean().stderr or moved.root_mean_square > float(
            result.stderr.square().mean().sqrt()
        )
        assert any("half precision" in note for note in result.notes) == more


def test_a_remark_depends_on_the_error(model):
    result = model(pictures(model, 3), "a dot", levels=4)
    assert not any("half precision" in note for note in result.notes)
    assert not model._moved
    large = 10 * float(result.stderr.max() + result.mean().stderr)
    assert "by +" in Moved(2, large, large).remark(result)
    assert Moved(2, 0.01 * float(result.mean().stderr), 0.01 * float(result.stderr.min())).remark(result) is None


def test_the_comparison_can_be_switched_off(model):
    model.pipe.to(torch.bfloat16)
    model.set_precision_check(0)
    model(pictures(model, 1), "a dot", levels=2)
    assert not model._moved
    with pytest.raises(ValueError, match="pairs is -1"):
        model.set_precision_check(-1)
    assert MMGPipeline(model.pipe)._compared == 2
