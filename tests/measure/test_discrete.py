"""log P(x) of data on a grid, against laws whose probabilities are known: Ising models and mixtures over levels."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from mmg_diffusers.analysis.records import load
from mmg_diffusers.denoisers import Denoiser, ExactDenoiser, GaussianReference
from mmg_diffusers.measure import Control, Density, Grid, LogLikelihood, LogProbability, StratifiedUniform
from mmg_diffusers.measure.decoding import TiltedSoftmax
from mmg_diffusers.measure.probability import LogProbabilityRatio
from mmg_diffusers.worlds.densities import Ising, LevelMixture
from mmg_diffusers.worlds.tasks import get_density_task

SPINS = Grid(-1, 1, 2)
SPIN_RANGE = (-7.0, SPINS.resolved)


def drawn(law, n, seed):
    return torch.from_numpy(law.draw(n, np.random.default_rng(seed)))


def truth(law, x):
    return torch.from_numpy(law.log_prob(x.numpy()))


@cache
def reference_of(law, n=1000):
    return GaussianReference.fit(drawn(law, n, 99))


class Changed(Denoiser):
    """A denoiser whose prediction is multiplied, and which counts its rows."""

    def __init__(self, denoiser, factor=1.0):
        super().__init__()
        self.denoiser, self.factor, self.rows = denoiser, factor, 0
        self.logsnr_range = denoiser.logsnr_range

    def forward(self, z, logsnr, cond=None):
        self.rows += len(z)
        return self.factor * self.denoiser(z, logsnr, cond)


def density(law, levels=64, draws=2, **options):
    return Density(reference_of(law), StratifiedUniform(levels), draws, **options)


# Truths.


@pytest.mark.parametrize(
    ("law", "grid"),
    [
        (Ising(2, 3, 0.0), SPINS),
        (Ising(4, 4, 0.4), SPINS),
        (get_density_task("levels-4-16").law, Grid(-1, 1, 16)),
        (LevelMixture(np.ones(2), np.random.default_rng(0).random((2, 3, 5)), 2.0, 4.0), Grid(2, 4, 5)),
    ],
    ids=["free spins", "Ising", "16 levels", "5 levels"],
)
def test_every_value_has_its_probability(law, grid):
    x = drawn(law, 60, 1)
    found = density(law, values=grid)(ExactDenoiser(law), x, logsnr_range=(-9.0, grid.resolved))
    error = found.nats - truth(law, x)
    assert isinstance(found, LogProbability)
    assert float(error.std()) > 1e-3  # there is noise
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(60) + float(found.terms.low.mean())
    assert 0.6 < float((error / found.stderr).square().mean().sqrt()) < 1.5
    assert found.mean().value == pytest.approx(float(found.nats.mean()))
    torch.testing.assert_close(found.bits_per_dim(), -found.nats / (x[0].numel() * math.log(2)))


@pytest.mark.parametrize("high", [1.0, 2.5, SPINS.resolved])
def test_the_right_end_is_closed_wherever_it_is(high):
    """With two levels the tilted softmax is the law of each spin given the noise; what is lost is what spins share."""
    law = Ising(2, 2, 0.4)
    x = drawn(law, 400, 2)
    found = density(law, 32, values=SPINS)(ExactDenoiser(law), x, logsnr_range=(-9.0, high))
    over = -(found.nats - truth(law, x))
    error = float(over.std()) / math.sqrt(400)
    assert -4 * error < float(over.mean()) < 0.1 + 4 * error
    if high == 1.0:  # something is decoded, and most of a flat softmax's cost is saved or kept, never lost
        assert 0.05 < found.ends.high[1] < float(SPINS.decoding(x, high).flatten(1).sum(1).mean()) + 0.05
    free = Ising(2, 2, 0.0)
    spins = drawn(free, 400, 2)
    alone = density(free, 32, values=SPINS)(ExactDenoiser(free), spins, logsnr_range=(-9.0, high))
    error = float(alone.nats.std()) / math.sqrt(400)
    assert abs(float(alone.nats.mean()) + 4 * math.log(2)) < 4 * error + 1e-3


@pytest.mark.parametrize("low", [-4.0, -2.0, 0.0])
def test_the_left_end_is_a_bound_in_closed_form(low):
    law = Ising(3, 3, 0.4)
    x = drawn(law, 400, 3)
    found = density(law, 32, values=SPINS)(ExactDenoiser(law), x, logsnr_range=(low, SPINS.resolved))
    over = -(found.nats - truth(law, x))
    error = 4 * float(over.std()) / math.sqrt(400)
    assert -error < float(over.mean()) < found.ends.low[1] + error
    # And not what it would be with the end left out.
    assert float((over - found.terms.low).mean()) < -error or low == -4.0


def test_256_levels_over_the_range_of_a_ddpm():
    task = get_density_task("levels-16-256")
    x = drawn(task.law, 40, 4)
    found = density(task.law, 128, 1, values=Grid())(ExactDenoiser(task.law), x, logsnr_range=(-7.0, 9.2))
    error = found.nats - truth(task.law, x)
    assert abs(float(error.mean())) < 3 * float(error.std()) / math.sqrt(40)
    assert 0.7 < float((error / found.stderr).square().mean().sqrt()) < 1.4
    # Telling the levels is 1.65 nats a coordinate, which a range that simply ended would lack.
    assert found.ends.high[1] == pytest.approx(26.4, abs=0.5)
    assert any("leaves levels undecided" in said for said in found.warnings())


def everything(law):
    bits = np.arange(512)[:, None] >> np.arange(9) & 1
    return torch.from_numpy((2.0 * bits - 1).reshape(-1, *law.shape))


def sum_over_all(factor, levels, draws):
    """exp of log P, summed over all pictures of 3 x 3, and the standard error of that."""
    law = Ising(3, 3, 0.4)
    exact = ExactDenoiser(law)
    estimator = density(law, levels, draws, values=SPINS).piloted(exact, drawn(law, 64, 8), logsnr_range=SPIN_RANGE)
    found = estimator(Changed(exact, factor), everything(law), logsnr_range=SPIN_RANGE)
    # The mean of exp of what has noise of variance v is exp(v / 2) too large.
    each = (found.nats - found.stderr.square() / 2).exp()
    return float(each.sum()), float((each * found.stderr).square().sum().sqrt())


def test_probabilities_of_all_pictures_add_up_to_one():
    total, error = sum_over_all(1.0, 128, 8)
    assert error < 0.025
    assert abs(total - 1) < 4 * error


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_what_a_network_gets_wrong_is_missing_from_their_sum(factor):
    total, error = sum_over_all(factor, 64, 4)
    assert 0.3 < total < 0.9 - 4 * error


@pytest.mark.slow  # half a minute: python -m pytest -m slow tests/measure/test_discrete.py
def test_probabilities_of_all_pictures_add_up_to_one_within_two_percent():
    total, error = sum_over_all(1.0, 512, 24)
    assert error < 0.007
    assert 0.98 < total < 1.02


@pytest.mark.slow  # two minutes: python -m pytest -m slow tests/measure/test_discrete.py
def test_8_by_8_spins():
    task = get_density_task("ising-8-8-0.4")
    denoiser, x = ExactDenoiser(task.law), drawn(task.law, 1000, 5)
    known = truth(task.law, x)
    plain = Density(reference_of(task.law, 2000), StratifiedUniform(256), 2, values=SPINS)
    piloted = plain.piloted(denoiser, drawn(task.law, 64, 6), logsnr_range=SPIN_RANGE)
    controlled = replace(plain, control=piloted.control)
    direct = replace(plain, control=Control((0.0,), (0.0,)))
    deviation = {}
    for name, estimator, count in (
        ("piloted", piloted, 1000),
        ("controlled", controlled, 200),
        ("all", plain, 200),
        ("none", direct, 200),
    ):
        found = estimator(denoiser, x[:count], logsnr_range=SPIN_RANGE)
        assert found.evaluations == 512 * count
        error = found.nats - known[:count]
        deviation[name] = float(error.square().mean().sqrt()) / 64
        # The mean of log P over these pictures differs from -31.80 by what is known of them.
        assert abs(float(error.mean())) < 0.15
        assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(count) + found.ends.low[1]
    print(deviation)
    assert deviation["piloted"] < 0.014
    assert deviation["all"] ** 2 > 1.5 * deviation["controlled"] ** 2
    assert deviation["none"] ** 2 > 1.5 * deviation["controlled"] ** 2
    assert deviation["controlled"] > deviation["piloted"]


def test_a_pilot_leaves_less_noise_and_the_same_value():
    law = Ising(5, 5, 0.4)
    denoiser, x = ExactDenoiser(law), drawn(law, 200, 7)
    plain = density(law, 32, 2, values=SPINS)
    piloted = plain.piloted(denoiser, drawn(law, 64, 8), logsnr_range=SPIN_RANGE)
    assert piloted.values == SPINS
    assert (
        piloted.control.shares[-1] < 0.1 < piloted.control.shares[10]
    )  # in the end spins are certain, whatever the noise
    square = {}
    for name, estimator in (
        ("piloted", piloted),
        ("all", plain),
        ("none", replace(plain, control=Control((0.0,), (0.0,)))),
    ):
        found = estimator(denoiser, x, logsnr_range=SPIN_RANGE)
        error = found.nats - truth(law, x)
        assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(200) + found.ends.low[1]
        square[name] = float(error.square().mean())
    assert square["all"] > 1.3 * square["piloted"]
    assert square["none"] > 1.3 * square["piloted"]


# The softmax at the clean end.


def test_a_tilted_softmax_is_a_law_over_all_levels_with_the_mean_that_is_predicted():
    decoder = TiltedSoftmax(12, 0.8)
    seen, predicted = torch.tensor([5.3, -2.0, 13.0, 6.0]), torch.tensor([4.9, 0.4, 10.9, 6.0])
    seen, predicted = seen.double(), predicted.double()
    each = torch.stack([decoder.costs(torch.full((4,), k), seen, predicted)[0] for k in range(12)])
    share = torch.exp(-each)
    torch.testing.assert_close(share.sum(0), torch.ones(4, dtype=torch.float64))
    mean = (share * torch.arange(12)[:, None]).sum(0)
    torch.testing.assert_close(mean, 0.999 * predicted + 0.001 * 5.5, atol=1e-6, rtol=0)
    flat = torch.stack([decoder.costs(torch.full((4,), k), seen, predicted)[1] for k in range(12)])
    expected = -torch.log_softmax(-((seen - torch.arange(12)[:, None]) * 0.8).square() / 2, 0)
    torch.testing.assert_close(flat, expected)


def test_levels_out_of_sight_are_improbable_and_not_impossible():
    decoder = TiltedSoftmax(256, 5.0)
    assert decoder.width < 256
    cost, _ = decoder.costs(torch.tensor([200, 10]), *(torch.tensor([10.0, 10.0], dtype=torch.float64) for _ in "ab"))
    assert cost.tolist() == pytest.approx([math.log(256 / 1e-3), 0.001], abs=1e-4)


def test_a_network_that_predicts_nonsense_at_the_end_costs_a_bounded_number_of_nats():
    law = get_density_task("levels-4-16").law
    x = drawn(law, 30, 1)
    found = density(law, values=Grid(-1, 1, 16))(Changed(ExactDenoiser(law), 30.0), x, logsnr_range=(-7.0, 3.0))
    assert float(found.decoding.max()) < 4 * (math.log(16 / 1e-3) + math.log(16))


# The record.


def test_values_that_recur_by_chance_are_said_to():
    """Other draws of a law of 512 pictures are equal to some that were fitted on; and those of 2^64 are not."""
    law, large = Ising(3, 3, 0.4), Ising(8, 8, 0.1)
    recur = "unless these only recur, as x do among themselves"
    run = Density(reference_of(law), StratifiedUniform(8), values=SPINS)
    run = run.piloted(ExactDenoiser(law), drawn(law, 64, 1), logsnr_range=SPIN_RANGE)
    said = run(ExactDenoiser(law), drawn(law, 100, 2), logsnr_range=SPIN_RANGE).warnings()
    assert sum(recur in text and ("fitted on" in text or "those of the pilot" in text) for text in said) == 2
    fitted = drawn(large, 40, 3)
    run = Density(GaussianReference.fit(fitted), StratifiedUniform(8), values=SPINS)
    said = run(ExactDenoiser(large), fitted[:10], logsnr_range=SPIN_RANGE).warnings()
    assert any("10 of 10 x are among the points" in text and "recur" not in text for text in said)


def test_rows_are_counted_exactly():
    law = get_density_task("levels-4-16").law
    x = drawn(law, 20, 1)
    for high, expected in ((3.0, 20 * (2 * 16 + 2 * 8)), (Grid(-1, 1, 16).resolved, 20 * 2 * 16)):
        counting = Changed(ExactDenoiser(law))
        found = density(law, 16, 2, values=Grid(-1, 1, 16))(counting, x, logsnr_range=(-7.0, high))
        assert found.evaluations == counting.rows == expected


def test_it_is_the_same_in_batches_of_any_size_in_parts_and_in_files(tmp_path):
    law = get_density_task("levels-4-16").law
    x = drawn(law, 12, 1)
    estimator, denoiser = density(law, 16, 2, values=Grid(-1, 1, 16)), ExactDenoiser(law)
    options = {"logsnr_range": (-7.0, 3.0), "seed": 3}
    whole = estimator(denoiser, x, **options)
    for size in (1, 7):
        torch.testing.assert_close(estimator(denoiser, x, batch_size=size, **options).nats, whole.nats)
    ids = torch.arange(12)
    parts = [estimator(denoiser, x[k : k + 5], pair_ids=ids[k : k + 5], **options) for k in (0, 5, 10)]
    merged = LogProbability.merge(parts)
    assert isinstance(merged, LogProbability)
    torch.testing.assert_close(merged.nats, whole.nats)
    torch.testing.assert_close(merged.stderr, whole.stderr)
    assert merged.evaluations == whole.evaluations
    for read in (LogProbability.load(whole.save(tmp_path / "p")), load(tmp_path / "p")):
        assert isinstance(read, LogProbability)
        assert torch.equal(read.nats, whole.nats)
        assert torch.equal(read.stderr, whole.stderr)
        assert (str(read), read.ends, read.settings) == (str(whole), whole.ends, whole.settings)
    with pytest.raises(ValueError, match="no complete log-likelihood"):
        LogLikelihood.load(tmp_path / "p")
    assert "bits a dimension" in str(whole)
    assert list(whole.to_pandas()["nats"]) == whole.nats.tolist()


def test_a_ratio_of_probabilities_shares_its_noise(tmp_path):
    law = get_density_task("levels-4-16").law
    x, label = law.draw_labelled(40, np.random.default_rng(2))
    x, denoiser = torch.from_numpy(x), ExactDenoiser(law)
    estimator = density(law, 32, 2, values=Grid(-1, 1, 16))
    options = {"logsnr_range": (-7.0, 3.0)}
    given = estimator(denoiser, x, {"label": torch.from_numpy(label)}, **options)
    alone = estimator(denoiser, x, **options)
    ratio = given.versus(alone)
    assert isinstance(ratio, LogProbabilityRatio)
    torch.testing.assert_close(ratio.nats, given.nats - alone.nats)
    error = ratio.nats - torch.from_numpy(law.log_prob(x.numpy(), label) - law.log_prob(x.numpy()))
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(40) + 0.01
    assert float(ratio.stderr.mean()) < 0.9 * float(given.stderr.mean())
    read = load(ratio.save(tmp_path / "ratio"))
    assert isinstance(read, LogProbabilityRatio)
    assert torch.equal(read.nats, ratio.nats)
    assert torch.equal(read.stderr, ratio.stderr)
    assert torch.equal(LogProbabilityRatio.merge([read]).nats, ratio.nats)
    with pytest.raises(TypeError, match="a LogProbability"):
        given.versus(Density(reference_of(law), StratifiedUniform(32), 2)(denoiser, x, **options))


def test_a_range_of_its_own():
    """Without a range, levels are looked at as far as they tell anything."""
    law = Ising(2, 2, 0.4)

    class Bounded(Changed):
        def __init__(self, ends):
            super().__init__(ExactDenoiser(law))
            self.logsnr_range = ends

    x = drawn(law, 5, 1)
    assert density(law, values=SPINS)(Bounded((-8.0, 12.0)), x).logsnr_range == (-8.0, SPINS.resolved)
    assert density(law, values=SPINS)(Bounded((-8.0, 2.0)), x).logsnr_range == (-8.0, 2.0)
    with pytest.raises(ValueError, match="give `logsnr_range="):
        density(law, values=SPINS)(ExactDenoiser(law), x)


# What is refused, or warned of.


def test_what_is_refused_before_the_network_runs():
    law = Ising(2, 2, 0.4)
    x = drawn(law, 5, 1)
    off = x.clone()
    off[2, 0, 1, 0] = 0.25
    counting = Changed(ExactDenoiser(law))
    for call, kind, text in [
        (lambda: density(law, values=SPINS)(counting, off, logsnr_range=SPIN_RANGE), ValueError, r"holds 0.25 at \(2, 0, 1, 0\)"),
        (lambda: density(law, values=Grid(0, 1, 2))(counting, x, logsnr_range=SPIN_RANGE), ValueError, "holds -1"),
        (lambda: density(law, values=SPINS)(counting, x, logsnr_range=(-7.0, -1.0)), ValueError, "the range ends at log-SNR -1"),
        (lambda: density(law, values=SPINS).piloted(counting, off.repeat(2, 1, 1, 1), logsnr_range=SPIN_RANGE), ValueError, "holds 0.25"),
        (lambda: Density(values=(-1, 1, 2)), TypeError, "values is a tuple"),
        (lambda: Density(values=Grid), TypeError, "the class Grid itself"),
        (lambda: Density(values=Grid(-1, 1, 1)), ValueError, "levels is 1"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=text):
            call()
    assert counting.rows == 0


def test_a_density_of_data_on_a_grid_names_the_grid_and_the_remedy():
    law = get_density_task("levels-16-256").law
    x = drawn(law, 200, 1)
    found = Density(GaussianReference(0.5), StratifiedUniform(8))(ExactDenoiser(law), x, logsnr_range=(-5.0, 5.0))
    said = [said for said in found.warnings() if "x lies on a grid" in said]
    assert len(said) == 1
    assert "values=Grid(low, high, levels)" in said[0]
    grid = Density(GaussianReference(0.5), StratifiedUniform(8), values=Grid())
    assert not any(
        "lies on a grid" in said for said in grid(ExactDenoiser(law), x, logsnr_range=(-5.0, 9.0)).warnings()
    )
