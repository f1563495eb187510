"""The self-test names the mistake, passes what is right, and does not judge a network that was never trained."""

import copy

import pytest
import torch

from mmg_diffusers import MMGPipeline
from mmg_diffusers.commands import inspecting
from mmg_diffusers.denoisers.selftest import self_test
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import call
from tests.pipelines.families import dit, stable_diffusion, stable_diffusion_3, test_unet2d

FEW = {"levels": 4}


class Changed:
    """A convention whose coefficients are changed."""

    def __init__(self, convention, change):
        self.convention, self.change = convention, change

    def coefficients(self, logsnr):
        return self.change(self.convention.coefficients(logsnr))

    def __getattr__(self, name):
        return getattr(self.convention, name)


@pytest.fixture(scope="module")
def data(pipe):
    sample = Shapes("soft").sample(8, seed=5)
    x = torch.cat([part for _, part in pipe.encoder.images(list(sample.images), False)])
    return x, pipe.encoder.condition(sample.prompts)


# A change of the coefficients, the scale of the variable, and what the finding says.
MISTAKES = {
    "sign": (lambda k: k._replace(c_out=-k.c_out), 1, "if its prediction's sign is turned"),
    "time": (lambda k: k._replace(c_noise=999 - k.c_noise), 1, "if its time runs the other way"),
    "told": (lambda k: k._replace(c_noise=(k.c_noise - 150).clamp(min=0)), 1, "less if the network is told"),
    "scale": (lambda k: k, 5, "if its variable is divided by 5"),
    "small scale": (lambda k: k, 0.2, "if its variable is multiplied by 5"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(pipe, data, name):
    x, condition = data
    change, scale, says = MISTAKES[name]
    wrong = copy.copy(pipe.denoiser)
    wrong.convention = Changed(wrong.convention, change)
    found = self_test(wrong, scale * x, condition, levels=3)
    assert found.verdict == "failed"
    assert says in found.findings[0]


def test_what_is_right_passes_and_a_wrong_null_is_remarked_on(pipe, data):
    x, condition = data
    found = self_test(pipe.denoiser, x, condition, **FEW)
    assert (found.verdict, found.findings, found.remarks) == ("passed", (), ())
    # Near 0 at the noisy end, and never above what a multiple of z leaves.
    assert float(found.errors["conditional"][0]) < 0.01
    assert bool((found.errors["unconditional"] < found.linear).all())
    assert bool((found.errors["another's"] > found.errors["conditional"]).all())
    other = copy.copy(pipe.denoiser)
    other.null = {name: value[:1] for name, value in condition.items()}
    found = self_test(other, x, condition, **FEW)
    assert found.verdict == "passed"
    assert "is what stands for none what the network was trained with" in found.remarks[0]


@pytest.mark.parametrize(
    "row",
    [stable_diffusion.ROWS[0], stable_diffusion.ROWS[1], stable_diffusion_3.ROWS[0], dit.ROWS[0]],
    ids=lambda row: row.name,
)
def test_a_network_that_was_never_trained_is_not_judged(row):
    model = MMGPipeline(row.build(), null=row.null)
    model.set_progress_bar_config(disable=True)
    images = list(torch.rand(8, 3, *model.codec.native_size, generator=torch.Generator().manual_seed(0)))
    found = model.self_test(images, list(row.prompts) * 4)
    assert found.verdict == "cannot tell"
    assert "untrained network" in found.findings[0]


def test_an_unconditional_network_is_tested_without_prompts():
    model = MMGPipeline(test_unet2d.pipeline()())
    images = list(torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    found = model.self_test(images)
    assert set(found.errors) == {"unconditional"}
    assert found.verdict == "cannot tell"


def test_what_cannot_be_tested_is_refused(gaussian):
    oracle, x, cond = gaussian
    with pytest.raises(ValueError, match="8 variables or more"):
        self_test(oracle, x[:7], {"y": cond["y"][:7]})
    with pytest.raises(ValueError, match="9 rows for 8"):
        self_test(oracle, x[:8], {"y": cond["y"][:9]})


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(inspecting, "COUNT", 8)
    monkeypatch.setattr(inspecting, "PROMPTS", inspecting.PROMPTS[4:12])
    monkeypatch.setattr(inspecting, "STEPS", 2)
    said = call("inspect", "shapes", "--check")
    assert said.exit_code == 0, said.output
    assert "self-test on 8 images: passed" in said.output
    text = " ".join(said.output.split())
    assert "audit, 8 images and" in text
    assert "prompts in 12 steps: the null branch is" in text
    stable_diffusion.ROWS[0].build().save_pretrained(tmp_path)
    said = call("inspect", tmp_path, "--check")
    assert said.exit_code == 1, said.output
    assert "cannot tell" in said.output
    assert "the images are the model's own" in said.output
