"""Conventions: foreign tables against diffusers, oracles through every convention and prediction."""

import math

import diffusers
import pytest
import torch

from mmg_diffusers import MMG
from mmg_diffusers.denoisers.base import Adapted, Rescaled
from mmg_diffusers.denoisers.check import check_denoiser, foreign, present
from mmg_diffusers.denoisers.conventions import PREDICTIONS, DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.exact import GaussianReference
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.denoisers.levels import add_noise, signal_and_noise
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config, convention_from_config

SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "zero_snr": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
    },
}
CONTINUOUS = {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.002, "sigma_max": 120.0}
COGVIDEOX = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 3.0,
}
FLOW_SIGMAS = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}


def vp(schedule: str, prediction: str) -> DiscreteVP:
    return DiscreteVP.from_alphas(alphas_cumprod_from_config(SCHEDULES[schedule]), prediction)


CONVENTIONS = [
    *((f"{schedule}-{p}", vp(schedule, p)) for schedule in SCHEDULES for p in PREDICTIONS if "edm" not in p),
    *((f"karras-{p}", Karras(p)) for p in PREDICTIONS),
    ("karras-data-2", Karras("edm", sigma_data=2.0)),
    ("karras-data-2-reversed", Karras("reversed_edm", sigma_data=2.0)),
    ("karras-unscaled", Karras("sample", sigma_data=None)),
    ("euler-continuous", convention_from_config("EulerDiscreteScheduler", CONTINUOUS)),
    ("edm-v", convention_from_config("EDMEulerScheduler", {"prediction_type": "v_prediction", "sigma_data": 1.0})),
    ("cogvideox", convention_from_config("CogVideoXDDIMScheduler", COGVIDEOX)),
    *((f"flow-{p}", RectifiedFlow.shifted(p)) for p in PREDICTIONS if "edm" not in p),
    ("flow-shift-3", RectifiedFlow.shifted(shift=3.0)),
    ("flow-unit-time", RectifiedFlow.shifted(time_scale=1.0)),
    ("flow-signal", RectifiedFlow.shifted("reversed_flow_prediction", shift=6.0, time_scale=1.0, told="signal")),
    ("flow-unshifted", RectifiedFlow.shifted(shift=3.25, told="unshifted")),
    ("mochi", convention_from_config("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True})),
    ("dpm-flow", convention_from_config("DPMSolverMultistepScheduler", FLOW_SIGMAS)),
    ("unipc-flow", convention_from_config("UniPCMultistepScheduler", FLOW_SIGMAS)),
    ("dynamic", convention_from_config("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, tokens=4096)),
    *((f"reversed-time-{p}", Interpolant(p, lambda t: t, lambda t: 1 - t)) for p in PREDICTIONS if "edm" not in p),
    ("cosine", Interpolant("v_prediction", lambda t: torch.cos(t * 1.55), lambda t: torch.sin(t * 1.55))),
    ("karras-by-hand", Interpolant("epsilon", torch.ones_like, lambda t: t, (80.0, 0.002))),
]


@pytest.mark.parametrize(
    "convention", [vp("scaled_linear", "epsilon"), Karras("edm"), RectifiedFlow.shifted(shift=3.0)]
)
def test_diffusion_time_runs_from_the_clean_end_to_the_noisy_one(convention):
    low, high = convention.logsnr_range
    ends = convention.tau(torch.tensor([high, low], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0], dtype=torch.float64))
    tau = torch.linspace(0, 1, 11, dtype=torch.float64).view(11, 1)
    levels = convention.at_tau(tau)
    assert (levels.diff(dim=0) < 0).all()
    torch.testing.assert_close(convention.tau(levels), tau)
    # What lies between is even in what the network is told, and exact where it is told so.
    known = convention.snap(levels)
    torch.testing.assert_close(convention.timestep(known), convention.c_noise(known).double())
    for wrong in (-0.01, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"tau is {wrong:g}; expected a share"):
            convention.at_tau(torch.tensor([0.5, wrong]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alphas_agree_with_diffusers(schedule):
    theirs = diffusers.DDPMScheduler(**SCHEDULES[schedule]).alphas_cumprod
    ours = alphas_cumprod_from_config(SCHEDULES[schedule])
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-4, atol=1e-6)


def test_known_ranges():
    assert vp("scaled_linear", "epsilon").logsnr_range == pytest.approx((-5.364, 7.069), abs=2e-3)
    assert vp("linear", "epsilon").logsnr_range == pytest.approx((-10.12, 9.21), abs=1e-2)
    assert vp("squaredcos_cap_v2", "epsilon").logsnr_range == pytest.approx((-19.84, 10.09), abs=1e-2)
    assert RectifiedFlow.shifted(shift=3.0).logsnr_range == pytest.approx((-16.0, 11.6), abs=2e-2)


def test_a_level_without_signal_is_dropped_and_said():
    zero = vp("zero_snr", "v_prediction")
    assert len(zero.levels) == 999
    assert torch.isfinite(zero.levels).all()
    assert "999" in zero.notes[0]
    assert vp("scaled_linear", "epsilon").notes == ()


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [
        ("EulerDiscreteScheduler", SCHEDULES["scaled_linear"], DiscreteVP),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, RectifiedFlow),
        ("EDMEulerScheduler", {"sigma_data": 0.5}, Karras),
    ],
)
def test_convention_from_a_scheduler_config(name, config, kind):
    assert isinstance(convention_from_config(name, config), kind)


def told_by(scheduler, steps=7, **options):
    """What a scheduler of diffusers tells a network, and log-SNR of the latent there, from its own sigmas."""
    scheduler.set_timesteps(steps, **options)
    sigmas = scheduler.sigmas[:steps].double()
    if getattr(scheduler.config, "invert_sigmas", False):
        sigmas = 1 - sigmas
    flow = "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("use_flow_sigmas")
    logsnr = 2 * torch.log((1 - sigmas) / sigmas) if flow else -2 * sigmas.log()
    return scheduler.timesteps[:steps].double(), logsnr


@pytest.mark.parametrize(
    ("scheduler", "options", "atol"),
    [
        (diffusers.DPMSolverMultistepScheduler(**FLOW_SIGMAS), {}, 1.0),  # rounds what it tells
        (diffusers.UniPCMultistepScheduler(**FLOW_SIGMAS), {}, 1.0),
        (diffusers.EulerDiscreteScheduler(**CONTINUOUS), {}, 1e-5),
        (diffusers.EDMEulerScheduler(prediction_type="v_prediction"), {}, 1e-5),
        (diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, shift=3.0), {}, 1e-2),
        (diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), {"mu": 1.15}, 1e-2),
        (
            diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
            {"mu": 2.0},
            1e-2,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_told_agrees_with_diffusers(scheduler, options, atol):
    """At its own sigmas, a scheduler tells what the convention that is read from its config tells."""
    told, logsnr = told_by(scheduler, **options)
    convention = convention_from_config(type(scheduler).__name__, scheduler.config, tokens=4096)
    seen = logsnr.isfinite() & (logsnr > -25)
    assert seen.sum() >= 5
    torch.testing.assert_close(convention.timestep(logsnr[seen]), told[seen], rtol=0, atol=atol)
    torch.testing.assert_close(convention.at_timestep(convention.timestep(logsnr[seen])), logsnr[seen])


def test_a_flow_that_is_shifted_by_size_says_its_shift():
    config = dict(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config)
    name = "FlowMatchEulerDiscreteScheduler"
    assert convention_from_config(name, config, tokens=4096).shift == pytest.approx(math.exp(1.15))
    assert convention_from_config(name, config | {"time_shift_type": "linear"}, tokens=256).shift == pytest.approx(0.5)
    with pytest.raises(ValueError, match="shifts its times by the image's size"):
        convention_from_config(name, config)
    with pytest.raises(ValueError, match="unknown time_shift_type 'square'"):
        convention_from_config(name, config | {"time_shift_type": "square"}, tokens=256)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", [diffusers.CogVideoXDDIMScheduler, diffusers.CogVideoXDPMScheduler])
def test_cogvideox_shifts_its_snr(kind, scale):
    scheduler = kind(prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=scale)
    convention = convention_from_config(kind.__name__, scheduler.config)
    torch.testing.assert_close(
        torch.sigmoid(convention.levels).float(), scheduler.alphas_cumprod[:-1].float(), rtol=1e-3, atol=1e-6
    )
    assert convention.notes == ("timestep 999 has no signal (log-SNR -inf) and was dropped",)


@pytest.mark.parametrize(
    "name",
    [
        *("CMStochasticIterativeScheduler", "KarrasVeScheduler", "ScoreSdeVeScheduler", "SCMScheduler"),
        *("DDPMWuerstchenScheduler", "IPNDMScheduler", "VQDiffusionScheduler", "CosineDPMSolverMultistepScheduler"),
        *("FlowMatchLCMScheduler", "LCMScheduler", "TCDScheduler", "FlowMatchNextYearScheduler"),
    ],
)
def test_schedulers_that_are_not_known_are_refused_by_name(name):
    with pytest.raises(
        ValueError, match=f"the noise that {name} describes is not known; expected one of DDIMScheduler"
    ):
        convention_from_config(name, {})


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"])
def test_predictions_that_belong_to_other_noise_are_refused(kind):
    scheduler = getattr(diffusers, kind)
    with pytest.raises(ValueError, match=f"{kind} has prediction_type='flow_prediction' and no use_flow_sigmas"):
        convention_from_config(kind, scheduler(prediction_type="flow_prediction").config)
    with pytest.raises(ValueError, match="prediction_type='v_prediction', which is of variance-preserving noise"):
        convention_from_config(kind, scheduler(prediction_type="v_prediction", use_flow_sigmas=True).config)
    # Others are what these schedulers make of a flow's levels.
    for prediction in ("epsilon", "sample", "flow_prediction"):
        config = scheduler(prediction_type=prediction, use_flow_sigmas=True).config
        assert convention_from_config(kind, config).prediction == prediction


def test_config_is_read_not_the_schedulers_state():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(1000)  # applies the shift a second time to its own table
    assert convention_from_config(type(scheduler).__name__, scheduler.config).logsnr_range[1] == pytest.approx(
        11.6, abs=0.02
    )


@pytest.mark.parametrize(("name", "convention"), CONVENTIONS, ids=[name for name, _ in CONVENTIONS])
def test_oracle_through_every_convention(name, convention, gaussian, mixture):
    """eps through the adapter equals the closed form to 1e-5 in float64, with and without a condition."""
    for oracle, x, cond in (gaussian, mixture):
        x, cond = x[:64], {key: value[:64] for key, value in cond.items()}
        adapted: Adapted = foreign(oracle, convention, {key: value[:1] for key, value in cond.items()})
        low, high = adapted.logsnr_range
        logsnr = adapted.snap(torch.linspace(max(low, -12), min(high, 12), 64, dtype=torch.float64))
        z = add_noise(x, logsnr, torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        for given, marked in ((cond, present(cond)), (None, None)):
            truth = oracle(z, logsnr, given)
            torch.testing.assert_close(adapted(z, logsnr, marked), truth, rtol=0, atol=1e-5)
        joined = adapted.branches(z, logsnr, [None, present(cond)])
        torch.testing.assert_close(
            joined[1] - joined[0], oracle(z, logsnr, cond) - oracle(z, logsnr), rtol=0, atol=1e-5
        )


def test_noise_is_added_at_a_level_the_network_knows():
    convention = vp("scaled_linear", "epsilon")
    asked = torch.linspace(-6, 8, 301, dtype=torch.float64)
    snapped = convention.snap(asked)
    assert torch.isin(snapped, convention.levels).all()
    distance = (asked[:, None] - convention.levels[None]).abs().min(1).values
    torch.testing.assert_close((asked - snapped).abs(), distance)
    torch.testing.assert_close(convention.levels[convention.c_noise(snapped)], snapped)


class Ink(torch.nn.Module):
    """Predicts x, a pixel of 0 or 1, from t x + (1 - t) eps; label 2 says nothing, the others are right in 9 of 10 cases."""

    def forward(self, noisy, time, label):
        prior = torch.tensor([0.1, 0.9, 0.5], dtype=noisy.dtype)[label][:, None]
        t = time[:, None].to(noisy.dtype)
        # log p(noisy | 1) - log p(noisy | 0), with noise of deviation 1 - t around t x.
        return torch.sigmoid(torch.logit(prior) + (noisy.square() - (noisy - t).square()) / (2 * (1 - t) ** 2))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2.0, -1.0), (0.3, 7.0)])
def test_a_network_in_its_own_convention(scale, shift):
    """Data in [0, 1], reversed time, x-prediction; and measured in another scale than the network's own."""
    convention = Interpolant("sample", lambda t: t, lambda t: 1 - t)
    own = Adapted(Ink(), convention, {"label": torch.tensor([2])})
    denoiser = Rescaled(own, scale, shift)
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (1500,), generator=generator)
    x = torch.where(torch.rand(1500, generator=generator) < 0.9, label, 1 - label)[:, None].double()
    found = MMG("gap", Trapezoid(96))(denoiser, scale * x + shift, {"label": label}).mean()
    truth = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    assert abs(found.value - truth) < 4 * found.stderr
    assert found.stderr < 0.03 < truth
    check_denoiser(denoiser, scale * x[:64] + shift, {"label": label[:64]})


