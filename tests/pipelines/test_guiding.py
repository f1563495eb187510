"""Guiders that record, and guiders that guide only where the information arrives."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.guiders import (
    AutoGuidance,
    BaseGuidance,
    ClassifierFreeGuidance,
    PerturbedAttentionGuidance,
    SkipLayerGuidance,
    SmoothedEnergyGuidance,
)
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from diffusers.modular_pipelines.modular_pipeline import BlockState

import mmg_diffusers
from mmg_diffusers import MMGPipeline
from mmg_diffusers.analysis import PathInfluence
from mmg_diffusers.analysis.path_influence import PathRecorder
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.measure.influence import Influence
from mmg_diffusers.pipelines.guiding import InformationGuider
from tests.pipelines.families import parts
from tests.pipelines.families.table import ROWS


class Both(BaseGuidance):
    """Runs both branches, and follows the prompt alone."""

    _input_predictions = ("pred_cond", "pred_uncond")

    def __init__(self):
        self._enabled, self._timestep = True, None

    def set_state(self, step, num_inference_steps, timestep):
        self._timestep = timestep

    def __call__(self, data):
        return (data[0].noise_pred,)

    @property
    def num_conditions(self):
        return 2


def ddim():
    return DDIMScheduler(**parts.SD, clip_sample=False, steps_offset=1)


def stepped(guider, timestep, conditional, other):
    guider.set_state(step=0, num_inference_steps=1, timestep=timestep)
    name = BaseGuidance._identifier_key
    states = [
        BlockState(**{name: kind, "noise_pred": one})
        for kind, one in (("pred_cond", conditional), ("pred_uncond", other))
    ]
    return guider(states)


# ---- what is recorded ----


def test_a_path_that_is_not_moved_has_the_information_of_its_law(gaussian):
    denoiser, x, cond = gaussian
    inner = Both()
    inner.register_to_config()
    guider = InformationGuider(inner, ddim())
    convention = guider.recorder.convention
    times = torch.linspace(999, 0, 120).round().long()
    noise = torch.Generator().manual_seed(5)
    for time in times:
        logsnr = convention.at_timestep(time.double()).expand(len(x))
        z = add_noise(x, logsnr, torch.randn(x.shape, generator=noise, dtype=torch.float64))
        # As an image of one pixel and two channels.
        both = (denoiser(z, logsnr, c)[:, :, None, None] for c in (cond, None))
        stepped(guider, time, *both)
    found = guider.read()
    low, high = float(found.logsnr[0]), float(found.logsnr[-1])

    def told(logsnr):  # I(y; z) of two coordinates
        snr = math.exp(logsnr)
        return sum(math.log((1 + snr) / (1 + snr * (1 - rho**2))) / 2 for rho in (0.9, 0.5))

    value, stderr = found.mean()
    assert abs(value - (told(high) - told(low))) < 4 * stderr + 2e-3
    assert value > 0.5
    assert not found.moved
    assert found.warnings() == ()


def test_numbers_of_a_path():
    found = PathInfluence(
        torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64),
        torch.tensor([[1.0, 3.0, 5.0]], dtype=torch.float64),
        torch.tensor([[[0.25, 0.75], [1.0, 2.0], [5.0, 0.0]]]),
        moved=True,
        missed=2,
    )
    # Half of (1 + 3) / 2 x 2 + (3 + 5) / 2 x 1.
    assert float(found.nats) == pytest.approx(4.0)
    torch.testing.assert_close(found.pixel_map().sum(), torch.tensor(4.0, dtype=torch.float64))
    clean, maps = found.weighed(lambda logsnr: (logsnr > 0).double())
    assert float(clean) == float(maps.sum()) == pytest.approx(5 / 2 / 2)
    torch.testing.assert_close(found.influence().nats[0], torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64))
    said = " ".join(found.warnings())
    assert "path influence" in said
    assert "not the mutual information" in said
    assert "2 of 5 steps" in said
    assert "path influence" in repr(found)
    with pytest.raises(ValueError, match="a factor for each of 3 levels"):
        found.weighed(lambda logsnr: logsnr[:1])


def test_files_and_merging_of_paths(tmp_path):
    found = PathInfluence(torch.tensor([0.0, 1.0]).double(), torch.ones(2, 2).double(), torch.rand(2, 2, 3), True)
    read = mmg_diffusers.load(found.save(tmp_path / "p.safetensors"))
    assert isinstance(read, PathInfluence)
    assert torch.equal(read.maps, found.maps)
    both = PathInfluence.merge([found, found])
    assert len(both) == 4
    assert both.nats.tolist() == found.nats.tolist() * 2


def test_a_new_run_begins_anew_and_pure_noise_is_left_out():
    recorder = PathRecorder(
        InformationGuider(ClassifierFreeGuidance(2.0), FlowMatchEulerDiscreteScheduler()).recorder.convention
    )
    one = torch.ones(1, 2, 3, 3)
    for _ in range(2):
        for level in (-math.inf, -1.0, 1.0):
            recorder.add(level, one, 0 * one, True)
    found = recorder.read()
    assert found.logsnr.tolist() == [-1.0, 1.0]
    # The flow's eps - x is (1 - t) of what eps is, and t is 1 / (1 + e^(logsnr / 2)).
    share = 1 - 1 / (1 + math.exp(0.5))
    assert float(found.square[0, 1]) == pytest.approx(18 * share**2, rel=1e-6)


# ---- in pipelines ----


@pytest.fixture(scope="module")
def modular():
    pipe = next(row for row in ROWS if row.name.startswith("sdxl")).build()
    made = StableDiffusionXLAutoBlocks().get_workflow("text2image").init_pipeline()
    made.update_components(
        **{name: part for name, part in pipe.components.items() if part is not None and name in made.component_names}
    )
    made.set_progress_bar_config(disable=True)
    return pipe, made


def drawn(made, guider):
    made.update_components(guider=guider)
    noise = torch.Generator().manual_seed(0)
    return np.asarray(
        made(
            prompt=["a red dot", "a blue square"],
            num_inference_steps=3,
            height=16,
            width=16,
            generator=noise,
            output_type="np",
            output="images",
        )
    )


def test_a_modular_pipeline_draws_the_same_and_is_recorded(modular):
    pipe, made = modular
    plain = drawn(made, ClassifierFreeGuidance(5.0))
    calls = []
    hook = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    guider = InformationGuider(ClassifierFreeGuidance(5.0), pipe.scheduler)
    with MMGPipeline(pipe).watch() as seen:
        recorded = drawn(made, guider)
    hook.remove()
    np.testing.assert_array_equal(recorded, plain)
    assert len(calls) == 6
    found = guider.read()
    assert found.moved
    assert found.square.shape == (2, 3)
    # The hook on the network sees the same, without the guider.
    torch.testing.assert_close(found.square, seen.read().square)
    torch.testing.assert_close(found.logsnr, seen.read().logsnr)


def test_steps_of_one_branch_are_counted(modular):
    pipe, made = modular
    guider = InformationGuider(ClassifierFreeGuidance(5.0, stop=0.7), pipe.scheduler)
    with MMGPipeline(pipe).watch() as seen:
        drawn(made, guider)
    for found in (guider.read(), seen.read()):
        assert found.square.shape == (2, 2)
        assert found.missed == 1
        assert "1 of 3 steps" in " ".join(found.warnings())
    drawn(made, InformationGuider(ClassifierFreeGuidance(1.0), pipe.scheduler))
    with pytest.raises(ValueError, match="draw with guidance"):
        made.guider.read()


def test_only_the_last_run_is_read(modular):
    pipe, made = modular
    guider = InformationGuider(ClassifierFreeGuidance(5.0, stop=0.7), pipe.scheduler)
    with MMGPipeline(pipe).watch() as seen:
        drawn(made, guider)
        # Later steps than those of the run before are no continuation of it.
        guider._start, guider._stop = 0.4, 1.0
        drawn(made, guider)
        late = guider.read(), seen.read()
        guider.guidance_scale = 1.0
        drawn(made, guider)
    for found in late:
        assert found.square.shape == (2, 2)
        assert found.missed == 1
    assert guider.inner.guidance_scale == 1.0
    for one in (guider, seen):
        with pytest.raises(ValueError, match="0 steps ran both branches"):
            one.read()


def test_a_run_of_another_number_of_images_is_another_run():
    recorder = InformationGuider(ClassifierFreeGuidance(2.0), ddim()).recorder
    for rows, levels in ((2, (-3.0, -2.0)), (3, (-1.0, 0.0))):  # the first one was broken off
        for level in levels:
            recorder.add(level, torch.ones(rows, 1, 2, 2), torch.zeros(rows, 1, 2, 2), True)
    assert recorder.read().square.shape == (3, 2)


LAYER = {"indices": [0], "fqn": "mid_block.attentions.0.transformer_blocks"}
SCORES = {"skip_attention": False, "skip_attention_scores": True, "skip_ff": False}


@pytest.mark.parametrize(
    "make",
    [
        lambda: SkipLayerGuidance(5.0, 2.0, 0.0, 1.0, skip_layer_config=LayerSkipConfig(**LAYER)),
        lambda: PerturbedAttentionGuidance(
            5.0, 2.0, 0.0, 1.0, perturbed_guidance_config=[LayerSkipConfig(**LAYER, **SCORES)]
        ),
        lambda: SmoothedEnergyGuidance(5.0, 2.0, 0.0, 1.0, seg_guidance_config=SmoothedEnergyGuidanceConfig(**LAYER)),
    ],
)
def test_guiders_of_a_third_branch_draw_the_same_and_are_saved(modular, tmp_path, make):
    pipe, made = modular
    plain = drawn(made, make())
    guider = InformationGuider(make(), pipe.scheduler)
    guider.save_pretrained(tmp_path)
    for one in (guider, InformationGuider.from_pretrained(tmp_path)):
        np.testing.assert_array_equal(drawn(made, one), plain)
        assert one.read().square.shape == (2, 3)


class Holder(DiffusionPipeline):
    """A pipeline that takes a guider, as those of diffusers do."""

    def __init__(self, guider, scheduler):
        super().__init__()
        self.register_modules(guider=guider, scheduler=scheduler)


def test_it_is_saved_and_loaded(tmp_path, modular):
    guider = InformationGuider(ClassifierFreeGuidance(3.5, start=0.2), ddim())
    guider.save_pretrained(tmp_path / "alone")
    Holder(guider, ddim()).save_pretrained(tmp_path / "pipe")
    read = (
        InformationGuider.from_pretrained(tmp_path / "alone"),
        Holder.from_pretrained(tmp_path / "pipe").guider,
        guider.new(),
    )
    for one in read:
        assert type(one) is InformationGuider
        assert type(one.inner) is ClassifierFreeGuidance
        assert (one.guidance_scale, one._start) == (3.5, 0.2)
        assert one.recorder.convention.logsnr_range == guider.recorder.convention.logsnr_range
    assert guider.new(guidance_scale=2.0).guidance_scale == 2.0
    assert len(repr(guider)) < 400


@pytest.mark.parametrize(
    ("inner", "scheduler", "error", "says"),
    [
        (3.0, ddim(), TypeError, "expected a guider of diffusers"),
        (ClassifierFreeGuidance(3.0), None, TypeError, "expected the pipeline's"),
        ({"_class_name": "os.system"}, ddim(), ValueError, "is not a guider"),
        ({}, ddim(), ValueError, "names None"),
        (InformationGuider(ClassifierFreeGuidance(3.0), ddim()), ddim(), ValueError, "give the guider that it wraps"),
        (
            AutoGuidance(auto_guidance_layers=[0], dropout=0.1),
            ddim(),
            ValueError,
            "a weaker network, and not with the prompt left out",
        ),
    ],
)
def test_what_is_no_guider(inner, scheduler, error, says):
    with pytest.raises(error, match=says):
        InformationGuider(inner, scheduler)


# ---- guidance where the information arrives ----


def curve():
    """Information that arrives evenly between -2 and 3."""
    logsnr = torch.linspace(-4, 6, 101, dtype=torch.float64)
    nats = ((3 - logsnr) / 5).clamp(0, 1)
    return Influence(logsnr, nats.expand(3, -1), torch.zeros(3, 101, dtype=torch.float64))


def test_the_central_share():
    assert curve().window(0.8) == pytest.approx((-1.5, 2.5))
    assert curve().window(0.2) == pytest.approx((0.0, 1.0))
    with pytest.raises(ValueError, match="above 0 and below 1"):
        curve().window(1.0)
    with pytest.raises(ValueError, match="no half of it"):
        Influence(torch.tensor([0.0, 1.0]), -torch.ones(1, 2), torch.zeros(1, 2)).window()


@pytest.mark.parametrize("count", [3, 10, 38, 50])
def test_steps_that_are_guided_are_those_inside(count):
    levels = torch.linspace(-4, 6, count, dtype=torch.float64)
    guider = curve().guider(4.0, steps=levels)
    assert guider.guidance_scale == 4.0
    inside = ((levels >= -1.5) & (levels <= 2.5)).tolist()
    for step in range(count):
        guider.set_state(step=step, num_inference_steps=count, timestep=torch.tensor(0))
        assert (guider.num_conditions == 2) == inside[step]


def test_a_window_between_two_steps_and_levels_that_are_none():
    start, stop = curve().fractions(torch.tensor([-4.0, 2.6, 6.0]), 0.02)
    assert (int(3 * start), int(3 * stop)) == (1, 2)
    with pytest.raises(ValueError, match="sampler is not known"):
        curve().guider(2.0, steps=20)
    with pytest.raises(ValueError, match="from noise to image"):
        curve().guider(2.0, steps=torch.tensor([1.0, 0.0]))


def test_a_pipelines_influence_knows_its_sampler(pipe):
    from mmg_diffusers.worlds.shapes import Shapes

    sample = Shapes("soft").sample(2, 3)
    read = pipe.influence(list(sample.images), sample.prompts, levels=9)
    levels = pipe.sampler(20)
    low, high = read.window(0.6)
    guider = read.guider(3.0, steps=20, share=0.6)
    guided = range(int(20 * guider._start), int(20 * guider._stop))
    assert [low <= float(level) <= high for level in levels] == [step in guided for step in range(20)]
