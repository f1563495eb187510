"""A model's branches tuned to data: on exact Gaussians, where the best low-rank addition is known, and through pipelines."""

import dataclasses

import pytest
import safetensors.torch
import torch
from diffusers import DiffusionPipeline
from torch import nn

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.arrays import TrainSettings
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.pipelines.tuning import carrying, encoded, networks_of, tune_pipeline
from mmg_diffusers.tuning import Encoded, LowRank, OwnLevels, Tuned, TunePlan, Whole, tune
from mmg_diffusers.worlds.shapes import Shapes
from tests.pipelines.families.test_unet2d import pipeline

ALPHAS = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
FEW = TrainSettings(
    steps=4, batch=4, lr=1e-3, objective="likelihood", weight_decay=0.0, warmup=1, average=0.5, check_every=2
)


class Linear(nn.Module):
    """A network that predicts v of x by a line, the same at all levels; what is told is added to it."""

    def __init__(self):
        super().__init__()
        self.attn = nn.Sequential(nn.Linear(3, 3))
        nn.init.zeros_(self.attn[0].weight)
        nn.init.zeros_(self.attn[0].bias)

    def forward(self, x, time, told):
        return self.attn(x) + told


CONVENTION = DiscreteVP.from_alphas(ALPHAS, "v_prediction")


def made():
    network = Linear()
    return Adapted(network, CONVENTION, {"told": torch.zeros(1, 3)}), {"net": network}


def data(count=64, seed=0):
    x = 0.2 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return Encoded(x, {"told": torch.zeros(2, 3)}, torch.arange(count) % 2)


def plan(**changes):
    return dataclasses.replace(TunePlan(LowRank(2), settings=FEW), **changes)


def best_line(objective, variance):
    """The regression of v = a eps - s x on z = a x + s eps, x of a variance, over the levels that an objective looks at."""
    even = CONVENTION.snap(torch.linspace(*CONVENTION.logsnr_range, 20_001, dtype=torch.float64))
    level = even if objective == "likelihood" else CONVENTION.levels
    a, s = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
    # An error of v is one of eps times a.
    weight = a**2 if objective == "likelihood" else torch.ones_like(level)
    return float((weight * a * s * (1 - variance)).sum() / (weight * (a**2 * variance + s**2)).sum())


@pytest.mark.parametrize("adapter", [LowRank(3), Whole()])
@pytest.mark.parametrize("objective", ["likelihood", "epsilon"])
def test_tuning_finds_the_best_line_of_its_objective(adapter, objective):
    denoiser, networks = made()
    settings = dataclasses.replace(
        FEW, steps=300, batch=128, lr=0.02, objective=objective, check_every=300, average=0.9
    )
    x = data(4096)
    tuned = tune(denoiser, networks, x, plan(adapter=adapter, settings=settings), progress=False)
    with tuned.on(networks), torch.no_grad():
        found = networks["net"].attn(torch.eye(3)) - networks["net"].attn(torch.zeros(1, 3))
    best = best_line(objective, float(x.x.double().var()))
    assert float((found.diagonal() - best).abs().max()) < 0.03
    assert float((found - torch.diag(found.diagonal())).abs().max()) < 0.03
    assert tuned.gained > 0.1
    assert not networks["net"].attn[0].weight.any(), "the networks are as they were"
    assert not hasattr(networks["net"], "peft_config")


def test_the_two_objectives_have_different_bests():
    """So that the test above tells them apart."""
    assert abs(best_line("likelihood", 0.04) - best_line("epsilon", 0.04)) > 0.1


def test_levels_of_the_networks_own_are_even_in_its_time():
    low, high = CONVENTION.logsnr_range
    levels = OwnLevels(low, high, 1.0, convention=CONVENTION)
    drawn = CONVENTION.snap(levels.draw(4000, torch.Generator().manual_seed(0)))
    times = CONVENTION.c_noise(drawn).double().sort().values
    assert float((times - torch.linspace(0, 999, 4000)).abs().max()) < 1.5
    # An error of v is one of eps times a.
    torch.testing.assert_close(levels.weight(drawn), 1 / drawn.sigmoid())


def test_an_interrupted_tuning_goes_on_as_if_it_had_not_been(tmp_path):
    whole_run = tune(*made(), data(), plan(), progress=False)
    file = tmp_path / "c.safetensors"

    class StopError(Exception):
        pass

    denoiser, networks = made()
    calls, forward = [], Linear.forward

    def failing(self, *given, **told):
        calls.append(0)
        if len(calls) > 69:
            raise StopError
        return forward(self, *given, **told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Linear, "forward", failing)
        with pytest.raises(StopError):
            tune(denoiser, networks, data(), plan(), checkpoint=file, progress=False)
    assert file.exists()
    assert not hasattr(networks["net"], "peft_config"), "taken off although it failed"
    again = tune(*made(), data(), plan(), checkpoint=file, progress=False)
    assert again.held_out == whole_run.held_out
    assert all(torch.equal(again.weights[name], value) for name, value in whole_run.weights.items())
    with pytest.raises(ValueError, match="other settings or data"):
        tune(*made(), data(), plan(adapter=LowRank(1)), checkpoint=file, progress=False)