def test_a_level_of_an_interpolant_is_inverted():
    convention = Interpolant("sample", lambda t: t**2, lambda t: 1 - t**2, (0.999, 0.01))
    time = torch.linspace(0.02, 0.99, 50, dtype=torch.float64)
    logsnr = 2 * torch.log(time**2 / (1 - time**2))
    torch.testing.assert_close(convention.c_noise(logsnr), time, rtol=0, atol=1e-12)
    low, high = convention.logsnr_range
    assert low < -18 < 12 < high
    assert convention.snap(torch.tensor([-50.0, 50.0])).tolist() == [low, high]


def test_rescaled_keeps_the_levels_of_a_table():
    inner = foreign(GaussianReference(), vp("linear", "epsilon"), {})
    denoiser = Rescaled(inner, 0.3, 1.0)
    asked = torch.linspace(-8, 8, 200, dtype=torch.float64)
    known = denoiser.snap(asked)
    assert torch.equal(denoiser.snap(known), known)
    torch.testing.assert_close(known, inner.snap(asked + 2 * math.log(0.3)) - 2 * math.log(0.3))
    # N(1, 0.3^2) is what its x is.
    z, logsnr = torch.randn(200, 3, dtype=torch.float64), known
    a, s = (part[:, None] for part in signal_and_noise(logsnr))
    truth = s * (z - a) / (0.09 * a**2 + s**2)
    torch.testing.assert_close(denoiser(z, logsnr), truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", ["sign", "level"])
def test_self_check_finds_a_foreign_mistake(wrong, mixture):
    oracle, x, cond = mixture
    x, cond = x[:32].float(), present({"label": cond["label"][:32]})
    honest = foreign(oracle, vp("linear", "epsilon"), {"label": torch.zeros(1, dtype=torch.int64)})
    check_denoiser(honest, x, cond)
    network = honest.network
    broken = {
        "sign": lambda noisy, time, **c: -network(noisy, time, **c),
        "level": lambda noisy, time, **c: network(noisy, 999 - time, **c),
    }[wrong]
    with pytest.raises(AssertionError, match="error"):
        check_denoiser(Adapted(broken, honest.convention, honest.null, dtype=torch.float64), x, cond)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Interpolant("sample", lambda t: t, lambda t: 1 - t, (0.0, 1.0)), "not finite and monotone"),
        (lambda: Interpolant("sample", torch.ones_like, lambda t: t * (1 - t)), "not finite and monotone"),
        (lambda: Rescaled(GaussianReference(), scale=0.0), "positive scale"),
    ],
)
def test_bad_conventions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
