"""The check of a denoiser: what is right passes, and each mistake is found in the branch that has it."""

import subprocess
import sys

import pytest
import torch

from mmg_diffusers.denoisers.base import Adapted, Denoiser, Rescaled
from mmg_diffusers.denoisers.check import check_denoiser, foreign, present
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise


def sample(z, logsnr, eps):
    a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
    return (z - s * eps) / a


# Each of (oracle, z, logsnr, cond).
MISTAKES = {
    "sign": lambda o, z, at, cond: -o(z, at, cond),
    "times -5": lambda o, z, at, cond: -5 * o(z, at, cond),
    "times 0.5": lambda o, z, at, cond: 0.5 * o(z, at, cond),
    "times 0.8": lambda o, z, at, cond: 0.8 * o(z, at, cond),
    "times 1.25": lambda o, z, at, cond: 1.25 * o(z, at, cond),
    "nothing": lambda o, z, at, cond: 0 * o(z, at, cond),
    "sample for epsilon": lambda o, z, at, cond: sample(z, at, o(z, at, cond)),
    "flow for epsilon": lambda o, z, at, cond: o(z, at, cond) - sample(z, at, o(z, at, cond)),
    "time reversed": lambda o, z, at, cond: o(z, -at, cond),
    "time too clean": lambda o, z, at, cond: o(z, at + 4, cond),
    "time too noisy": lambda o, z, at, cond: o(z, at - 6, cond),
    "time 2 too clean": lambda o, z, at, cond: o(z, at + 2, cond),
    "time 2 too noisy": lambda o, z, at, cond: o(z, at - 2, cond),
    "one time": lambda o, z, at, cond: o(z, 0 * at - 8, cond),
    "NaN": lambda o, z, at, cond: o(z, at, cond) * float("nan"),
    "another shape": lambda o, z, at, cond: o(z, at, cond)[:, :1],
    "another type": lambda o, z, at, cond: o(z, at, cond).half(),
    "the batch": lambda o, z, at, cond: o(z, at, cond) + 0.1 * z.mean(0),
}


class Mistaken(Denoiser):
    """An oracle with a mistake in one branch."""

    logsnr_range = (-8.0, 8.0)

    def __init__(self, oracle, mistake, branch):
        super().__init__()
        self.oracle, self.mistake, self.branch = oracle, mistake, branch

    def forward(self, z, logsnr, cond=None):
        here = "unconditional" if cond is None else "conditional"
        return self.mistake(self.oracle, z, logsnr, cond) if here == self.branch else self.oracle(z, logsnr, cond)


@pytest.fixture(params=["gaussian", "mixture"])
def known(request):
    """An exact denoiser with 64 pairs."""
    oracle, x, cond = request.getfixturevalue(request.param)
    return oracle, x[:64], {key: value[:64] for key, value in cond.items()}


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_either_branch_is_found_and_named(known, branch, name):
    oracle, x, cond = known
    with pytest.raises(AssertionError, match=f"(?<!un){branch} branch"):
        check_denoiser(Mistaken(oracle, MISTAKES[name], branch), x, cond)


def loud(o, z, at, cond):
    """Predicts twice the x that there is where nearly all of z is noise: a thousandth of the noise per dimension."""
    a, s = (per_event(scale, z) for scale in signal_and_noise(at))
    return (z - 2 * a * sample(z, at, o(z, at, cond))) / s


def unlearned(o, z, at, cond):
    """Errs at the clean end by as much of x at every level, so that it errs less if it is told one that is noisier."""
    return o(z, at, cond) + 0.012 * per_event((at / 2).exp(), z) * (5 * z).sin()


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
@pytest.mark.parametrize(("short", "ends"), [(loud, (-torch.inf, -7.5)), (unlearned, (7.5, torch.inf))])
def test_ends_that_a_network_hardly_learned_are_not_called_another_level(known, branch, short, ends):
    """Small networks of the right convention fall short there; `known_range` says where."""
    oracle, x, cond = known

    def mistake(o, z, at, cond):
        there = (at > ends[0]) & (at < ends[1])
        return torch.where(there[:, None], short(o, z, at, cond), o(z, at, cond))

    found = check_denoiser(Mistaken(oracle, mistake, branch), x, cond)
    ideal = check_denoiser(oracle, x, cond)
    errors = [part.error if branch == "unconditional" else part.conditional for part in (found, ideal)]
    assert not torch.allclose(errors[0], errors[1])


