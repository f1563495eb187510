"""Random numbers of pairs, and noise along a path."""

import torch

from mmg_diffusers import MMG
from mmg_diffusers.measure.draws import PairDraws, brownian_path
from mmg_diffusers.measure.proposals import gap_fitted
from mmg_diffusers.measure.quadrature import StratifiedUniform


def test_a_stream_does_not_depend_on_how_it_is_cut():
    whole = PairDraws(3, 5).normals(6, (7,))
    source = PairDraws(3, 5)
    assert torch.equal(torch.cat([source.normals(1, (7,)), source.normals(5, (7,))]), whole)
    assert not torch.equal(PairDraws(3, 6).normals(6, (7,)), whole)
    assert not torch.equal(PairDraws(4, 5).normals(6, (7,)), whole)
    assert torch.equal(PairDraws(3, 5).uniform(4), PairDraws(3, 5).uniform(9)[:4])


def test_pairs_are_independent_normals():
    draws = torch.stack([PairDraws(0, pair).normals(2, (50,), torch.float64) for pair in range(400)])
    flat = draws.flatten()
    n = len(flat)
    assert abs(float(flat.mean())) < 4 / n**0.5
    assert abs(float(flat.var()) - 1) < 4 * (2 / n) ** 0.5
    neighbours = (draws[1:] * draws[:-1]).mean()
    assert abs(float(neighbours)) < 4 / n**0.5


def test_a_brownian_path_is_standard_at_every_level_and_markov():
    levels = torch.tensor([-4.0, -3.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    sources = [PairDraws(0, pair) for pair in range(200)]
    steps = list(brownian_path(sources, levels, (100,), torch.float64))
    eps = torch.stack([step[0].flatten() for step in steps])
    innovation = torch.stack([step[1].flatten() for step in steps])
    s = levels[:-1].exp()
    # cov(W_s, W_t) = min(s, t)
    truth = torch.minimum(s[:, None], s[None]) / (s[:, None] * s[None]).sqrt()
    torch.testing.assert_close(torch.cov(eps), truth, rtol=0, atol=4 * 2**0.5 / 20000**0.5)
    # The next increment of W, standardised, is the innovation.
    w = eps * s.sqrt()[:, None]
    torch.testing.assert_close(w.diff(dim=0) / s.diff().sqrt()[:, None], innovation[:-1])


def test_every_draw_has_levels_and_noise_of_its_own():
    first, second = PairDraws(0, 1, 0), PairDraws(0, 1, 1)
    assert torch.equal(first.uniform(3), first.uniform(3))
    assert not torch.equal(first.uniform(3), second.uniform(3))
    assert not torch.equal(first.normals(1, (3,)), second.normals(1, (3,)))


def test_the_largest_seed_and_id_are_numbers_like_others(gaussian):
    most = 2**63 - 1
    denoiser, x, cond = gaussian
    x, cond = x[:3], {"y": cond["y"][:3]}
    ids = torch.tensor([0, most - 1, most])
    estimate = MMG("gap", StratifiedUniform(4))(denoiser, x, cond, seed=most, pair_ids=ids, logsnr_range=(-5.0, 5.0))
    assert estimate.curve.pair_ids.tolist() == ids.tolist()
    assert len(estimate.nats.unique()) == 3
    rule = gap_fitted(denoiser, x, cond, pilot_nodes=4, seed=most, logsnr_range=(-5.0, 5.0))
    same = gap_fitted(denoiser, x, cond, pilot_nodes=4, seed=most, logsnr_range=(-5.0, 5.0))
    assert rule == same != gap_fitted(denoiser, x, cond, pilot_nodes=4, seed=0, logsnr_range=(-5.0, 5.0))
    assert (
        len({tuple(PairDraws(*key).uniform(2).tolist()) for key in ((0, most), (most, 0), (most, most), (0, 0))}) == 4
    )
