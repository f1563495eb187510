"""How likely images are, through a pipeline: ratios that are informations, references, runs, refusals."""

import pytest
import torch

from mmg_diffusers import MMGPipeline, load
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.measure import Density, StratifiedUniform, density
from mmg_diffusers.pairs import Likelihood, Plan
from mmg_diffusers.runs import Outcome
from mmg_diffusers.worlds.shapes import Shapes
from tests.pipelines.families.test_unet2d import pipeline

RULE = StratifiedUniform(8)


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(4, 11)


@pytest.fixture(scope="module")
def reference(pipe):
    return pipe.fit_reference(list(Shapes("soft").sample(96, 77).images))


def test_the_ratio_of_two_likelihoods_is_the_gap_of_the_same_run(pipe, sample, reference):
    images = list(sample.images)
    told = pipe.log_likelihood(images, sample.prompts, reference=reference, rule=RULE, seed=3)
    alone = pipe.log_likelihood(images, reference=reference, rule=RULE, seed=3)
    gap = pipe(images, sample.prompts, rule=RULE, antithetic=False, integrand="gap", seed=3)
    torch.testing.assert_close(told.versus(alone).nats, gap.nats, atol=1e-5, rtol=0)
    assert told.evaluations == alone.evaluations == 4 * 8 * told.settings["draws"]
    assert told.variable == "VAE latent (posterior mode)"
    assert told.dimensions == 256


def test_it_is_the_density_of_the_latents(pipe, sample, reference):
    with pipe.ready() as bench:
        x = torch.cat([part for _, part in bench.encoder.images(list(sample.images), False)])
    found = pipe.log_likelihood(list(sample.images), reference=reference, rule=RULE, pair_ids=[5, 6, 7, 8])
    direct = Density(reference, RULE)(pipe.denoiser, x, pair_ids=torch.arange(5, 9))
    assert torch.equal(found.nats, direct.nats)
    assert found.settings["model"] == str(pipe.describe()["model"])


def test_a_fitted_reference_leaves_less_noise_and_knows_its_images(pipe, sample, reference, tmp_path):
    images = list(sample.images)
    plain = pipe.log_likelihood(images, rule=StratifiedUniform(32))
    less = pipe.log_likelihood(images, reference=reference, rule=StratifiedUniform(32))
    assert float(less.stderr.mean()) < 0.8 * float(plain.stderr.mean())
    found = pipe.log_likelihood(images, reference=reference, rule=RULE)
    again = GaussianReference.load(reference.save(tmp_path / "r.safetensors"))
    assert torch.equal(pipe.log_likelihood(images, reference=again, rule=RULE).nats, found.nats)
    own = pipe.log_likelihood(list(Shapes("soft").sample(96, 77).images)[:2], reference=reference, rule=RULE)
    assert any("2 of 2 x are among the points" in said for said in own.warnings())
    assert torch.equal(load(found.save(tmp_path / "l.safetensors")).nats, found.nats)


def test_a_reference_with_a_pilot_leaves_less_noise_at_the_same_cost(pipe, sample, tmp_path):
    others, images = list(Shapes("soft").sample(96, 77).images), list(sample.images)
    piloted = pipe.fit_reference(others, pilot=16)
    assert piloted.pilot is not None
    assert piloted.fitted is not None
    assert (len(piloted.fitted.rows), len(piloted.pilot.rows)) == (80, 16)
    assert not torch.isin(piloted.pilot.rows, piloted.fitted.rows).any()
    plain = pipe.fit_reference(others)
    one, two = (pipe.log_likelihood(images, reference=held, levels=24, draws=2) for held in (plain, piloted))
    assert two.evaluations <= one.evaluations + 4 * 2 * 2  # levels of the model that fall together are one
    assert float(two.stderr.square().mean()) < 0.6 * float(one.stderr.square().mean())
    error = float((one.stderr.square() + two.stderr.square()).mean().sqrt())
    assert float((one.nats - two.nats).square().mean().sqrt()) < 3 * error
    # Told prompts, the same levels; so what both share cancels.
    told = pipe.log_likelihood(images, sample.prompts, reference=piloted, levels=24, draws=2)
    assert float(told.versus(two).stderr.mean()) < float(two.stderr.mean())
    own = pipe.log_likelihood([others[0], others[1]], reference=piloted, levels=4).warnings()
    assert any("1 of 2 x are among the points" in said for said in own)
    assert any("1 of 2 x are among those of the pilot" in said for said in own)


def test_a_pilot_is_told_what_its_images_are(pipe, sample, monkeypatch):
    monkeypatch.setattr(density, "PILOT_LEVELS", 8)
    shown = Shapes("soft").sample(20, 5)
    told, alone = (pipe.fit_reference(list(shown.images), prompts, pilot=8) for prompts in (shown.prompts, None))
    assert told.pilot.data == alone.pilot.data
    assert told.pilot.shares != alone.pilot.shares


