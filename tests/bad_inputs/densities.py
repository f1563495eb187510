"""Laws whose density is known, data on a grid, heads and ensembles."""

import math

import numpy as np
import torch

from mmg_diffusers.analysis.typicality import typicality
from mmg_diffusers.arrays import OnGrid, TrainSettings, VectorNetwork
from mmg_diffusers.arrays.heads import SpreadOnGrid
from mmg_diffusers.denoisers import ExactDenoiser, GaussianReference, Rescaled
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.measure import Density, Ensemble, Grid, LogLikelihood, StratifiedUniform
from mmg_diffusers.pipelines.tuning import carrying, tune_pipeline
from mmg_diffusers.tuning import Encoded, LowRank, Tuned, TunePlan, tune
from mmg_diffusers.worlds.densities import GaussianMixture, Ising, LevelMixture, Moved
from mmg_diffusers.worlds.tasks import get_density_task
from tests.bad_inputs.room import IMAGE, RANGE, CommandFailed, Room, rows

SPINS = Ising(2, 2, 0.4)
PICTURES = torch.from_numpy(SPINS.draw(10, np.random.default_rng(0)))


def probability(r: Room, x=None, *, grid=None, ends=RANGE):
    estimator = Density(quadrature=StratifiedUniform(4), values=Grid(-1, 1, 2) if grid is None else grid)
    return estimator(r.untouched, PICTURES if x is None else x, logsnr_range=ends)


def off(place, value):
    moved = PICTURES.clone()
    moved[place] = value
    return moved


class Known(ExactDenoiser):
    """An exact denoiser of a finite range."""

    logsnr_range = RANGE


def chosen(denoisers=None, x=PICTURES, **options):
    return Ensemble.choose([Known(SPINS), Known(SPINS)] if denoisers is None else denoisers, x, **options)


def network():
    return VectorNetwork({"x": 2}, torch.eye(2))


def likely(r: Room, images=IMAGE, prompts=None, **options):
    return r.pipe.log_likelihood([images] if isinstance(images, np.ndarray) else images, prompts, levels=2, **options)


def measured(r: Room, x=None, **changes):
    density = Density(changes.pop("reference", GaussianReference()), StratifiedUniform(2))
    return density(r.gaussian, r.x if x is None else x, logsnr_range=RANGE, **changes)


def piloted(r: Room, ends):
    other = torch.randn(9, *r.x.shape[1:], generator=torch.Generator().manual_seed(0))
    return Density(quadrature=StratifiedUniform(4)).piloted(r.gaussian, other, logsnr_range=ends)


def command(r: Room, *options, source=None):
    source = r.picture() if source is None else source
    return r.command("likelihood", "shapes", source, "--quiet", "--output", r.folder / "out", *options)


def told(r: Room, images=None, prompts=None, plan=None):
    made = [np.full((32, 32, 3), k / 10, dtype=np.float32) for k in range(10)]
    return tune_pipeline(r.pipe, made if images is None else images, prompts, plan, progress=False)


def tuned(adapter=None):
    plan = {"adapter": (adapter or LowRank()).record(), "branches": "marginal"}
    return Tuned({}, torch.zeros(0, dtype=torch.int64), ((0, 1.0),), {"plan": plan, "model": {"weights": "another"}})


def other_scheduler(r: Room):
    from diffusers import LCMScheduler

    pipe = r.load(lambda folder: None)
    pipe.pipe.scheduler = LCMScheduler.from_config(pipe.pipe.scheduler.config)
    return tune_pipeline(pipe, [IMAGE], progress=False)


class NoNull(Adapted):
    """A denoiser without a null, that must not be run."""

    def __init__(self, r: Room):
        super().__init__(torch.nn.Identity(), r.pipe.family.convention())


def encoded(count=10):
    return Encoded(torch.arange(float(count))[:, None])


