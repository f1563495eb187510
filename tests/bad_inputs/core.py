"""Rules, estimators, denoisers and conventions."""

import torch

from mmg_diffusers import MINDE, MMG
from mmg_diffusers.denoisers.base import TwoDenoisers
from mmg_diffusers.denoisers.conventions import DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.exact import GaussianDenoiser, GaussianReference, MixtureDenoiser
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.density import Density
from mmg_diffusers.measure.divergence import EntropyEstimator, interaction_information, kl_divergence
from mmg_diffusers.measure.draws import PairDraws, brownian_path
from mmg_diffusers.measure.moments import OutsideNorm
from mmg_diffusers.measure.quadrature import (
    AtLevels,
    GaussLegendre,
    Logistic,
    Simpson,
    StratifiedLogistic,
    StratifiedProfile,
    StratifiedUniform,
    Trapezoid,
)
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config, convention_from_config
from tests.bad_inputs.room import RANGE, Room, rows

NAN, INF = float("nan"), float("inf")
SD = DiscreteVP.from_alphas(
    alphas_cumprod_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}), "epsilon"
)
UNIFORM = torch.full((1, 8), 0.5, dtype=torch.float64)


def free(levels):
    return levels.double()


def table(*values):
    return torch.tensor(values, dtype=torch.float64)


def measure(r: Room, *, denoiser=None, x=None, cond=None, **options):
    """MMG over a denoiser that must not be run, unless another is given."""
    denoiser = r.untouched if denoiser is None else denoiser
    x, cond = r.x if x is None else x, {"y": r.y} if cond is None else cond
    return MMG()(denoiser, x, cond, **{"logsnr_range": RANGE, **options})


def unconditioned(r: Room):
    return MMG()(r.untouched, r.x, None, logsnr_range=RANGE)


def compare(r: Room, **options):
    candidates = options.pop("candidates", {"label": torch.arange(2)})
    path = NoisePath(Trapezoid(4), logsnr_range=RANGE)
    return measure_candidates(r.mixture, Pairs.of(r.x), candidates, path, **options)


class Wide(GaussianDenoiser):
    """Returns more than it was asked for."""

    def forward(self, z, logsnr, cond=None):
        return super().forward(z, logsnr, cond).repeat(1, 2)


class Broken(GaussianDenoiser):
    """Returns NaN."""

    def forward(self, z, logsnr, cond=None):
        return super().forward(z, logsnr, cond) * NAN


