"""Drawing until an error is reached: who draws on, with which noise, and whether the stated error is the true one."""

import pytest
import torch

from mmg_diffusers import MMG, Estimate, Tolerance
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.quadrature import Logistic, StratifiedLogistic, StratifiedUniform, Trapezoid
from tests.conftest import joint

RANGE = (-10.0, 12.0)


def gap(rule=Trapezoid(24), **options):  # noqa: B008
    return MMG("gap", rule, antithetic=True, **options)


def some(gaussian, count):
    denoiser, x, cond = gaussian
    return denoiser, x[:count], {"y": cond["y"][:count]}


def test_pairs_that_need_it_draw_on(gaussian):
    found = gap(tolerance=Tolerance(0.2, most=16))(*some(gaussian, 30), logsnr_range=RANGE)
    draws = found.curve.draws
    assert int(draws.min()) >= 2
    assert int(draws.max()) <= 16
    assert len(draws.unique()) > 3
    assert found.evaluations == 2 * 2 * 24 * int(draws.sum())
    assert torch.equal(found.reached, found.stderr <= 0.2)
    assert torch.isfinite(found.nats).all()
    # Where a pair was still not done, it had drawn all that it might.
    assert bool((draws[~found.reached] == 16).all())
    assert bool(found.reached.any())


@pytest.mark.parametrize("rule", [Trapezoid(12), StratifiedUniform(12)], ids=["trapezoid", "stratified"])
def test_a_draw_is_the_same_whoever_draws(gaussian, rule):
    denoiser, x, cond = some(gaussian, 12)
    found = gap(rule, tolerance=Tolerance(0.3, most=8))(denoiser, x, cond, logsnr_range=RANGE)
    fixed = gap(rule, draws=8)(denoiser, x, cond, logsnr_range=RANGE)
    for pair, drawn in enumerate(found.curve.draws.tolist()):
        assert torch.equal(found.curve.logsnr[pair, :drawn], fixed.curve.logsnr[pair, :drawn])
        torch.testing.assert_close(found.curve.gap[pair, :drawn], fixed.curve.gap[pair, :drawn], rtol=1e-9, atol=1e-9)
        assert bool(found.curve.gap[pair, drawn:].isnan().all())
        alone = gap(rule, tolerance=Tolerance(0.3, most=8))(
            denoiser, x[[pair]], {"y": cond["y"][[pair]]}, pair_ids=torch.tensor([pair]), logsnr_range=RANGE
        )
        assert int(alone.curve.draws[0]) == drawn
        torch.testing.assert_close(alone.nats, found.nats[[pair]], rtol=1e-9, atol=1e-9)


