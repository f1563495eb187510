"""The examples of CONTRIBUTING.md run, and do what they say."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from typer.testing import CliRunner

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.pipelines.adapters import registry
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")


def section(title):
    """The names that the code under a heading defines."""
    code = re.search(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
    names = {"__name__": "contributing"}
    exec(compile(code, f"CONTRIBUTING.md: {title}", "exec"), names)
    return names


def test_every_block_is_run():
    titles = re.findall(r"^## (.*)\n(?:(?!^## ).*\n)*?```python", PAGE, re.MULTILINE)
    assert titles == ["A family", "An estimator", "A marginal", "An analysis", "A command"]


def test_a_family(monkeypatch, pipe):
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    section("A family")

    class MyPipeline(StableDiffusionPipeline):
        pass

    mine = MMGPipeline(MyPipeline.from_pretrained(shapes_model()))
    mine.set_progress_bar_config(disable=True)
    sample = Shapes("soft").sample(2, seed=5)
    theirs = pipe(list(sample.images), sample.prompts, levels=3)
    assert torch.equal(mine(list(sample.images), sample.prompts, levels=3).nats, theirs.nats)
    assert type(mine.family).__name__ == "MyFamily"


def test_an_estimator(gaussian):
    denoiser, x, cond = gaussian
    found = section("An estimator")["GapBySimpson"]()(denoiser, x, cond, logsnr_range=(-12.0, 14.0)).mean()
    exact = -0.5 * float(torch.log(1 - torch.tensor([0.9, 0.5]).square()).sum())
    assert 0.8 < exact < 1.1
    assert abs(found.value - exact) < 4 * found.stderr < 0.3


def test_a_marginal_and_an_analysis(pipe):
    marginal = section("A marginal")["OfOneLength"](CAPTIONS)
    sample = Shapes("soft").sample(3, seed=6)
    found = pipe.filter(list(sample.images), sample.prompts, marginal, levels=8)
    for prompt, slots, prior in zip(sample.prompts, found.mixture.slots, found.mixture.prior, strict=True):
        among = [CAPTIONS[k] for k, share in zip(slots.tolist(), prior.tolist(), strict=True) if share > 0]
        assert prompt in among
        assert {len(text.split()) for text in among} == {len(prompt.split())}
    assert found.settings["marginal"] == "OfOneLength"
    against = pipe(list(sample.images), sample.prompts, marginal=marginal, levels=8, integrand="gap")
    assert torch.equal(against.nats, found.against_mixture.using("gap").nats)
    decided = section("An analysis")["decided"]
    assert decided(found).shape == (3,)
    assert (decided(found, 0.99) >= decided(found, 0.5)).all()
    assert decided(found, 0.0).tolist() == [float(found.logsnr[0])] * 3


def test_a_command(gaussian, tmp_path):
    from mmg_diffusers.measure import MMG

    denoiser, x, cond = gaussian
    record = MMG("gap")(denoiser, x[:9], {"y": cond["y"][:9]}, logsnr_range=(-3.0, 3.0))
    record.save(tmp_path / "record.safetensors")
    said = CliRunner().invoke(section("A command")["app"], [str(tmp_path / "record.safetensors")])
    assert said.exit_code == 0
    assert said.output.strip() == str(record.mean())


@pytest.mark.parametrize("package", ["checks", "files", "denoisers", "measure", "pairs", "runs", "pipelines", "worlds"])
def test_every_package_is_in_the_picture(package):
    assert package in PAGE.split("## A family")[0]