ROWS = (
    *rows(
        "quadrature rules",
        ("Trapezoid(1)", lambda r: Trapezoid(1), ValueError, "nodes is 1; expected at least 2"),
        ("Trapezoid('a')", lambda r: Trapezoid("a"), TypeError, "nodes is 'a', a str"),
        ("Trapezoid(True)", lambda r: Trapezoid(True), TypeError, "nodes is True"),
        ("GaussLegendre(0)", lambda r: GaussLegendre(0), ValueError, "nodes is 0"),
        ("Simpson(1)", lambda r: Simpson(1), ValueError, "nodes is 1"),
        ("AtLevels(())", lambda r: AtLevels(()), ValueError, "got 0 levels; expected at least 2"),
        ("AtLevels((1.0,))", lambda r: AtLevels((1.0,)), ValueError, "got 1 levels; expected at least 2"),
        ("AtLevels((1.0, 0.0))", lambda r: AtLevels((1.0, 0.0)), ValueError, "rising levels"),
        ("AtLevels with NaN", lambda r: AtLevels((0.0, NAN, 1.0)), ValueError, "a level is nan"),
        ("AtLevels with infinity", lambda r: AtLevels((0.0, INF)), ValueError, "a level is inf"),
        ("AtLevels(5)", lambda r: AtLevels(5), TypeError, "levels is a int"),
        ("AtLevels('ab')", lambda r: AtLevels("ab"), TypeError, "levels is a str"),
        ("AtLevels out of range", lambda r: AtLevels((-9.0, 0.0)).bounds(-5.0, 7.0), ValueError, "leave the range"),
        ("AtLevels.widening, falling", lambda r: AtLevels.widening(3.0, -3.0, 8), ValueError, "low < high"),
        ("AtLevels.widening, NaN", lambda r: AtLevels.widening(NAN, 1.0, 8), ValueError, "low is nan"),
        ("AtLevels.widening, 1.5 nodes", lambda r: AtLevels.widening(0.0, 1.0, 1.5), TypeError, "nodes is 1.5"),
        ("Logistic, scale 0", lambda r: Logistic(8, scale=0.0), ValueError, "scale > 0"),
        ("StratifiedLogistic, scale -1", lambda r: StratifiedLogistic(8, scale=-1), ValueError, "scale > 0"),
        ("StratifiedLogistic, scale infinite", lambda r: StratifiedLogistic(8, scale=INF), ValueError, "scale is inf"),
        ("StratifiedLogistic, centre NaN", lambda r: StratifiedLogistic(8, loc=NAN), ValueError, "loc is nan"),
        (
            "StratifiedLogistic beside the range",
            lambda r: StratifiedLogistic(8, loc=40.0).place(-3, 3, free, UNIFORM),
            ValueError,
            "misses the range",
        ),
        ("StratifiedProfile, edges", lambda r: StratifiedProfile(8, (0.0, 0.0), (1.0,)), ValueError, "rising edges"),
        ("StratifiedProfile, no mass", lambda r: StratifiedProfile(8, (), ()), ValueError, "rising edges"),
        ("StratifiedProfile, mass NaN", lambda r: StratifiedProfile(8, (0.0, 1.0), (NAN,)), ValueError, "mass is nan"),
        (
            "StratifiedProfile beside the range",
            lambda r: StratifiedProfile(8, (0.0, 1.0), (1.0,)).bounds(2.0, 3.0),
            ValueError,
            "misses the range",
        ),
        ("an infinite end", lambda r: Trapezoid(8).place(-INF, 3, free, UNIFORM), ValueError, "finite ends"),
        ("falling ends", lambda r: Trapezoid(8).place(3, -3, free, UNIFORM), ValueError, "rising order"),
        (
            "ends within one level",
            lambda r: Trapezoid(8).place(7.0, 7.05, SD.snap, UNIFORM),
            ValueError,
            "only 1 level",
        ),
    ),
    *rows(
        "MMG(...), MINDE(...), EntropyEstimator(...), OutsideNorm(sigma)",
        ("MMG('gaps')", lambda r: MMG("gaps"), ValueError, "unknown integrand 'gaps'"),
        ("MMG(3)", lambda r: MMG(3), ValueError, "unknown integrand 3"),
        ("MMG('gap', 64)", lambda r: MMG("gap", 64), TypeError, "quadrature is a int; expected a rule"),
        ("MMG(draws=0)", lambda r: MMG(draws=0), ValueError, "draws is 0; expected at least 1"),
        ("MINDE(sigma=0)", lambda r: MINDE(0), ValueError, "above 0"),
        ("MINDE(sigma=infinity)", lambda r: MINDE(INF), ValueError, "sigma is inf"),
        ("MINDE(draws=0)", lambda r: MINDE(draws=0), ValueError, "draws is 0"),
        (
            "MINDE of a function",
            lambda r: MINDE()(lambda z, logsnr, cond: z, r.x, {}),
            TypeError,
            "the denoiser is a function",
        ),
        ("EntropyEstimator(sigma=0)", lambda r: EntropyEstimator(sigma=0), ValueError, "above 0"),
        ("EntropyEstimator('gaps')", lambda r: EntropyEstimator("gaps"), ValueError, "'gap' or 'orthogonal'"),
        ("OutsideNorm(0.0)", lambda r: OutsideNorm(0.0), ValueError, "above 0"),
        ("OutsideNorm('a')", lambda r: OutsideNorm("a"), TypeError, "sigma is 'a'"),
    ),
    *rows(
        "MMG(...)(denoiser, x, cond)",
        ("a function", lambda r: measure(r, denoiser=lambda z, logsnr, cond: z), TypeError, "expected a Denoiser"),
        ("a plain module", lambda r: measure(r, denoiser=torch.nn.Identity()), TypeError, "expected a Denoiser"),
        ("no pair", lambda r: measure(r, x=r.x[:0], cond={"y": r.y[:0]}), ValueError, "N >= 1"),
        ("x without an event axis", lambda r: measure(r, x=r.x[:, 0]), ValueError, r"x has shape \(6,\)"),
        ("x as an array", lambda r: measure(r, x=r.x.numpy()), TypeError, "x is a ndarray; expected a tensor"),
        ("x as a list", lambda r: measure(r, x=r.x.tolist()), TypeError, "x is a list"),
        ("integers", lambda r: measure(r, x=r.x.long()), ValueError, "floating point"),
        ("an entropy below 0", lambda r: measure(r, entropy=-0.5), ValueError, "entropy is -0.5"),
        ("an entropy that is not a number", lambda r: measure(r, entropy=NAN), ValueError, "entropy is nan"),
        ("an entropy of True", lambda r: measure(r, entropy=torch.tensor([True] * 6)), ValueError, "entropy is"),
        ("three entropies", lambda r: measure(r, entropy=torch.ones(3)), ValueError, r"\(6,\) numbers -log p\(y\)"),
        ("NaN in x", lambda r: measure(r, x=r.x * NAN), ValueError, r"NaN or infinite values in rows \[0, 1"),
        ("x of another width", lambda r: measure(r, denoiser=r.gaussian, x=r.x.repeat(1, 2)), ValueError, "of x"),
        ("no condition", unconditioned, TypeError, "both branches would be the marginal"),
        ("a condition as a tensor", lambda r: measure(r, cond=r.y), TypeError, "cond is a Tensor"),
        (
            "a condition as an array",
            lambda r: measure(r, cond={"y": r.y.numpy()}),
            TypeError,
            r"cond\['y'\] is a ndarray",
        ),
        ("three conditions", lambda r: measure(r, cond={"y": r.y[:3]}), ValueError, "3 rows for 6"),
        ("infinity in a condition", lambda r: measure(r, cond={"y": r.y / 0}), ValueError, "NaN or infinite"),
        ("NaN in a condition", lambda r: measure(r, cond={"y": r.y * NAN}), ValueError, "NaN or infinite"),
        (
            "a condition of another name",
            lambda r: measure(r, denoiser=r.gaussian, cond={"z": r.y}),
            ValueError,
            "'y' of",
        ),
        (
            "a condition of another width",
            lambda r: measure(r, denoiser=r.gaussian, cond={"y": r.y.repeat(1, 3)}),
            ValueError,
            "expected 'y' of shape",
        ),
        ("three contexts", lambda r: measure(r, given={"y": r.y[:3]}), ValueError, "given.* has 3 rows for 6"),
        (
            "a label above",
            lambda r: measure(r, denoiser=r.mixture, cond={"label": torch.full((6,), 2)}),
            ValueError,
            "0 to 1",
        ),
        (
            "a label of -1",
            lambda r: measure(r, denoiser=r.mixture, cond={"label": torch.full((6,), -1)}),
            ValueError,
            "to 1",
        ),
        (
            "a label as a float",
            lambda r: measure(r, denoiser=r.mixture, cond={"label": torch.ones(6)}),
            ValueError,
            "int64",
        ),
        ("an unbounded range", lambda r: measure(r, logsnr_range=None), ValueError, "finite ends"),
        ("a falling range", lambda r: measure(r, logsnr_range=(3.0, -3.0)), ValueError, "rising range"),
        ("batch_size=0", lambda r: measure(r, batch_size=0), ValueError, "batch_size is 0"),
        ("seed=-1", lambda r: measure(r, seed=-1), ValueError, "expected at least 0"),
        ("an id twice", lambda r: measure(r, pair_ids=torch.zeros(6).long()), ValueError, "different pair ids"),
        ("ids as floats", lambda r: measure(r, pair_ids=torch.arange(6) + 0.5), TypeError, "expected whole numbers"),
        ("ids of 64 bits", lambda r: measure(r, pair_ids=[2**64, *range(5)]), TypeError, r"below 2\*\*63"),
        ("ids of text", lambda r: measure(r, pair_ids="abcdef"), TypeError, "pair ids are a str"),
        ("a number as a condition", lambda r: measure(r, cond={"y": torch.tensor(1.0)}), ValueError, "a single number"),
        ("negative ids", lambda r: measure(r, pair_ids=-torch.arange(6)), ValueError, "pair id is -1"),
        ("keep='pixels'", lambda r: measure(r, keep="pixels"), ValueError, "keep is 'pixels'; expected one of"),
        ("progress=True", lambda r: measure(r, progress=True), TypeError, "progress is True"),
        ("settings=3", lambda r: measure(r, settings={"a": r.x}), TypeError, "settings hold what JSON cannot"),
        ("a misspelt option", lambda r: measure(r, batchsize=4), TypeError, "batchsize"),
        (
            "a network that answers twice as much",
            lambda r: measure(r, denoiser=Wide(r.covariance, 1)),
            ValueError,
            "returned",
        ),
        (
            "a network that answers NaN",
            lambda r: measure(r, denoiser=Broken(r.covariance, 1)),
            ValueError,
            "NaN or infinity",
        ),
    ),
    *rows(
        "kl_divergence, interaction_information, TwoDenoisers",
        (
            "kl_divergence, no denoiser",
            lambda r: kl_divergence(r.untouched, None, r.x),
            TypeError,
            "expected a Denoiser",
        ),
        (
            "kl_divergence, estimator='gap'",
            lambda r: kl_divergence(r.untouched, r.untouched, r.x, estimator="gap"),
            TypeError,
            "estimator is a str",
        ),
        (
            "interaction_information, a name in both",
            lambda r: interaction_information(r.untouched, r.x, {"y": r.y}, {"y": r.y}),
            ValueError,
            "both hold",
        ),
        ("TwoDenoisers of a number", lambda r: TwoDenoisers(r.untouched, 3), TypeError, "the denoiser is a int"),
    ),
    *rows(
        "measure_candidates, NoisePath",
        ("NoisePath(64)", lambda r: NoisePath(64), TypeError, "quadrature is a int"),
        ("NoisePath of drawn levels", lambda r: NoisePath(StratifiedUniform(8)), ValueError, "fixed grid"),
        ("NoisePath(draws=0)", lambda r: NoisePath(draws=0), ValueError, "draws is 0"),
        ("NoisePath(prune=-1e-3)", lambda r: NoisePath(prune=-1e-3), ValueError, "expected a probability"),
        ("NoisePath(prune=NaN)", lambda r: NoisePath(prune=NAN), ValueError, "prune is nan"),
        ("no candidate", lambda r: compare(r, candidates={}), ValueError, "hold no tensor"),
        (
            "candidates as a tensor",
            lambda r: compare(r, candidates=torch.arange(2)),
            TypeError,
            "candidates is a Tensor",
        ),
        ("one truth", lambda r: compare(r, truth=torch.tensor([0])), ValueError, "one index below 2"),
        ("a truth of 2", lambda r: compare(r, truth=torch.full((6,), 2)), ValueError, "one index below 2"),
        ("a truth of -1", lambda r: compare(r, truth=torch.full((6,), -1)), ValueError, "one index below 2"),
        ("slots of others", lambda r: compare(r, slots=torch.full((6, 2), 2)), ValueError, "indices below 2"),
        ("a prior of sum 2", lambda r: compare(r, prior=torch.ones(2)), ValueError, "do not sum to 1"),
        (
            "a truth of probability 0",
            lambda r: compare(r, truth=torch.ones(6).long(), prior=torch.tensor([1.0, 0.0])),
            ValueError,
            "probability 0",
        ),
    ),
    *rows(
        "GaussianDenoiser, MixtureDenoiser, GaussianReference",
        ("a list", lambda r: GaussianDenoiser([[1.0]], 1), TypeError, "covariance is a list"),
        ("nothing left for y", lambda r: GaussianDenoiser(r.covariance, 2), ValueError, "0 < dim_x < its size"),
        ("NaN", lambda r: GaussianDenoiser(r.covariance * NAN, 1), ValueError, "positive definite"),
        ("not positive definite", lambda r: GaussianDenoiser(-r.covariance, 1), ValueError, "positive definite"),
        (
            "two weights, three means",
            lambda r: MixtureDenoiser(torch.ones(2), torch.zeros(3, 1), torch.ones(3)),
            ValueError,
            "as many",
        ),
        (
            "means with NaN",
            lambda r: MixtureDenoiser(torch.ones(2), torch.full((2, 1), NAN), torch.ones(2)),
            ValueError,
            "must be finite",
        ),
        ("sigma=-1", lambda r: GaussianReference(-1.0), ValueError, "above 0"),
        ("fit to 2 points", lambda r: GaussianReference.fit(torch.randn(2, 3)), ValueError, "expected at least 3"),
        ("rank 4 of 5 points", lambda r: GaussianReference.fit(torch.randn(5, 9), rank=4), ValueError, "at least 6"),
        ("fit to NaN", lambda r: GaussianReference.fit(r.x * NAN), ValueError, "NaN or infinite values"),
        (
            "fit to a constant",
            lambda r: GaussianReference.fit(torch.ones(9, 2), "diagonal"),
            ValueError,
            "all 9 points are the same",
        ),
        (
            "a coordinate that is the same in all points",
            lambda r: GaussianReference.fit(torch.stack([torch.arange(9.0), torch.ones(9)], 1), "diagonal"),
            ValueError,
            "never changes",
        ),
        ("kind='spherical'", lambda r: GaussianReference.fit(r.x, "spherical"), ValueError, "kind is 'spherical'"),
        ("a negative variance", lambda r: GaussianReference.of(torch.zeros(2), -1.0), ValueError, "positive definite"),
        (
            "a mean of 2, variances of 3",
            lambda r: GaussianReference.of(torch.zeros(2), torch.ones(3)),
            ValueError,
            "shape",
        ),
    ),
    *rows(
        "Density(...), Density.piloted",
        ("cond=[]", lambda r: Density()(r.untouched, r.x, []), TypeError, "cond is a list"),
        ("cond=0", lambda r: Density()(r.untouched, r.x, 0), TypeError, "cond is a int"),
        ("cond=''", lambda r: Density()(r.untouched, r.x, ""), TypeError, "cond is a str"),
        ("cond=False", lambda r: Density()(r.untouched, r.x, False), TypeError, "cond is a bool"),
        ("cond=a tensor", lambda r: Density()(r.untouched, r.x, r.y), TypeError, "cond is a Tensor"),
        ("cond={}", lambda r: Density()(r.untouched, r.x, {}), ValueError, "expected None for the marginal"),
        ("x with a gradient", lambda r: Density()(r.untouched, r.x.clone().requires_grad_()), ValueError, "x.detach()"),
        ("x with NaN", lambda r: Density()(r.untouched, r.x * NAN), ValueError, "NaN or infinite values"),
        (
            "a reference of another shape",
            lambda r: Density(GaussianReference.of(torch.zeros(7), 1.0))(r.untouched, r.x),
            ValueError,
            "one of the same shape",
        ),
        ("reference=1.0", lambda r: Density(1.0), TypeError, "reference is a float"),
        ("quadrature=64", lambda r: Density(quadrature=64), TypeError, "quadrature is a int"),
        ("draws=0", lambda r: Density(draws=0), ValueError, "draws is 0"),
        ("a pilot of 3", lambda r: Density().piloted(r.untouched, r.x[:3]), ValueError, "expected at least 8"),
    ),
    *rows(
        "noise conventions",
        (
            "a table in half precision",
            lambda r: DiscreteVP.from_alphas(torch.tensor([0.9, 0.5]), "epsilon"),
            ValueError,
            "float64",
        ),
        ("a table that rises", lambda r: DiscreteVP.from_alphas(table(0.5, 0.9), "epsilon"), ValueError, "decreasing"),
        ("an unknown prediction", lambda r: Karras("noise"), ValueError, "unknown prediction 'noise'"),
        (
            "sigma_min above sigma_max",
            lambda r: Karras("edm", sigma_min=2.0, sigma_max=1.0),
            ValueError,
            "sigma_min < sigma_max",
        ),
        ("sigma_min NaN", lambda r: Karras("edm", sigma_min=NAN), ValueError, "sigma_min is nan"),
        ("sigma_data=0", lambda r: Karras("edm", sigma_data=0.0), ValueError, "sigma_data is 0.0"),
        ("shift=0", lambda r: RectifiedFlow.shifted(shift=0.0), ValueError, "shift > 0"),
        ("shift infinite", lambda r: RectifiedFlow.shifted(shift=INF), ValueError, "shift is inf"),
        (
            "an unknown schedule",
            lambda r: alphas_cumprod_from_config({"beta_schedule": "cosine?"}),
            ValueError,
            "unknown beta_schedule",
        ),
        ("betas above 1", lambda r: alphas_cumprod_from_config({"beta_end": 2.0}), ValueError, "betas run from"),
        ("NaN in a config", lambda r: alphas_cumprod_from_config({"beta_end": NAN}), ValueError, "beta_end is nan"),
        (
            "num_train_timesteps=1e3",
            lambda r: alphas_cumprod_from_config({"num_train_timesteps": 1e3}),
            TypeError,
            "num_train_timesteps is 1000.0",
        ),
        ("at_tau(1.5)", lambda r: SD.at_tau(torch.tensor(1.5)), ValueError, "tau is 1.5; expected a share"),
        ("at_tau(NaN)", lambda r: SD.at_tau(torch.tensor(NAN)), ValueError, "tau is nan"),
        (
            "a shift by the image's size",
            lambda r: convention_from_config("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
            ValueError,
            "use_dynamic_shifting",
        ),
    ),
    *rows(
        "noise draws",
        ("a negative seed", lambda r: PairDraws(-1, 0), ValueError, "seed is -1; expected at least 0"),
        ("a seed of 65 bits", lambda r: PairDraws(2**65, 0), ValueError, "what 64 bits hold"),
        (
            "a path that falls",
            lambda r: next(brownian_path([PairDraws(0, 0)], table(1.0, 0.0), (1,))),
            ValueError,
            "rising levels",
        ),
    ),
)