def test_the_error_is_what_was_asked_for():
    """Root mean square of the errors over pairs and seeds, against many draws: no more than the tolerance."""
    covariance = joint(0.9, 0.5, 0.8, 0.3)
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randn(20, 8, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    subject = (GaussianDenoiser(covariance, 4), pairs[:, :4], {"y": pairs[:, 4:]})
    reference = gap(draws=200)(*subject, seed=99, logsnr_range=RANGE)
    for asked in (0.4, 0.2):
        runs = [gap(tolerance=Tolerance(asked))(*subject, seed=s, logsnr_range=RANGE) for s in range(8)]
        errors = torch.stack([run.nats for run in runs]) - reference.nats
        assert all(bool(run.reached.all()) for run in runs)
        assert 0.5 * asked < float(errors.square().mean().sqrt()) < 1.1 * asked


@pytest.mark.parametrize(
    "rule",
    [
        StratifiedUniform(8),
        StratifiedLogistic(8, loc=1.0, scale=2.0, clip=5.0),
        Logistic(24, loc=1.0, scale=2.0, clip=5.0),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_many_draws_tell_the_error_of_levels_placed_at_random(gaussian, rule):
    """The stated error is that of repeats, which levels that all draws shared would not let it be; and draws lessen it."""
    subject = some(gaussian, 12)
    stated: list[float] = []
    for draws in (2, 12):
        runs = [MMG("gap", rule, draws)(*subject, seed=s, logsnr_range=RANGE) for s in range(30)]
        spread = float(torch.stack([run.nats for run in runs]).var(0).mean().sqrt())
        stated.append(float(torch.stack([run.stderr for run in runs]).square().mean().sqrt()))
        assert stated[-1] == pytest.approx(spread, rel=0.2)
    assert stated[1] == pytest.approx(stated[0] / 6**0.5, rel=0.2)


def test_both_forms_have_to_be_good_enough_for_auto(gaussian):
    subject = some(gaussian, 12)
    tolerance = Tolerance(0.25, most=128)
    auto, alone = (
        MMG(form, Trapezoid(24), tolerance=tolerance)(*subject, logsnr_range=RANGE) for form in ("auto", "orthogonal")
    )
    assert bool(auto.reached.all())
    for form in ("gap", "orthogonal", "auto"):
        assert float(auto.using(form).stderr.max()) <= 0.25
    assert bool((alone.curve.draws <= auto.curve.draws).all())
    assert int(alone.curve.draws.sum()) < int(auto.curve.draws.sum())


def test_records_of_uneven_draws(gaussian, tmp_path):
    denoiser, x, cond = some(gaussian, 12)
    estimator = MMG("auto", Trapezoid(12), antithetic=True, tolerance=Tolerance(0.25, most=6))
    whole = estimator(denoiser, x, cond, logsnr_range=RANGE, keep="pixel")
    assert not bool(whole.reached.all())
    assert "have not reached a standard error of 0.25 nats within 6 draws" in " ".join(whole.warnings())
    shards = [
        estimator(
            denoiser,
            x[part],
            {"y": cond["y"][part]},
            pair_ids=torch.arange(12)[part],
            logsnr_range=RANGE,
            keep="pixel",
        )
        for part in (slice(0, 2), slice(2, 12))
    ]
    back = Estimate.load(Estimate.merge(shards).save(tmp_path / "e.safetensors"))
    assert back.tolerance == Tolerance(0.25, most=6)
    torch.testing.assert_close(back.nats, whole.nats, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back.stderr, whole.stderr, rtol=1e-9, atol=1e-9)
    assert torch.equal(back.reached, whole.reached)
    table = back.to_pandas()
    assert table["draws"].tolist() == whole.curve.draws.tolist()
    assert table["reached"].tolist() == whole.reached.tolist()
    # What is read off a curve passes over draws that were not made.
    torch.testing.assert_close(back.pixel_map("gap")[0].sum(1), back.using("gap").nats, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(influence(back).nats[:, 0], back.nats)
    assert all(map(torch.isfinite, map(torch.tensor, (*back.boundary.low, *back.boundary.high, *back.certificate))))
    with pytest.raises(ValueError, match="different settings"):
        Estimate.merge([shards[0], MMG("auto", Trapezoid(12), antithetic=True)(denoiser, x, cond, logsnr_range=RANGE)])
    with pytest.raises(ValueError, match="without a tolerance"):
        _ = MMG("gap", Trapezoid(4))(denoiser, x, cond, logsnr_range=RANGE).reached


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Tolerance(0.0), ValueError, "stderr is 0.0"),
        (lambda: Tolerance(-1.0), ValueError, "expected a standard error in nats, above 0"),
        (lambda: Tolerance(float("nan")), ValueError, "stderr is nan"),
        (lambda: Tolerance(0.1, least=1), ValueError, "least is 1; expected at least 2"),
        (lambda: Tolerance(0.1, least=4, most=3), ValueError, "most is 3; expected at least 4"),
        (lambda: Tolerance(0.1, most=2.5), TypeError, "most is 2.5"),
        (lambda: MMG(draws=2, tolerance=Tolerance(0.1)), ValueError, "give one of them"),
    ],
)
def test_tolerances_that_make_no_sense(make, error, says):
    with pytest.raises(error, match=says):
        make()
