"""Ensembles take each denoiser where it is good, say what that gains, and refuse the data that chose them."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers.denoisers import Denoiser, ExactDenoiser, GaussianReference, Rescaled, TwoDenoisers
from mmg_diffusers.measure import MMG, Density, Ensemble, StratifiedUniform, Value
from mmg_diffusers.measure.ensemble import Choice
from mmg_diffusers.worlds.tasks import get_density_task

TASK = get_density_task("mixture-8")
EXACT = ExactDenoiser(TASK.law)
RANGE = (-8.0, 8.0)
ESTIMATOR = Density(GaussianReference(), StratifiedUniform(64))


def drawn(n, seed):
    return torch.from_numpy(TASK.sample(n, seed))


class Wrong(Denoiser):
    """The exact denoiser, wrong by a multiple of a wave between two levels; it knows levels a step apart, if there is one."""

    def __init__(self, share, low=-math.inf, high=math.inf, *, ends=RANGE, step=None):
        super().__init__()
        self.share, self.where, self.logsnr_range, self.step = share, (low, high), ends, step
        self.asked = []

    def snap(self, logsnr):
        level = super().snap(logsnr)
        return (
            level
            if self.step is None
            else ((level - self.logsnr_range[0]) / self.step).round() * self.step + self.logsnr_range[0]
        )

    def forward(self, z, logsnr, cond=None):
        self.asked += logsnr.tolist()
        off = self.share * ((logsnr >= self.where[0]) & (logsnr < self.where[1])).to(z)
        return EXACT(z, logsnr, cond) + off[:, None] * torch.cos(3 * z)


NOISY, CLEAN = (Wrong(0.5, -8, 0), Wrong(0.5, 0, 8))


def test_each_answers_where_it_is_good():
    ensemble = Ensemble.choose([NOISY, CLEAN], drawn(100, 1))
    assert ensemble.logsnr_range == RANGE
    assert ensemble.choice.members == (1,) * 8 + (0,) * 8
    x = drawn(100, 2)
    exact = ESTIMATOR(EXACT, x, logsnr_range=RANGE)
    # The same noise, and never a wrong prediction: nothing differs.
    torch.testing.assert_close(ESTIMATOR(ensemble, x).nats, exact.nats)
    alone = [ESTIMATOR(one, x) for one in (NOISY, CLEAN)]
    best = max(alone, key=lambda found: found.mean().value)
    gain = exact.versus(best).mean()
    assert gain.value > 5 * gain.stderr
    said = ensemble.choice.gain
    assert abs(said.value - gain.value) < 4 * math.hypot(said.stderr, gain.stderr)
    assert "2 of 2 denoisers answer in 16 bands, as 100 x chose" in ensemble.notes[0]
    assert "better than the best of them by" in ensemble.notes[0]
    assert ensemble.notes[0] in ESTIMATOR(ensemble, x).warnings()


@pytest.mark.parametrize("count", [8, 64])
def test_few_points_do_not_choose_by_chance(count):
    """Denoisers that are equally good but for noise: on other data the ensemble is as good as the best of them."""

    class Noisy(Wrong):
        def forward(self, z, logsnr, cond=None):
            return super().forward(z, logsnr, cond) + 0.3 * torch.sin(3 * z + self.share)

    pool = [Noisy(0.0), Noisy(0.01), Noisy(0.02)]
    ensemble = Ensemble.choose(pool, drawn(count, 3))
    x = drawn(200, 4)
    best = max((ESTIMATOR(one, x) for one in pool), key=lambda found: found.mean().value)
    gain = ESTIMATOR(ensemble, x).versus(best).mean()
    assert gain.value > -2 * gain.stderr - 1e-9
    said = ensemble.choice.gain
    assert said.value < 3 * said.stderr + 0.02  # it promises nothing
    if count == 8:
        assert "no better than the best of them within the error" in ensemble.notes[0] or said.value < 0


def test_choosing_by_the_points_that_are_measured_would_flatter():
    """What is refused: the least error of each band, on the same points, is less than that of any denoiser."""
    pool = [Wrong(share) for share in (0.0, 0.02, -0.02)]
    x = drawn(8, 5)
    kept = [ESTIMATOR(one, x) for one in pool]
    by_band = torch.stack([found.curve.error.mean((0, 1)).view(16, 4).sum(1) for found in kept])
    assert float(by_band.min(0).values.sum()) < float(by_band.sum(1).min()) - 1e-3
    with pytest.raises(ValueError, match="8 of 8 x are among the 8 that chose this ensemble"):
        ESTIMATOR(Ensemble.choose(pool, x), x)


def test_data_that_chose_are_refused_wherever_they_are():
    chose = drawn(40, 6)
    ensemble = Ensemble.choose([NOISY, CLEAN], chose)
    fresh = drawn(40, 7)
    mixed = torch.cat([fresh[:10], chose[30:33].flip(0)])
    for measure in (
        lambda x: ESTIMATOR(ensemble, x),
        lambda x: ESTIMATOR(ensemble, x.float()),
        lambda x: ESTIMATOR.piloted(ensemble, x),
        lambda x: MMG("gap", StratifiedUniform(8))(TwoDenoisers(GaussianReference(), ensemble), x, {}),
        lambda x: ESTIMATOR(Ensemble.choose([ensemble, NOISY], drawn(40, 70)), x),
        lambda x: ESTIMATOR(Rescaled(ensemble, 3.0, 1.0), 3 * x + 1),
        lambda x: ESTIMATOR(Rescaled(Rescaled(ensemble, 3.0), 0.7, -2.0), 2.1 * x - 2),
    ):
        for x, count in ((chose, 40), (mixed, 3)):
            with pytest.raises(ValueError, match=f"{count} of {len(x)} x are among the 40 that chose this ensemble"):
                measure(x)
    assert len(ESTIMATOR(ensemble, fresh)) == 40
    assert Ensemble.choose([NOISY, CLEAN], chose).choice.data == ensemble.choice.data
    assert Ensemble.choose([NOISY, CLEAN], fresh).choice.data != ensemble.choice.data


def test_ranges_that_meet():
    low, high = Wrong(0.0, ends=(-8.0, 1.3)), Wrong(0.0, ends=(1.3, 6.0))
    ensemble = Ensemble.choose([high, low], drawn(20, 8), bands=4)
    assert ensemble.logsnr_range == (-8.0, 6.0)
    assert ensemble.choice.edges == pytest.approx((-8.0, -4.5, -1.0, 1.3, 2.5, 6.0))
    assert ensemble.choice.members == (1, 1, 1, 0, 0)
    assert ensemble.choice.gain is None  # no single one knows all of it
    x = drawn(30, 9)
    low.asked, high.asked = [], []
    found = ESTIMATOR(ensemble, x)
    assert max(low.asked) <= 1.3 <= min(high.asked)
    torch.testing.assert_close(found.nats, ESTIMATOR(EXACT, x, logsnr_range=(-8.0, 6.0)).nats)


def test_levels_are_those_of_the_one_who_answers():
    # The two know other levels; some of one's nearest to a band's edge lie beyond it.
    one, other = Wrong(0.5, 0, 8, step=0.7), Wrong(0.5, -8, 0, step=0.9)
    ensemble = Ensemble.choose([one, other], drawn(60, 10), bands=8)
    assert ensemble.choice.members == (0,) * 4 + (1,) * 4
    asked = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    levels = ensemble.snap(asked)
    assert float((levels - asked).abs().max()) < 0.46
    one.asked, other.asked = [], []
    ensemble(torch.randn(4001, 8, dtype=torch.float64), levels)
    assert len(one.asked) + len(other.asked) == 4001
    for member in (one, other):
        told = torch.tensor(member.asked, dtype=torch.float64)
        torch.testing.assert_close(member.snap(told), told, atol=1e-9, rtol=0)


def test_conditions_go_with_their_rows():
    x, label = TASK.sample_labelled(60, seed=11)
    x, cond = torch.from_numpy(x), {"label": torch.from_numpy(label)}
    ensemble = Ensemble.choose([NOISY, CLEAN], x[:30], {"label": cond["label"][:30]})
    rest = {"label": cond["label"][30:]}
    found = ESTIMATOR(ensemble, x[30:], rest)
    torch.testing.assert_close(found.nats, ESTIMATOR(EXACT, x[30:], rest, logsnr_range=RANGE).nats)
    assert found.evaluations == 30 * 64


def test_a_choice_is_a_record():
    choice = Ensemble.choose([NOISY, CLEAN], drawn(20, 12), bands=2).choice
    assert choice.record() == {
        "edges": [-8.0, 0.0, 8.0],
        "members": [1, 0],
        "data": choice.data.digest,
        "points": 20,
        "gain": list(choice.gain),
    }
    same = Ensemble([NOISY, CLEAN], Choice(choice.edges, choice.members, choice.data, choice.rows, Value(0.1, 0.2)))
    assert "no better than the best of them within the error, by 0.1000 +- 0.2000" in same.notes[0]


class OfAnotherShape(Wrong):
    def forward(self, z, logsnr, cond=None):
        return z[:, :3]


def test_what_is_refused():
    x = drawn(20, 13)
    pictures = ExactDenoiser(get_density_task("ising-3-3-0.4").law)
    pictures.logsnr_range = RANGE
    for denoisers, data, kind, text in [
        ([NOISY], x, ValueError, "got 1 denoiser"),
        (NOISY, x, TypeError, "denoisers is a Wrong"),
        ([NOISY, "net"], x, TypeError, "the denoiser is a str"),
        ([NOISY, CLEAN], x[:7], ValueError, "got 7 x to choose by"),
        ([NOISY, CLEAN], x.numpy(), TypeError, "x is a ndarray"),
        ([NOISY, pictures], x, ValueError, r"denoiser 1 does not take x of shape \(8,\)"),
        ([OfAnotherShape(0), CLEAN], x, ValueError, r"denoiser 0 answers in shape \(3,\)"),
        ([NOISY, Rescaled(CLEAN, 0.2)], x, ValueError, "denoiser 1 errs by"),
        ([NOISY, EXACT], x, ValueError, "expected finite ranges"),
        ([Wrong(0, ends=(-8.0, -1.0)), Wrong(0, ends=(1.0, 8.0))], x, ValueError, "no denoiser knows log-SNR -1.000 to 1.000"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=text):
            Ensemble.choose(denoisers, data)
    for options, kind, text in [
        ({"bands": 0}, ValueError, "bands is 0"),
        ({"levels": 1.5}, TypeError, "levels is 1.5"),
        ({"cond": {"label": torch.zeros(3)}}, ValueError, "has 3 rows for 20"),
    ]:
        with pytest.raises(kind, match=text):
            Ensemble.choose([NOISY, CLEAN], x, **options)
    assert np.isfinite(x.numpy()).all()