def weak(o, z, at, cond):
    """Errs as a network does that hardly saw such levels, more at the clean end, where much is let pass."""
    return o(z, at, cond) + torch.where((at < 0)[:, None], 0.4, 2.0) * (3 * z).sin()


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
@pytest.mark.parametrize(("low", "high", "end"), [(-torch.inf, -3.5, "noisy"), (3.5, torch.inf, "clean")])
def test_an_end_that_a_network_does_not_know_is_said_to_be_one_with_what_to_do(known, branch, low, high, end):
    oracle, x, cond = known

    def mistake(o, z, at, cond):
        there = ((at > low) & (at < high))[:, None]
        return torch.where(there, weak(o, z, at, cond), o(z, at, cond))

    wrong = Mistaken(oracle, mistake, branch)
    with pytest.raises(AssertionError) as told:
        check_denoiser(wrong, x, cond)
    said = str(told.value)
    assert said.startswith(f"the {branch} branch is wrong at the {end} end alone, log-SNR ")
    assert "hardly learned" in said
    assert "known_range(denoiser, x).logsnr_range" in said
    # Over the others it passes, as the text says.
    ends = (max(low, -3.4) if end == "noisy" else -8.0, 8.0 if end == "noisy" else min(high, 3.4))
    found = check_denoiser(wrong, x, cond, logsnr_range=ends)
    assert (float(found.logsnr[0]), float(found.logsnr[-1])) == ends
    with pytest.raises(ValueError, match="not a rising range within"):
        check_denoiser(wrong, x, cond, logsnr_range=(3.0, 9.0))


@pytest.mark.parametrize("name", ["sign", "times -5", "sample for epsilon", "time reversed", "nothing"])
def test_mistakes_at_all_levels_are_no_end(known, name):
    oracle, x, cond = known
    with pytest.raises(AssertionError) as told:
        check_denoiser(Mistaken(oracle, MISTAKES[name], "conditional"), x, cond)
    assert "hardly learned" not in str(told.value)


def test_what_is_right_passes(known):
    oracle, x, cond = known
    for seed in range(5):
        found = check_denoiser(
            oracle, x[16 * (seed % 4) :][:16], {k: v[16 * (seed % 4) :][:16] for k, v in cond.items()}, seed=seed
        )
        assert float(found.error[0]) < 0.01 > float(found.conditional[0])
        assert bool((found.conditional <= found.error + 0.1).all())


def test_a_branch_that_remembers_is_found(gaussian):
    oracle, x, cond = gaussian

    class Remembers(Denoiser):
        logsnr_range = (-8.0, 8.0)
        seen = None

        def forward(self, z, logsnr, cond=None):
            self.seen = cond if cond is not None and len(z) > 1 else self.seen
            kept = self.seen if self.seen is not None and len(z) == len(self.seen["y"]) else None
            return oracle(z, logsnr, cond if cond is not None else kept)

    with pytest.raises(AssertionError, match=r"depends on|answers differently"):
        check_denoiser(Remembers(), x[:64], {"y": cond["y"][:64]})


def test_a_network_without_a_null_is_checked_in_its_conditional_branch(mixture):
    oracle, x, cond = mixture
    x, cond = x[:64], present({"label": cond["label"][:64]})
    denoiser = foreign(oracle, RectifiedFlow.shifted(), {"label": torch.zeros(1, dtype=torch.int64)})
    network = denoiser.network
    denoiser.null = None
    assert not denoiser.has_marginal
    for right in (denoiser, Rescaled(denoiser)):
        found = check_denoiser(right, x, cond)
        assert bool(found.error.isnan().all())
        assert bool(found.conditional.isfinite().all())
    wrong = Adapted(lambda *given, **named: -network(*given, **named), denoiser.convention, dtype=torch.float64)
    with pytest.raises(AssertionError, match="conditional branch"):
        check_denoiser(wrong, x, cond)


def test_what_cannot_be_checked_is_refused(gaussian):
    oracle, x, cond = gaussian
    with pytest.raises(TypeError, match="expected a Denoiser"):
        check_denoiser(torch.nn.Identity(), x[:16], cond)
    with pytest.raises(ValueError, match="16 variables or more"):
        check_denoiser(oracle, x[:15], {"y": cond["y"][:15]})
    with pytest.raises(ValueError, match="20 rows for 16"):
        check_denoiser(oracle, x[:16], {"y": cond["y"][:20]})


def test_it_checks_without_assert_statements():
    """As `python -O` leaves them out."""
    code = (
        "import torch\n"
        "from mmg_diffusers.denoisers import GaussianDenoiser, check_denoiser\n"
        "class Wrong(GaussianDenoiser):\n"
        "    def forward(self, z, logsnr, cond=None): return -5 * super().forward(z, logsnr, cond)\n"
        "x = torch.randn(16, 1)\n"
        "try: check_denoiser(Wrong(torch.eye(2), 1), x, {'y': x})\n"
        "except AssertionError: print('found')\n"
    )
    told = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "found\n"