def test_maps_take_the_levels_of_a_pilot_without_its_control(pipe, sample, monkeypatch):
    monkeypatch.setattr(density, "PILOT_LEVELS", 8)
    piloted = pipe.fit_reference(list(Shapes("soft").sample(20, 5).images), pilot=8)
    found = pipe.log_likelihood(list(sample.images), reference=piloted, levels=4, keep="pixel")
    torch.testing.assert_close(found.pixel_map()[0].sum((1, 2)), found.nats)
    assert found.control is None
    assert found.settings["quadrature"].startswith("StratifiedProfile(nodes=4")


def test_noise_is_less_likely_than_pictures(pipe, sample, reference):
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = pipe.log_likelihood([*sample.images[:2], *noise], reference=reference, rule=RULE)
    assert float(found.nats[:2].min()) > float(found.nats[2:].max()) + 200


def test_a_network_that_is_told_nothing():
    made = MMGPipeline(pipeline()())
    made.set_progress_bar_config(disable=True)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = made.log_likelihood(list(images), rule=RULE)
    assert found.variable == "pixels in [-1, 1]"
    direct = Density(GaussianReference(), RULE)(made.denoiser, 2 * images - 1)
    torch.testing.assert_close(found.nats, direct.nats)


def test_a_run_of_likelihoods(pipe, sample, reference, tmp_path):
    rows = [{"image": image, "prompt": prompt} for image, prompt in zip(sample.images, sample.prompts, strict=True)]
    made = pipe.run(rows, tmp_path / "run", marginal=Likelihood(reference), rule=RULE, progress=False)
    direct = pipe.log_likelihood(list(sample.images), sample.prompts, reference=reference, rule=RULE)
    assert torch.equal(made.estimate.nats, direct.nats)
    assert Outcome.load(tmp_path / "run").to_pandas()["bits_per_dim"].notna().all()
    with pytest.raises(ValueError, match="conditional"):
        pipe.run(rows, tmp_path / "run", marginal=Likelihood(reference, conditional=False), rule=RULE, progress=False)


def test_a_network_without_a_null_is_asked_for_a_prompt():
    classes = MMGPipeline(pipeline(num_class_embeds=4)())
    classes.set_progress_bar_config(disable=True)
    images = list(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    others = list(torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="no unconditional branch; give prompts= that the pilot's images are told"):
        classes.fit_reference(others, kind="diagonal", pilot=8)
    piloted = classes.fit_reference(others, "1", kind="diagonal", pilot=8)
    assert classes.log_likelihood(images, "1", reference=piloted, levels=4).control is not None
    with pytest.raises(ValueError, match="no unconditional branch: log p\\(image\\) cannot be had"):
        classes.log_likelihood(images)
    found = classes.log_likelihood(images, ["1", "3"], rule=RULE)
    labels = {"class_labels": torch.tensor([1, 3])}
    direct = Density(GaussianReference(), RULE)(classes.denoiser, 2 * torch.stack(images) - 1, labels)
    torch.testing.assert_close(found.nats, direct.nats)


def test_what_belongs_to_information_is_refused(pipe, sample, reference):
    images = list(sample.images)
    for option, said in (
        ({"tolerance": 0.1}, "tolerance is 0.1, which belongs to mutual information"),
        ({"prune": 0.1}, "prune is 0.1"),
        ({"keep": "level"}, "keep is 'level'"),
        ({"integrand": "gap"}, "integrand is 'gap'"),
    ):
        with pytest.raises(ValueError, match=said):
            pipe.log_likelihood(images, reference=reference, **option)
    with pytest.raises(TypeError, match="against which there is no mutual information"):
        pipe(images, sample.prompts, marginal=Likelihood(reference))
    with pytest.raises(ValueError, match="one condition, the prompt"):
        pipe.measure(images, sample.prompts, ["a"] * 4, Likelihood(), Plan())
    with pytest.raises(ValueError, match="beside choose=True"):
        pipe.fit_reference(images, rank=2, choose=True)
    with pytest.raises(ValueError, match=r"the reference describes \(4, 8, 8\)"):
        MMGPipeline(pipeline()()).log_likelihood(torch.rand(1, 3, 8, 8), reference=reference)


def test_maps_are_kept_through_a_pipeline(pipe, sample, reference):
    found = pipe.log_likelihood(list(sample.images), reference=reference, rule=RULE, keep="pixel")
    maps, _ = found.pixel_map()
    assert maps.shape == (4, 8, 8)
    torch.testing.assert_close(maps.sum((1, 2)), found.nats)
    told = pipe.log_likelihood(list(sample.images), sample.prompts, reference=reference, rule=RULE, keep="pixel")
    run = pipe(list(sample.images), sample.prompts, integrand="gap", rule=RULE, antithetic=False, keep="pixel")
    gap, _ = run.pixel_map("gap")
    torch.testing.assert_close(told.versus(found).pixel_map()[0], gap, atol=1e-5, rtol=1e-4)
