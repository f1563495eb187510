"""How diffusers users run their networks: offloaded, compiled, in other memory formats and dtypes, without their encoders."""

import pytest
import torch
from accelerate import cpu_offload
from diffusers.models.attention_processor import AttnProcessor

from mmg_diffusers import MMG, Candidates, Masked, MMGPipeline, shapes_model
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config
from mmg_diffusers.worlds.shapes import Shapes

PROMPTS = ["a large red circle on the left", "a small blue square on the right"]
OPTIONS = {"levels": 3, "seed": 2}


@pytest.fixture(scope="module")
def images():
    return list(Shapes("soft").sample(2, seed=11).images)


@pytest.fixture(scope="module")
def expected(pipe, images):
    return pipe(images, PROMPTS, **OPTIONS).nats


@pytest.fixture
def own():
    pipe = MMGPipeline.from_pretrained(shapes_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def model_offload(pipe):
    pipe.pipe.enable_model_cpu_offload(device="cpu")


def sequential_offload(pipe):
    """What enable_sequential_cpu_offload does; it names the device cpu:0, which accelerate takes for another one than cpu."""
    for name in ("unet", "vae", "text_encoder"):
        cpu_offload(getattr(pipe.pipe, name), torch.device("cpu"), offload_buffers=True)


@pytest.mark.parametrize("offload", [model_offload, sequential_offload])
def test_offloaded_networks_measure_the_same(own, images, expected, offload):
    """With accelerate's hooks, which here bring the weights to the CPU."""
    offload(own)
    if offload is sequential_offload:
        assert next(own.pipe.unet.parameters()).device.type == "meta"
    torch.testing.assert_close(own(images, PROMPTS, **OPTIONS).nats, expected)
    found = own.classify(images[0], PROMPTS, levels=2)
    assert torch.isfinite(found.posterior).all()


def compiled(pipe):
    torch._dynamo.reset()
    pipe.pipe.unet.compile(backend="eager")


def channels_last(pipe):
    pipe.pipe.unet.to(memory_format=torch.channels_last)


def attention_backend(pipe):
    pipe.pipe.unet.set_attention_backend("_native_math")


def attention_processor(pipe):
    pipe.pipe.unet.set_attn_processor(AttnProcessor())


def attention_slicing(pipe):
    pipe.pipe.enable_attention_slicing()


@pytest.mark.parametrize("switch", [compiled, channels_last, attention_backend, attention_processor, attention_slicing])
def test_what_diffusers_switches_on_changes_nothing_but_speed(own, images, expected, switch):
    switch(own)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.testing.assert_close(own(images, PROMPTS, **OPTIONS).nats, expected, rtol=1e-3, atol=1e-3)
    assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs) == (switch is compiled)


def test_released_encoders(own, images, expected):
    masked = Masked(PROMPTS[0], "red")
    own.release_text_encoders([*PROMPTS, masked])
    assert own.pipe.text_encoder is None
    assert torch.equal(own(images, PROMPTS, **OPTIONS).nats, expected)
    assert torch.isfinite(own(images[0], PROMPTS[0], given=masked, levels=2).nats).all()
    assert torch.isfinite(own(images[0], PROMPTS[0], marginal=Candidates(PROMPTS), levels=2).nats).all()
    with pytest.raises(ValueError, match=r"released, and 'a dog' is not among the 4 prompts.*load the pipeline again"):
        own(images[0], "a dog", levels=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_network_in_a_float32_wrapper(dtype):
    """Only the network computes in half precision; levels, z, predictions and differences do not."""
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5, dtype=dtype))

        def forward(self, x, time, y):
            seen.append((x.dtype, time.dtype))
            return self.scale * x * y

    alphas = alphas_cumprod_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
    denoiser = Adapted(Network(), DiscreteVP.from_alphas(alphas, "v_prediction"), {"y": torch.zeros(1, 1, dtype=dtype)})
    # Levels are those of the schedule in float64, whatever the network is in.
    assert denoiser.logsnr_range == pytest.approx((-5.364, 7.069), abs=1e-3)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    logsnr = denoiser.snap(torch.linspace(-5, 7, 3))
    predicted = denoiser(x, logsnr, {"y": torch.ones(3, 1, dtype=dtype)})
    assert predicted.dtype == torch.float32
    assert seen[-1][0] == dtype
    a, s = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
    # eps = a v + s z, of which only v is rounded.
    v = (0.5 * x.to(dtype)).float()
    torch.testing.assert_close(predicted, a.float()[:, None] * v + s.float()[:, None] * x, rtol=1e-6, atol=1e-6)
    found = MMG("gap", Trapezoid(8))(denoiser, x, {"y": torch.ones(3, 1, dtype=dtype)})
    assert found.curve.gap.dtype == torch.float64
    same = MMG("gap", Trapezoid(8))(denoiser, x, {"y": torch.zeros(3, 1, dtype=dtype)})
    assert torch.equal(same.nats, torch.zeros(3, dtype=torch.float64))
