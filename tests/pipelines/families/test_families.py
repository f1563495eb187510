"""Every row of the table against its own pipeline, and what holds of every family."""

from functools import cache

import numpy as np
import pytest
import torch

from mmg_diffusers import MMGPipeline
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.pipelines.outline import check_null, outline, range_of
from tests.pipelines.families import parity
from tests.pipelines.families.oracle import Dressed, TwoPictures
from tests.pipelines.families.table import ROWS

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@cache
def pipeline(row_name):
    """A row's pipeline, which tests leave as it is."""
    return next(row for row in ROWS if row.name == row_name).build()


@cache
def recorded(row_name):
    row, pipe = next(row for row in ROWS if row.name == row_name), pipeline(row_name)
    return parity.runs(row, pipe, size_of(row, parity.model_of(row, pipe)))


def size_of(row, model):
    return row.size or model.codec.native_size


def pictures(row, model, count=2, seed=0):
    """Images, or videos, in [0, 1] of the row's size."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.random(shape_of(row, model), dtype=np.float32)) for _ in range(count)]


def shape_of(row, model):
    """`(3, H, W)`, or `(F, 3, H, W)` of a video."""
    shape = (3, *size_of(row, model))
    return shape if row.frames is None else (row.frames, *shape)


@each_row
def test_parity(row):
    """What the network is told through our denoiser is what its own pipeline tells it, and so is what is read from it."""
    pipe = pipeline(row.name)
    model, networks = parity.model_of(row, pipe), parity.networks_of(row, pipe)
    denoiser = model.denoiser
    for run in recorded(row.name):
        condition = model.encoder.condition(list(run.moments[0].prompts))
        for moment in run.moments:
            parity.hold(moment, denoiser, condition, *networks)
        images = torch.stack(pictures(row, model))
        with torch.no_grad():
            expected = parity.latents_by_pipeline(row, pipe, run, images)
        ours = model.codec.encode_images(images)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
        # And a scale that is wrong by a hundredth would be seen.
        with pytest.raises(AssertionError):
            torch.testing.assert_close(1.01 * ours.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


@each_row
@pytest.mark.parametrize("way", [*parity.BREAKS, "null"])
def test_parity_finds_a_broken_adapter(row, way):
    pipe = pipeline(row.name)
    model, networks = parity.model_of(row, pipe), parity.networks_of(row, pipe)
    run = recorded(row.name)[-1]
    condition = model.encoder.condition(list(run.moments[0].prompts))
    wrong = parity.broken(model.denoiser, way, condition)
    with pytest.raises(AssertionError):
        parity.hold(run.moments[-1], wrong, condition, *networks)


@each_row
def test_oracle_in_the_networks_place(row):
    """The exact denoiser of two pictures, dressed as the network, comes back through the front door."""
    pipe = row.build()
    model, networks = parity.model_of(row, pipe), parity.networks_of(row, pipe)
    images = [torch.full(shape_of(row, model), shade) for shade in (0.1, 0.9)]
    x = torch.cat([model.codec.encode_images(image[None]) for image in images]).double()
    world = TwoPictures(row, x)
    for network in networks:
        network.double()
        network.forward = Dressed(world, pipe, recorded(row.name))
    denoiser = model.denoiser
    low, high = denoiser.logsnr_range
    logsnr = denoiser.snap(torch.linspace(max(low, -8), min(high, 8), 12, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(12, *x.shape[1:], generator=generator, dtype=torch.float64)
    label = torch.arange(12) % 2
    condition = model.encoder.condition([row.prompts[k] for k in label])
    for given, expected in ((condition, label), (None, torch.full((12,), 2))):
        assert float((denoiser(z, logsnr, given) - world.eps(z, logsnr, expected)).abs().max()) < 1e-5
    count = 48
    out = model(
        torch.stack(images * (count // 2)),
        list(row.prompts) * (count // 2),
        quadrature=StratifiedUniform(16),
        integrand="gap",
        antithetic=True,
        seed=5,
    )
    truth = world.information(low, high)
    assert truth > 0.1
    mean = out.mean()
    assert abs(mean.value - truth) < 4 * mean.stderr
    assert mean.stderr < 0.5 * truth


@each_row
def test_same_condition_is_exactly_zero(row):
    model = parity.model_of(row, pipeline(row.name))
    out = model(pictures(row, model), list(row.prompts), given=list(row.prompts), levels=2)
    assert out.nats.tolist() == [0.0, 0.0]
    # And not since nothing is ever measured.
    assert (model(pictures(row, model), list(row.prompts), levels=2).nats != 0).all()


@each_row
@torch.no_grad()
def test_rows_do_not_depend_on_their_batch(row):
    """Batches of 1, 3 and 16, and a prompt beside a longer one."""
    model = parity.model_of(row, pipeline(row.name))
    denoiser = model.denoiser
    event = model.codec.encode_images(pictures(row, model)[0][None]).shape[1:]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(16, *event, generator=generator)
    logsnr = denoiser.snap(torch.linspace(-3, 3, 16, dtype=torch.float64))
    prompts = [row.prompts[k % 2] for k in range(16)]
    condition = model.encoder.condition(prompts)
    whole = denoiser.branches(z, logsnr, [condition, None])
    for rows in (1, 3):
        some = {name: value[:rows] for name, value in condition.items()}
        part = denoiser.branches(z[:rows], logsnr[:rows], [some, None])
        for one, other in zip(part, whole, strict=True):
            torch.testing.assert_close(one, other[:rows], rtol=1e-5, atol=1e-5)
    alone = denoiser(z[:1], logsnr[:1], model.encoder.condition(prompts[:1]))
    torch.testing.assert_close(alone, whole[0][:1], rtol=1e-5, atol=1e-5)


@each_row
def test_half_precision_runs(row):
    pipe = row.build()
    for dtype in (torch.float16, torch.bfloat16):
        model = parity.model_of(row, pipe.to(dtype))
        if dtype == torch.bfloat16:
            model.set_precision_check(0)  # the comparison with float32 is made once
        out = model(pictures(row, model), list(row.prompts), levels=2)
        assert out.nats.isfinite().all()
        assert f"torch.{model.describe()['dtype']}" == str(dtype)


@each_row
def test_a_folder_is_the_same_and_pickles_are_refused(row, tmp_path):
    pipe = pipeline(row.name)
    folder = tmp_path / "model"
    pipe.save_pretrained(folder)
    # Configs alone tell the same, or nothing.
    told = outline(folder)
    assert range_of(told) in (None, parity.model_of(row, pipe).family.convention().logsnr_range)
    assert dict(told.nulls()) == dict(parity.model_of(row, pipe).family.nulls()) or row.null is not None
    with pytest.raises(ValueError, match="null is 'none of these'; expected"):
        check_null(outline(folder, null="none of these"))
    loaded = MMGPipeline.from_pretrained(folder, null=row.null)
    loaded.set_progress_bar_config(disable=True)
    model = parity.model_of(row, pipe)
    one, other = (each(pictures(row, model), list(row.prompts), levels=2).nats for each in (model, loaded))
    assert torch.equal(one, other)
    weights = next((folder / row.network).glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match="Only safetensors weights are read"):
        MMGPipeline.from_pretrained(folder)


@each_row
def test_the_record_says_what_is_measured(row):
    model = parity.model_of(row, pipeline(row.name))
    said = model.describe()
    assert {"family", "null", "variable", "prediction", "levels", "dtype", "native_size"} <= said.keys()
    if row.null is not None:
        assert said["null"] == model.family.nulls()[row.null]
    with pytest.raises(ValueError, match="null is 'none of these'; expected"):
        MMGPipeline(pipeline(row.name), null="none of these")
