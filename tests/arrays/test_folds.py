"""Cross-fitting: every pair is measured once, by a network that did not see it."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays import folds as folds_module
from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.folds import FOLDS, Asked, fit_members, joined
from mmg_diffusers.arrays.rows import Rows, examine
from mmg_diffusers.worlds.tasks.everyday import Fold

QUICK = FitSettings(steps=60, pilot=30, batch=64)


def bent(count, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1))
    return x, np.abs(x) + noise * rng.standard_normal((count, 1))


def test_every_pair_is_measured_by_a_network_that_did_not_see_it(monkeypatch):
    x, y = bent(600)
    pieces, measured = [], []
    members, measure = fit_members, FittedModel.estimate
    monkeypatch.setattr(
        folds_module,
        "fit_members",
        lambda parts, *rest, **options: pieces.extend(parts) or members(parts, *rest, **options),
    )
    monkeypatch.setattr(
        FittedModel,
        "estimate",
        lambda model, data, **options: measured.append(data["x"]) or measure(model, data, **options),
    )
    found = estimate_mi(x, y, folds=3, settings=QUICK)
    assert (len(pieces), len(measured), len(found)) == (3, 3, 600)
    everything = set(x[:, 0])
    for (train, held), own in zip(pieces, measured, strict=True):
        parts = [set(values[:, 0]) for values in (train["x"], held["x"], own)]
        assert sum(map(len, parts)) == 600
        assert set.union(*parts) == everything
    assert set(np.concatenate(measured)[:, 0]) == everything
    assert found.settings[FOLDS] == 3


def test_members_are_trained_on_their_own_part():
    """Side by side, in rounds that are theirs together; what they measure of other pairs differs, and both have learnt."""
    parts = []
    for seed in range(2):
        x, y = bent(400, seed)
        data = {"x": x, "y": y}
        parts.append(
            tuple({name: values[rows] for name, values in data.items()} for rows in (slice(300), slice(300, None)))
        )
    both = fit_members(parts, Asked(width=16), FitSettings(steps=240, pilot=240, batch=64))
    assert [model.diffused for model in both] == ["y", "y"]
    assert [model.network.members for model in both] == [1, 1]
    assert not torch.equal(both[0].network.covariance, both[1].network.covariance)
    assert both[0].fitted.rounds == both[1].fitted.rounds
    assert both[0].fitted.network is both[0].network
    x, y = bent(500, 7)
    one, two = (model.estimate({"x": x, "y": y}) for model in both)
    assert abs(one.mean().value - two.mean().value) > 1e-4
    assert min(one.mean().value, two.mean().value) > 0.05


def test_parts_that_keep_other_columns_are_fitted_alone():
    x, y = bent(400)
    other = np.hstack([x, x])  # a copy, which is left out
    apart = np.hstack([x, np.random.default_rng(1).standard_normal((400, 1))])
    parts = [({"x": v[:300], "y": y[:300]}, {"x": v[300:], "y": y[300:]}) for v in (other, apart)]
    sizes = [model.preprocessing.sizes["x"] for model in fit_members(parts, Asked(width=8), QUICK)]
    assert sizes == [1, 2]


def test_folds_keep_blocks_whole_and_are_of_a_size():
    rng = np.random.default_rng(0)
    for blocks in (None, rng.integers(90, size=1000), np.arange(1000) // 200):
        rows = Rows() if blocks is None else examine({"x": rng.standard_normal((1000, 1))}, blocks)
        parts = rows.folds(1000, 5, rng)
        assert sorted(np.concatenate([own for own, _ in parts])) == list(range(1000))
        for own, others in parts:
            assert sorted([*own, *others]) == list(range(1000))
            assert 150 <= len(own) <= 250
            assert blocks is None or not set(blocks[own]) & set(blocks[others])
    with pytest.raises(ValueError, match="folds is 6 for 5 blocks"):
        rows.folds(1000, 6, rng)


def test_folds_that_disagree_have_a_larger_error():
    x, y = bent(400)
    data = {"x": x, "y": y}
    (model,) = fit_members([({"x": x, "y": y}, {"x": x[:50], "y": y[:50]})], Asked(width=8), QUICK)
    estimates = [model.estimate({n: v[k::4] for n, v in data.items()}, seed=k) for k in range(4)]
    whole, more = joined(estimates)
    assert len(whole) == 400
    assert whole.mean().value == pytest.approx(np.mean([e.mean().value for e in estimates]), abs=0.03)
    # Pairs of one network scatter as pairs do; half of them from another one by as much as that is wrong.
    assert more[FOLDS] < 3 * whole.mean().stderr
    wrong = model.estimate({"x": x[::4], "y": np.roll(y[::4], 1, axis=0)})
    _, most = joined([*estimates[1:], wrong])
    means = [e.mean().value for e in (*estimates[1:], wrong)]
    assert math.hypot(most[FOLDS], joined([*estimates[1:], wrong])[0].mean().stderr) == pytest.approx(
        np.std(means, ddof=1) / 2
    )


def test_few_pairs_are_cut_into_folds_by_default():
    x, y = bent(500)
    found = estimate_mi(x, y, settings=QUICK)
    assert (found.settings[FOLDS], len(found)) == (5, 500)
    assert found.settings["width"] == 32
    alone = estimate_mi(x, y, test_share=0.4, settings=QUICK)
    assert (alone.settings.get(FOLDS), len(alone)) == (None, 200)
    # Four blocks make four folds.
    assert estimate_mi(x, y, blocks=np.arange(500) % 4, settings=QUICK).settings[FOLDS] == 4
    assert torch.equal(found.nats, estimate_mi(x, y, settings=QUICK).nats)


def test_folds_see_what_has_to_be_learnt():
    """600 pairs of an even function, of which the Gaussian part holds nothing."""
    truth = Fold(1, 0.3).mi_nats
    value, stderr = estimate_mi(*bent(600, 3), settings=FitSettings(steps=420, pilot=140, batch=128)).mean()
    assert abs(value - truth) < 3 * stderr
    assert 6 * stderr < truth
