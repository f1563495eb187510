"""The pipeline on the model that ships with the package, and on small random models of other kinds."""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from mmg_diffusers import Candidates, Estimate, MMGPipeline, Tolerance, shapes_model
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.measure.quadrature import Simpson, StratifiedUniform
from mmg_diffusers.worlds.shapes import CAPTIONS, WORDS, Shapes

COLOURS = WORDS["colour"]


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(6, seed=11)


@pytest.fixture(scope="module")
def estimate(pipe, sample):
    return pipe(list(sample.images), sample.prompts, levels=6, keep="pixel", seed=3)


# ---- the model that ships ----


def test_plain_diffusers_loads_the_shipped_model_and_draws(sample):
    plain = StableDiffusionPipeline.from_pretrained(shapes_model())
    plain.set_progress_bar_config(disable=True)
    drawn = plain(
        sample.prompts[0], num_inference_steps=4, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images
    assert drawn.shape == (1, 32, 32, 3)
    assert np.isfinite(drawn).all()


def test_the_shipped_model_is_small_and_safe():
    files = [path for path in shapes_model().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
    assert {path.name for path in files} >= {"model_index.json", "README.md"}


def test_prompts_tell_pairs_from_shuffled_ones(pipe):
    sample = Shapes("soft").sample(12, seed=5)
    images = list(sample.images)
    matched = pipe(images, sample.prompts, levels=8, integrand="gap", seed=1)
    turned = sample.prompts[7:] + sample.prompts[:7]
    shuffled = pipe(images, turned, levels=8, integrand="gap", seed=1)
    difference = matched.nats - shuffled.nats
    stderr = float(difference.std()) / len(difference) ** 0.5
    # A wrong caption of four words misinforms by many nats.
    assert float(difference.mean()) > 3 + 2 * stderr
    assert matched.mean().value > 2


def test_classify_finds_the_captions(pipe):
    world = Shapes("hard")
    sample = world.sample(5, seed=21)
    found = pipe.classify(list(sample.images), CAPTIONS, levels=16, logsnr_range=(-5.3, 3.0), prune=1e-4, seed=1)
    torch.testing.assert_close(found.posterior.sum(1), torch.ones(5, dtype=torch.float64))
    assert sum(a == b for a, b in zip(found.best, sample.prompts, strict=True)) >= 4
    assert found.bound(sample.prompts).value > 0.8 * world.entropy()
    assert found.bound(sample.prompts).value < found.entropy


# ---- exactness ----


def test_same_condition_in_both_branches_is_exactly_zero(pipe, sample):
    out = pipe(list(sample.images), sample.prompts, given=sample.prompts, levels=5)
    assert torch.equal(out.nats, torch.zeros(6, dtype=torch.float64))
    empty = pipe(list(sample.images), "", levels=5, integrand="gap")
    assert torch.equal(empty.nats, torch.zeros(6, dtype=torch.float64))


def test_given_is_additive_in_the_gap_form(pipe, sample):
    """i(x; y, c) = i(x; c) + i(x; y | c): with shared noise the gap form adds up but for rounding."""
    images = list(sample.images)
    options = {"levels": 8, "integrand": "gap", "seed": 2}
    context = ["a circle"] * 6
    whole = pipe(images, sample.prompts, **options).nats
    first = pipe(images, context, **options).nats
    rest = pipe(images, sample.prompts, given=context, **options).nats
    torch.testing.assert_close(first + rest, whole, rtol=1e-4, atol=1e-3)


def test_runs_repeat_bit_for_bit(pipe, sample, estimate):
    again = pipe(list(sample.images), sample.prompts, levels=6, keep="pixel", seed=3)
    assert torch.equal(again.nats, estimate.nats)
    assert torch.equal(again.curve.gap, estimate.curve.gap)
    other = pipe(list(sample.images), sample.prompts, levels=6, seed=4)
    assert not torch.equal(other.nats, estimate.nats)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_batch_size_changes_nothing(pipe, sample, estimate, rows):
    """Rounding included, where kernels round a row alike in every batch of 16 or more; measured bit for bit on x86."""
    again = pipe(list(sample.images), sample.prompts, levels=6, seed=3, batch_size=rows)
    for form in ("gap", "orthogonal"):
        torch.testing.assert_close(again.using(form).nats, estimate.using(form).nats, rtol=1e-6, atol=0)
    assert again.evaluations == estimate.evaluations == 6 * 6 * 2 * 2


def test_a_pair_does_not_depend_on_its_neighbours(pipe, sample, estimate):
    alone = pipe(sample.images[4], sample.prompts[4], levels=6, seed=3, pair_ids=[4])
    for form in ("gap", "orthogonal"):  # "auto" weighs the two by all pairs of a measurement
        torch.testing.assert_close(alone.using(form).nats, estimate.using(form).nats[4:5], rtol=1e-6, atol=0)


def test_maps_sum_to_the_pair(estimate):
    for form in ("gap", "orthogonal"):
        total = estimate.pixel_map(form)[0].flatten(1).sum(1)
        torch.testing.assert_close(total, estimate.using(form).nats, rtol=1e-9, atol=1e-9)


def test_influence_starts_at_the_whole_and_ends_at_nothing(estimate):
    over = influence(estimate)
    torch.testing.assert_close(over.nats[:, 0], estimate.nats)
    torch.testing.assert_close(over.stderr[:, 0], estimate.stderr)
    assert torch.equal(over.nats[:, -1], torch.zeros(6, dtype=torch.float64))
    assert over.logsnr[0] <= over.half().value <= over.logsnr[-1]


def test_influence_by_simpson_is_the_estimate_of_the_same_run(pipe, sample, estimate):
    out = pipe(list(sample.images), sample.prompts, quadrature=Simpson(7), seed=3)
    over = influence(out, pipe.denoiser.convention)
    assert torch.equal(over.nats[:, 0], out.nats)
    assert torch.equal(influence(estimate).nats[:, 0], estimate.nats)
    assert over.on("tau")[[0, -1]].tolist() == pytest.approx([1.0, 0.0])
    assert over.on("timestep")[0] == 999
    half = over.half("tau")
    assert half.value == pytest.approx(float(pipe.denoiser.convention.tau(torch.tensor([over.half().value]))))
    assert 0 < half.stderr < 0.5
    share, error = over.arrived()
    assert share[[0, -1]].tolist() == [0.0, 1.0]
    assert error[[0, -1]].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert torch.equal(over[:2].nats, over.nats[:2])
    with pytest.raises(ValueError, match="'time'; expected one of logsnr, timestep, tau"):
        over.on("time")
    with pytest.raises(ValueError, match="convention=pipe"):
        influence(out).half("tau")


def test_bands_of_maps_add_up(pipe, sample, estimate):
    images, options = list(sample.images[:2]), {"levels": 6, "seed": 3}
    low, high = pipe.denoiser.logsnr_range
    whole = pipe(images, sample.prompts[:2], keep="level", **options)
    torch.testing.assert_close(whole.pixel_map("gap")[0], estimate.pixel_map("gap")[0][:2], rtol=1e-4, atol=1e-5)
    for form in ("gap", "orthogonal"):
        nats, stderr = zip(
            *(whole.pixel_map(form, band) for band in ((low, -1.0), (-1.0, 2.5), (2.5, high))), strict=True
        )
        torch.testing.assert_close(sum(nats), whole.pixel_map(form)[0])
        assert all((one > 0).all() for one in stderr)
    all_of_it = whole.pixel_map("gap", (low, high))
    torch.testing.assert_close(all_of_it[0], whole.pixel_map("gap")[0])
    torch.testing.assert_close(all_of_it[1], whole.pixel_map("gap")[1])
    spread, _ = pipe.pixel_map(images, sample.prompts[:2], integrand="gap", band=(-1.0, 2.5), **options)
    torch.testing.assert_close(spread.sum((1, 2)), whole.pixel_map("gap", (-1.0, 2.5))[0].sum((1, 2)))
    with pytest.raises(ValueError, match="keep='level'"):
        estimate.pixel_map("gap", (-1.0, 2.5))
    with pytest.raises(ValueError, match="not a rising part"):
        whole.pixel_map("gap", (-1.0, 8.0))
    drawn = pipe(images, sample.prompts[:2], quadrature=StratifiedUniform(4), keep="level")
    with pytest.raises(ValueError, match="levels that all pairs share"):
        drawn.pixel_map("gap", (-1.0, 2.5))


def test_maps_of_images_that_are_not_square(pipe):
    """The object lights up where it is, rows and columns not exchanged, on an image of another shape."""
    sample = Shapes("hard").sample(60, seed=8)
    left = next(k for k, prompt in enumerate(sample.prompts) if "small" in prompt and "left" in prompt)
    image = np.full((32, 48, 3), 0.5, dtype=np.float32)
    image[:, :32] = sample.images[left]
    colour = Candidates(
        [sample.prompts[left].replace(c, d) for c in [sample.prompts[left].split()[2]] for d in COLOURS]
    )
    nats, stderr = pipe.pixel_map(image, sample.prompts[left], marginal=colour, levels=10)
    assert nats.shape == stderr.shape == (1, 32, 48)
    inside = np.pad(sample.mask[left] > 0.5, ((0, 0), (0, 16)))
    assert float(nats[0][torch.from_numpy(inside)].mean()) > 4 * float(nats[0][:, 32:].mean())


def test_a_path_that_begins_late_says_so(pipe, sample):
    found = pipe.filter(
        list(sample.images), sample.prompts, list(dict.fromkeys(sample.prompts)), levels=3, logsnr_range=(0.0, 2.0)
    )
    assert any("begins at log-SNR 0.00" in text for text in found.warnings())
    assert "do not know what is told below" in str(found)


def test_influence_refuses_drawn_levels(pipe, sample):
    out = pipe(list(sample.images), sample.prompts, quadrature=StratifiedUniform(6))
    with pytest.raises(ValueError, match="Trapezoid"):
        influence(out)


def test_records_keep_what_made_them(tmp_path, estimate):
    back = Estimate.load(estimate.save(tmp_path / "estimate.safetensors"))
    assert torch.equal(back.nats, estimate.nats)
    assert torch.equal(back.pixel_map()[0], estimate.pixel_map()[0])
    assert back.settings["model"] == str(shapes_model())
    assert back.settings["seed"] == 3
    assert set(back.versions) >= {"torch", "diffusers", "mmg-diffusers"}
    assert back.warnings() == estimate.warnings()


# ---- fewer calls for the same error ----


def test_a_tolerance_draws_on_where_it_is_needed(pipe, sample):
    images = list(sample.images[:3])
    wanted = Tolerance(1.0, most=6)
    found = pipe(images, sample.prompts[:3], levels=6, integrand="gap", seed=3, tolerance=wanted)
    assert found.tolerance == wanted
    draws = found.curve.draws.tolist()
    assert min(draws) >= 2
    assert found.evaluations == sum(draws) * 6 * 2 * 2
    assert all(drawn == 6 for drawn, reached in zip(draws, found.reached, strict=True) if not reached)
    # Its first draws are those of a measurement without.
    fixed = pipe(images, sample.prompts[:3], levels=6, integrand="gap", seed=3, draws=2)
    torch.testing.assert_close(found.curve.gap[:, :2], fixed.curve.gap, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"tolerance= belongs to the null prompt"):
        pipe(images, sample.prompts[:3], marginal=Candidates(CAPTIONS), tolerance=wanted)


def test_compared_prompts_see_the_same_noise(pipe, sample, monkeypatch):
    seen: list[torch.Tensor] = []
    forward = pipe.denoiser._predict

    def spy(z, logsnr, cond):
        seen.append(z.clone())
        return forward(z, logsnr, cond)

    monkeypatch.setattr(pipe.denoiser, "_predict", spy)
    options = {"seed": 3, "quadrature": StratifiedUniform(4), "draws": 2}
    for prompt in ("a red circle", "a blue square"):
        pipe(sample.images[0], prompt, **options)
    assert torch.equal(*seen)
    # Both signs, and the same for both branches.
    base, conditional = seen[0].chunk(2)
    assert torch.equal(base, conditional)
    one = pipe(sample.images[0], "a red circle", antithetic=False, **options)
    assert torch.equal(seen[2].chunk(2)[0][:4], base[:4])
    assert one.evaluations == 4 * 2 * 2


def test_a_pilot_puts_levels_where_the_curve_is(pipe, sample):
    images = list(sample.images[:2])
    low = pipe.denoiser.logsnr_range[0]
    rule = pipe.pilot(images, sample.prompts[:2], nodes=8, seed=3, logsnr_range=(low, 2.0))
    assert rule.nodes == 8
    assert (rule.edges[0], rule.edges[-1]) == pytest.approx((low, 2.0))
    # Captions are told between log-SNR -3 and 0 more than near pure noise.
    density = np.array(rule.mass) / np.diff(rule.edges)
    middle = (np.array(rule.edges[1:]) + np.array(rule.edges[:-1])) / 2
    assert density[(middle > -3) & (middle < 0)].mean() > 1.5 * density[middle < -4.5].mean()
    found = pipe(images, sample.prompts[:2], quadrature=rule, seed=3)
    assert found.evaluations == 2 * 8 * 2 * 2
    assert found.settings["quadrature"] == repr(rule)


def peak_memory(call):
    """Peak resident bytes while `call` runs, above what is resident before."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = resident("VmHWM")
    call()
    return resident("VmHWM") - before


def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads peak memory where Linux shows it")
def test_peak_memory_does_not_grow_with_the_pairs(pipe):
    images = list(Shapes("soft").sample(96, seed=9).images)

    def measure(count):
        pipe(images[:count], "a red circle", levels=2, batch_size=64)

    measure(16)  # what libraries allocate once
    few, many = peak_memory(lambda: measure(16)), peak_memory(lambda: measure(96))
    # 80 more pairs are 1 MB of pixels and 0.1 MB of latents; a batch of activations is several times that.
    assert many < few + 8 * 2**20


# ---- inputs ----


def test_images_in_any_guise_are_the_same(pipe, sample, tmp_path):
    eight = (sample.images[0] * 255).round().astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "one.png")
    options = {"levels": 3, "batch_size": 6}
    expected = pipe(eight, "a red circle", **options).nats
    tensor = torch.from_numpy(eight).permute(2, 0, 1)
    for image in (Image.fromarray(eight), tensor, tmp_path / "one.png", str(tmp_path / "one.png"), eight[None]):
        assert torch.equal(pipe(image, "a red circle", **options).nats, expected)
    floats = eight / np.float64(255)
    for image in (tensor.float() / 255, floats, floats.astype(np.longdouble), floats.astype(">f4")):
        torch.testing.assert_close(pipe(image, "a red circle", **options).nats, expected)
    counted = pipe.classify(eight, (text for text in ("a red circle", "a blue square")), levels=np.int64(3))
    assert counted.curve.logsnr.shape == (4,)


def test_resizing_only_when_asked_and_said(pipe):
    big = np.full((64, 48, 3), 0.5)
    out = pipe(big, "a red circle", levels=2, resize=True)
    assert out.settings["resized"] is True
    other_size = pipe(np.full((64, 48, 3), 0.5), "a red circle", levels=2, keep="pixel")
    assert other_size.pixel_map()[0].shape == (1, 16, 12)


def test_labels_that_repeat_have_a_ceiling(pipe, sample):
    """Two captions for ten images hold ln 2 and no more, which a null that was trained on 48 of them does not know."""
    captions = ["a small red circle on the left", "a large blue square on the right"]
    images = list(Shapes("hard").sample(10, 5).images)
    options = {"levels": 2, "logsnr_range": (-1.0, 0.0)}
    found = pipe(images, captions * 5, **options)
    assert found.ceiling.tolist() == pytest.approx([math.log(2) + 1 / 20] * 10)
    assert pipe(images[:4], captions * 2, **options).ceiling is None
    assert pipe(images[:2], captions, entropy=0.3, **options).ceiling.tolist() == [0.3, 0.3]
    skewed = pipe.filter(images[:2], captions, Candidates(captions, [0.8, 0.2]), levels=(-3.0, 0.0, 1.0))
    assert skewed.against_mixture.ceiling.tolist() == pytest.approx([-math.log(0.8), -math.log(0.2)])


def test_a_long_prompt_is_reported(pipe, sample):
    long = "a large red circle on the left " * 2
    for measure in (pipe, pipe.pilot):
        with pytest.warns(UserWarning, match="does not see") as seen:
            measure(sample.images[0], long)
        # The warning names the line that gave the prompt.
        assert [record.filename for record in seen if "does not see" in str(record.message)] == [__file__]
    with pytest.warns(UserWarning, match="does not see"):
        out = pipe(sample.images[0], long, levels=2)
    assert any("does not see" in note for note in out.warnings())


def test_no_bar_moves_in_a_pipe_and_none_that_is_turned_off(sample, capfd, monkeypatch):
    own = MMGPipeline.from_pretrained(shapes_model())
    own(sample.images[0], "a red circle", levels=2)
    said = capfd.readouterr().err  # no terminal
    assert "%|" not in said
    assert "torchvision" not in said
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    own(sample.images[0], "a red circle", levels=2)
    assert "MMG" in capfd.readouterr().err
    own.set_progress_bar_config(disable=True)
    own(sample.images[0], "a red circle", levels=2)
    assert "MMG" not in capfd.readouterr().err


# ---- folders ----


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(shapes_model(), tmp_path / "model")


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_any_scheduler_of_the_folder_gives_the_training_noise(pipe, folder, scheduler):
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"_class_name": scheduler}))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", scheduler]
    (folder / "model_index.json").write_text(json.dumps(index))
    other = MMGPipeline.from_pretrained(folder)
    assert isinstance(other.denoiser.convention, DiscreteVP)
    assert torch.equal(other.denoiser.convention.levels, pipe.denoiser.convention.levels)


class Speaking(torch.nn.Module):
    """A UNet that says the noise where its own network says v; what a folder of epsilon-prediction would hold."""

    def __init__(self, unet, alphas):
        super().__init__()
        self.unet, self.alphas = unet, alphas

    def forward(self, x, time, encoder_hidden_states, return_dict):
        (v,) = self.unet(x, time, encoder_hidden_states=encoder_hidden_states, return_dict=return_dict)
        alpha = self.alphas[time.long()].view(-1, 1, 1, 1)
        return (alpha.sqrt() * v + (1 - alpha).sqrt() * x,)


def test_an_epsilon_folder_speaks_of_the_noise(pipe, folder, sample, estimate):
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "epsilon"}))
    other = MMGPipeline.from_pretrained(folder)
    other.set_progress_bar_config(disable=True)
    assert other.describe()["prediction"] == "epsilon"
    # The same weights told to predict the noise are another model, which fails its own certificate.
    wrong = other(list(sample.images), sample.prompts, levels=6, seed=3)
    assert abs(wrong.mean().value - estimate.mean().value) > 1
    # Networks that do predict the noise give what the v-prediction that they are made of gives.
    wrapper = other.denoiser.network
    wrapper.module = Speaking(wrapper.module, other.pipe.scheduler.alphas_cumprod)
    torch.testing.assert_close(
        other(list(sample.images), sample.prompts, levels=6, seed=3).using("gap").nats,
        estimate.using("gap").nats,
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_pipeline_in_memory_shares_its_weights(sample, estimate):
    plain = StableDiffusionPipeline.from_pretrained(shapes_model())
    own = MMGPipeline(plain)
    own.set_progress_bar_config(disable=True)
    assert own.pipe is plain
    out = own(list(sample.images), sample.prompts, levels=6, seed=3)
    assert torch.equal(out.nats, estimate.nats)


def test_dtypes_agree(sample, estimate):
    half = MMGPipeline.from_pretrained(shapes_model(), torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert half.dtype == torch.bfloat16
    out = half(list(sample.images), sample.prompts, levels=6, seed=3)
    assert out.settings["dtype"] == "bfloat16"
    gap = out.using("gap").nats - estimate.using("gap").nats
    assert float(gap.abs().max()) < 4 * float(estimate.using("gap").stderr.max())


def test_description(pipe):
    found = pipe.describe()
    assert found["prediction"] == "v_prediction"
    assert found["latent_shape"] == [4, 8, 8]
    assert found["logsnr_range"] == [-5.364, 7.0694]
    assert found["null"] == "the encoded empty prompt"