def test_equal_images_are_held_out_together():
    x = data(40)
    twice = Encoded(torch.cat([x.x, x.x]), x.conditions, torch.cat([x.which, x.which]))
    trained, watched = twice.split(0.25, 0)
    assert not torch.isin(trained.marks, watched.marks).any()
    assert len(watched.x) == 20


@pytest.fixture(scope="module")
def plain():
    made = MMGPipeline.from_pretrained(shapes_model("shapes-plain"))
    made.set_progress_bar_config(disable=True)
    return made


def test_a_pipeline_is_tuned_saved_and_read_by_diffusers(plain, tmp_path):
    sample = Shapes("soft").sample(24, 5)
    images, others = list(sample.images[:20]), list(sample.images[20:])
    before = plain.fingerprint()
    settings = dataclasses.replace(FEW, lr=1e-4)
    tuned = tune_pipeline(plain, images, sample.prompts[:20], plan(settings=settings), folder=tmp_path, progress=False)
    assert plain.fingerprint() == before
    assert tuned.gained > 0
    assert tuned.record["plan"]["branches"] == "both"
    base = plain.log_likelihood(others, levels=4)
    again = Tuned.load(tmp_path)
    assert again.held_out == tuned.held_out
    assert torch.equal(again.rows, tuned.rows)
    with carrying(plain, again):
        carried = plain.log_likelihood(others, levels=4)
    assert float(carried.versus(base).nats.abs().min()) > 0
    assert torch.equal(plain.log_likelihood(others, levels=4).nats, base.nats)
    with pytest.raises(ValueError, match="2 of 2 images are among the 20 that the model was tuned to"):
        tuned.check_unseen(encoded(plain, images[:2]))
    tuned.check_unseen(encoded(plain, others))
    loaded = MMGPipeline(DiffusionPipeline.from_pretrained(shapes_model("shapes-plain"), use_safetensors=True))
    loaded.set_progress_bar_config(disable=True)
    loaded.pipe.load_lora_weights(str(tmp_path))
    torch.testing.assert_close(loaded.log_likelihood(others, levels=4).nats, carried.nats)
    with pytest.raises(ValueError, match="the unet carries an adapter of peft already"):
        tune_pipeline(loaded, images, plan=plan(branches="marginal"), progress=False)
    with pytest.raises(ValueError, match="tuned from another model"), carrying(loaded, again):
        pass


def test_an_unconditional_network_of_pixels_is_tuned():
    made = MMGPipeline(pipeline()())
    made.set_progress_bar_config(disable=True)
    images = list(torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 4)
    tuned = tune_pipeline(made, images, plan=plan(branches="marginal"), progress=False)
    assert tuned.gained > 0
    assert set(networks_of(made)) == {"unet"}
    assert tuned.record["plan"]["branches"] == "marginal"


def test_a_transformer_of_a_flow_is_tuned():
    made = MMGPipeline.from_pretrained(shapes_model("shapes-flow"))
    made.set_progress_bar_config(disable=True)
    sample = Shapes("soft").sample(10, 5)
    settings = dataclasses.replace(FEW, steps=1, batch=1, check_every=1)
    with folded_zeros(made.pipe):
        chosen = plan(settings=settings, branches="conditional", held_out=0.1)
        tuned = tune_pipeline(made, list(sample.images), sample.prompts, chosen, progress=False)
    assert any(".lora_A." in name and name.startswith("transformer.") for name in tuned.weights)
    assert len(tuned.held_out) == 2


def test_weights_of_another_network_are_refused(tmp_path):
    tuned = tune(*made(), data(), plan(), progress=False)
    tuned.save(tmp_path)
    _, networks = made()
    networks["net"].attn[0] = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="of another model"), tuned.on(networks):
        pass
    file = tmp_path / "pytorch_lora_weights.safetensors"
    names = set(safetensors.torch.load_file(file))
    assert names == {"net.attn.0.lora_A.weight", "net.attn.0.lora_B.weight"}
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="no complete tuned weights"):
        Tuned.load(tmp_path)


def test_a_scale_is_part_of_what_is_saved(tmp_path):
    tuned = tune(*made(), data(), plan(adapter=LowRank(2, scale=0.5)), progress=False)
    again = Tuned.load(tuned.save(tmp_path))
    for name, value in tuned.weights.items():
        torch.testing.assert_close(again.weights[name], value)
    saved = safetensors.torch.load_file(tmp_path / "pytorch_lora_weights.safetensors")
    b = tuned.weights["net.attn.0.lora_B.tuned.weight"]
    assert float(b.abs().max()) > 0
    torch.testing.assert_close(saved["net.attn.0.lora_B.weight"], b / 2)