ROWS = (
    *rows(
        "pipe.log_likelihood(images, prompts), pipe.fit_reference(images)",
        ("prompts of another number", lambda r: likely(r, prompts=["a", "b"]), ValueError, "got 2 prompts for 1 image"),
        ("prompts=3.5", lambda r: likely(r, prompts=3.5), TypeError, "prompts is a float"),
        ("no image", lambda r: likely(r, []), ValueError, "no image"),
        ("an image with NaN", lambda r: likely(r, np.full_like(IMAGE, math.nan)), ValueError, "image 0"),
        ("pixels up to 255", lambda r: likely(r, 255 * IMAGE), ValueError, r"expected \[0, 1\]"),
        ("reference=1.0", lambda r: likely(r, reference=1.0), TypeError, "reference is a float"),
        (
            "a reference of another shape",
            lambda r: likely(r, reference=GaussianReference.of(torch.zeros(7), 1.0)),
            ValueError,
            r"the reference describes \(7,\)",
        ),
        ("integrand='gap'", lambda r: likely(r, integrand="gap"), ValueError, "integrand"),
        ("tolerance=0.1", lambda r: likely(r, tolerance=0.1), ValueError, "tolerance is 0.1, which belongs to mutual"),
        ("a misspelt option", lambda r: likely(r, level=2), TypeError, "level"),
        (
            "a range beyond the model's",
            lambda r: likely(r, logsnr_range=(-30.0, 0.0)),
            ValueError,
            "rising range within",
        ),
        (
            "a guidance-distilled model",
            lambda r: r.load(lambda folder: None, "sd-turbo").log_likelihood([IMAGE]),
            ValueError,
            "guidance-distilled",
        ),
        (
            "a reference of one image",
            lambda r: r.pipe.fit_reference([IMAGE]),
            ValueError,
            "1 image for a full covariance",
        ),
        (
            "a reference of rank 4 of 5 images",
            lambda r: r.pipe.fit_reference([IMAGE] * 5, rank=4),
            ValueError,
            "5 images for a low rank covariance of rank 4; expected at least 6",
        ),
        (
            "a reference of kind 'spherical'",
            lambda r: r.pipe.fit_reference([IMAGE] * 9, kind="spherical"),
            ValueError,
            "kind is 'spherical'",
        ),
        (
            "a kind beside choose=True",
            lambda r: r.pipe.fit_reference([IMAGE] * 9, kind="full", choose=True),
            ValueError,
            "kind is 'full' and rank None beside choose=True",
        ),
        (
            "a reference of one image twenty times",
            lambda r: GaussianReference.fit(torch.full((20, 3), 0.3)),
            ValueError,
            "all 20 points are the same, which have no covariance",
        ),
        (
            "a pilot of 7",
            lambda r: r.pipe.fit_reference([IMAGE] * 20, pilot=7),
            ValueError,
            "pilot is 7 of 20 images; expected at least 8 and at most half",
        ),
        (
            "a pilot that leaves too few",
            lambda r: r.pipe.fit_reference([IMAGE] * 20, pilot=11),
            ValueError,
            "pilot is 11 of 20 images",
        ),
        ("pilot=True", lambda r: r.pipe.fit_reference([IMAGE] * 20, pilot=True), TypeError, "pilot is True"),
        (
            "prompts of a pilot of another number",
            lambda r: r.pipe.fit_reference([IMAGE] * 20, ["a"], pilot=8),
            ValueError,
            "got 1 prompts for 20 images",
        ),
        (
            "prompts without a pilot",
            lambda r: r.pipe.fit_reference([IMAGE] * 20, "a"),
            ValueError,
            "prompts are what the pilot's images are told",
        ),
        (
            "a pilot of another range",
            lambda r: piloted(r, (-2.0, 2.0))(r.gaussian, r.x, logsnr_range=RANGE),
            ValueError,
            r"the pilot saw log-SNR -2.00 to 2.00 of -8.00 to 8.00; .* or give logsnr_range=\(-2, 2\)",
        ),
    ),
    *rows(
        "LogLikelihood.versus, .bits_per_pixel, .merge, .load; typicality(measured, usual)",
        ("bits a pixel of no pixels", lambda r: measured(r).bits_per_pixel(), ValueError, "no bits per pixel"),
        (
            "bits a pixel of latents",
            lambda r: measured(r, variable="VAE latent (posterior mode)").bits_per_pixel(),
            ValueError,
            "a density of latents is none of pictures",
        ),
        ("versus a number", lambda r: measured(r).versus(1.0), TypeError, "a part of a ratio is a float"),
        ("versus another seed", lambda r: measured(r).versus(measured(r, seed=1)), ValueError, "seed"),
        ("versus other x", lambda r: measured(r).versus(measured(r, r.x + 1)), ValueError, "x"),
        (
            "versus another reference",
            lambda r: measured(r).versus(measured(r, reference=GaussianReference(2.0))),
            ValueError,
            "reference",
        ),
        ("merge of nothing", lambda r: LogLikelihood.merge([]), ValueError, "there is no log-likelihood to merge"),
        ("merge, an x twice", lambda r: LogLikelihood.merge([measured(r)] * 2), ValueError, "more than one shard"),
        ("load, an estimate", lambda r: LogLikelihood.load(r.estimate.save(r.folder / "e")), ValueError, "no complete"),
        ("typicality of numbers", lambda r: typicality(r.x, measured(r)), TypeError, "measured is a Tensor"),
        ("typicality among the same", lambda r: typicality(measured(r), measured(r)), ValueError, "6 of 6 images"),
    ),
    *rows(
        "mmg-diffusers likelihood",
        ("no source", lambda r: r.command("likelihood", "shapes"), CommandFailed, "Missing argument"),
        ("no such source", lambda r: command(r, source=r.folder / "x"), CommandFailed, "there is no"),
        (
            "--prompt and --prompts",
            lambda r: command(r, "--prompt", "a", "--prompts"),
            CommandFailed,
            "leave one of them out",
        ),
        ("--prompts of none", lambda r: command(r, "--prompts"), CommandFailed, "names no prompts"),
        (
            "--rank without a reference",
            lambda r: command(r, "--rank", 2),
            CommandFailed,
            "--rank is of a reference that is fitted",
        ),
        ("--pilot without a reference", lambda r: command(r, "--pilot", 8), CommandFailed, "--pilot is of a reference"),
        (
            "--pilot of a single other picture",
            lambda r: command(r, "--pilot", 8, "--reference", r.picture()),
            CommandFailed,
            "--pilot is 8 of 1 other pictures",
        ),
        (
            "--reference, nothing there",
            lambda r: command(r, "--reference", r.folder / "x"),
            CommandFailed,
            "there is no",
        ),
        (
            "--reference, no reference",
            lambda r: command(r, "--reference", r.file("a.safetensors", "text")),
            CommandFailed,
            "header too small",
        ),
        ("--levels 1", lambda r: command(r, "--levels", 1), CommandFailed, "--levels"),
    ),
    *rows(
        "tune_pipeline(pipe, images, prompts, plan), tune(denoiser, networks, data, plan)",
        ("a guidance-distilled model", other_scheduler, ValueError, "guidance-distilled"),
        ("no image", lambda r: told(r, []), ValueError, "no image"),
        ("prompts of another number", lambda r: told(r, None, ["a"]), ValueError, "got 1 prompts for 10 images"),
        (
            "branches='both' without prompts",
            lambda r: told(r, plan=TunePlan()),
            ValueError,
            "branches is 'both' without prompts",
        ),
        ("a plan of a measurement", lambda r: told(r, plan=Grid()), TypeError, "plan is a Grid"),
        (
            "one x ten times",
            lambda r: Encoded(torch.zeros(10, 2)).split(0.1, 0),
            ValueError,
            "got 1 different images to tune to; expected 8 or more",
        ),
        (
            "conditions of another number",
            lambda r: Encoded(torch.zeros(3, 2), {"y": torch.zeros(2, 1)}, torch.tensor([0, 1, 2])),
            ValueError,
            r"which is \(3,\); expected for each x one of 2 rows",
        ),
        ("x with NaN", lambda r: Encoded(torch.full((9, 2), math.nan)), ValueError, "NaN or infinite"),
        (
            "no null",
            lambda r: tune(NoNull(r), {}, encoded(), TunePlan(branches="marginal")),
            ValueError,
            "no unconditional branch",
        ),
        (
            "an exact denoiser",
            lambda r: tune(r.gaussian, {}, encoded()),
            TypeError,
            "the denoiser is a GaussianDenoiser",
        ),
        ("branches='null'", lambda r: TunePlan(branches="null"), ValueError, "branches is 'null'"),
        ("held_out=0.9", lambda r: TunePlan(held_out=0.9), ValueError, "held_out is 0.9"),
        ("adapter=8", lambda r: TunePlan(8), TypeError, "adapter is a int"),
        ("rank=0", lambda r: LowRank(0), ValueError, "rank is 0"),
        ("scale=-1", lambda r: LowRank(scale=-1), ValueError, "scale is -1"),
        ("targets that are no expression", lambda r: LowRank(targets="("), ValueError, "no regular expression"),
        (
            "targets that match nothing",
            lambda r: LowRank(targets="to_nothing").layers(r.pipe.pipe.unet),
            ValueError,
            "no linear or convolutional layer of the UNet2DConditionModel matches 'to_nothing'",
        ),
        (
            "weights of another model",
            lambda r: carrying(r.pipe, tuned()).__enter__(),
            ValueError,
            "tuned from another model",
        ),
        ("carrying a folder", lambda r: carrying(r.pipe, "runs").__enter__(), TypeError, "tuned is a str"),
        (
            "Tuned.load, nothing there",
            lambda r: Tuned.load(r.folder / "x"),
            FileNotFoundError,
            "no record of tuned weights",
        ),
        (
            "Tuned.load, text",
            lambda r: Tuned.load(r.file("x/tuned.safetensors", "text").parent),
            ValueError,
            "no complete tuned weights",
        ),
    ),
    *rows(
        "Density(values=Grid(low, high, levels))(denoiser, x)",
        (
            "a value off the grid",
            lambda r: probability(r, off((3, 0, 1, 0), 0.25)),
            ValueError,
            r"x holds 0.25 at \(3, 0, 1, 0\)",
        ),
        (
            "NaN",
            lambda r: probability(r, off((3, 0, 1, 0), math.nan)),
            ValueError,
            r"NaN or infinite values in rows \[3\]",
        ),
        ("pixels of another scale", lambda r: probability(r, grid=Grid(0, 1, 2)), ValueError, "x holds -1 at"),
        ("one level", lambda r: Grid(-1, 1, 1), ValueError, "levels is 1; expected at least 2"),
        ("levels of a float", lambda r: Grid(-1, 1, 2.0), TypeError, "levels is 2.0"),
        ("ends that fall", lambda r: Grid(1, -1), ValueError, "from 1 to -1; expected a rising range"),
        ("an infinite end", lambda r: Grid(-1, math.inf), ValueError, "high end is inf"),
        (
            "a range that ends too early",
            lambda r: probability(r, ends=(-8.0, -1.0)),
            ValueError,
            "the range ends at log-SNR -1",
        ),
        ("values=3", lambda r: Density(values=3), TypeError, "values is a int"),
        ("values=Grid", lambda r: Density(values=Grid), TypeError, "values is the class Grid itself"),
    ),
    *rows(
        "Ensemble.choose(denoisers, x)",
        ("one denoiser", lambda r: chosen([Known(SPINS)]), ValueError, "got 1 denoiser"),
        ("no list", lambda r: chosen(Known(SPINS)), TypeError, "denoisers is a Known"),
        ("a network", lambda r: chosen([torch.nn.Identity()] * 2), TypeError, "the denoiser is a Identity"),
        ("few x", lambda r: chosen(x=PICTURES[:7]), ValueError, "got 7 x to choose by"),
        (
            "x of another shape",
            lambda r: chosen(x=PICTURES.flatten(1)),
            ValueError,
            "denoiser 0 does not take x of shape",
        ),
        (
            "denoisers of two variables",
            lambda r: chosen([Known(SPINS), Known(Ising(3, 3, 0.4))]),
            ValueError,
            "denoiser 1 does not take x of shape",
        ),
        (
            "denoisers of two scales",
            lambda r: chosen([Known(SPINS), Rescaled(Known(SPINS), 5.0)]),
            ValueError,
            "denoiser 1 errs by",
        ),
        ("unbounded ranges", lambda r: chosen([ExactDenoiser(SPINS)] * 2), ValueError, "expected finite ranges"),
        ("bands=0", lambda r: chosen(bands=0), ValueError, "bands is 0"),
        (
            "the data that chose",
            lambda r: Density(quadrature=StratifiedUniform(4))(chosen(), PICTURES),
            ValueError,
            "10 of 10 x are among the 10 that chose this ensemble",
        ),
    ),
    *rows(
        "OnGrid(network, grids), TrainSettings(objective)",
        ("no grid", lambda r: OnGrid(network(), {}), ValueError, "there is no grid"),
        ("another variable", lambda r: OnGrid(network(), {"z": Grid()}), ValueError, "no variable 'z'"),
        ("a number", lambda r: OnGrid(network(), {"x": 2}), TypeError, "the grid of 'x' is a int"),
        (
            "shares of another shape",
            lambda r: OnGrid(network(), {"x": Grid(0, 1, 2)}, {"x": torch.ones(2, 3)}),
            ValueError,
            r"the shares of 'x' are \(2, 3\); expected \(2, 2\) above 0",
        ),
        (
            "shares of another variable",
            lambda r: OnGrid(network(), {"x": Grid(0, 1, 2)}, {"y": torch.ones(2, 2)}),
            ValueError,
            "got shares of 'y', which has no grid",
        ),
        (
            "shares counted off the grid",
            lambda r: OnGrid.shares_of(torch.full((3, 2), 0.3), Grid(0, 1, 2)),
            ValueError,
            "x holds 0.3",
        ),
        (
            "SpreadOnGrid of two steps",
            lambda r: SpreadOnGrid(
                VectorNetwork({"x": 1, "y": 1}, torch.eye(2)), {"x": Grid(-1, 1, 2), "y": Grid(-1, 1, 3)}
            ),
            ValueError,
            "the grids' steps are 2, 1; expected one",
        ),
        ("a denoiser", lambda r: OnGrid(r.untouched, {"x": Grid()}), TypeError, "the network is a Untouched"),
        ("an unknown objective", lambda r: TrainSettings(objective="elbo"), ValueError, "objective is 'elbo'"),
        (
            "a weighted likelihood",
            lambda r: TrainSettings(objective="likelihood", weighting="v"),
            ValueError,
            "objective 'likelihood', which weighs nothing",
        ),
    ),
    *rows(
        "get_density_task(key), laws of known density, ExactDenoiser(law)",
        ("an unknown key", lambda r: get_density_task("ising-8-8"), ValueError, "did you mean 'ising-8-8-0.4'"),
        ("a number", lambda r: get_density_task(3), TypeError, "the key is a int"),
        ("n=0", lambda r: get_density_task("mixture-2").sample(0, 0), ValueError, "n is 0"),
        ("labels of spins", lambda r: get_density_task("ising-3-3-0.4").sample_labelled(2, 0), ValueError, "no labels"),
        ("too many columns", lambda r: Ising(2, 13, 0.4), ValueError, "columns is 13"),
        ("no spins", lambda r: SPINS.log_prob(np.zeros((1, 1, 2, 2))), ValueError, "x holds"),
        (
            "a weight below 0",
            lambda r: GaussianMixture(np.array([1.0, -1.0]), np.zeros((2, 2)), np.ones(2)),
            ValueError,
            "weights are",
        ),
        ("impossible levels", lambda r: LevelMixture(np.ones(1), np.zeros((1, 2, 3))), ValueError, "above 0"),
        ("spins moved", lambda r: Moved(SPINS, 2.0), ValueError, "of levels"),
        ("a class", lambda r: ExactDenoiser(Ising), TypeError, "posterior_mean"),
    ),
)
