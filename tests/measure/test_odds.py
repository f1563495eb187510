"""Two conditions at shared noise, against closed forms and against the loop over candidates."""

import torch

from mmg_diffusers.measure import NoisePath, Pairs, Trapezoid, measure_candidates
from mmg_diffusers.measure.odds import measure_odds

PATH = NoisePath(Trapezoid(121), draws=2, logsnr_range=(-9.0, 9.0))


def log_density(x, y, rho=(0.9, 0.5)):
    """log p(x | y) of two coordinates, each correlated with its own."""
    rho = torch.tensor(rho, dtype=torch.float64)
    variance = 1 - rho**2
    return (-((x - rho * y) ** 2) / (2 * variance) - (2 * torch.pi * variance).log() / 2).sum(1)


def test_odds_of_two_gaussians(gaussian):
    denoiser, x, cond = gaussian
    x, y, other = x[:40], cond["y"][:40], cond["y"][40:80]
    found = measure_odds(denoiser, Pairs.of(x), {"y": y}, {"y": other}, PATH, pixels=True)
    truth = log_density(x, y) - log_density(x, other)
    assert float(truth.abs().mean()) > 2
    # What a step of 0.15 leaves, and what the path does not see.
    error = found.score.sum(2).mean(1) - truth
    spread = float(error.std()) / 40**0.5
    assert abs(float(error.mean())) < 4 * spread + 0.02 * float(truth.abs().mean())
    assert float(torch.corrcoef(torch.stack([found.score.sum(2).mean(1), truth]))[0, 1]) > 0.995
    torch.testing.assert_close(found.maps.sum(2), found.score.sum(2))
    assert found.evaluations == 40 * 2 * 2 * 120
    # Exchanged, the sign changes and nothing else.
    turned = measure_odds(denoiser, Pairs.of(x), {"y": other}, {"y": y}, PATH)
    torch.testing.assert_close(turned.score, -found.score)


def test_the_same_noise_as_candidates_and_any_batch(mixture):
    denoiser, x, _ = mixture
    x, label = x[:6], torch.tensor([0, 1, 2])
    path = NoisePath(Trapezoid(13), draws=2, logsnr_range=(-4.0, 4.0))
    one, other = {"label": label[[0, 1, 2, 0, 1, 2]]}, {"label": label[[1, 2, 0, 2, 0, 1]]}
    found = measure_odds(denoiser, Pairs.of(x), one, other, path, seed=3)
    slots = torch.stack([one["label"], other["label"]], 1)
    scored = measure_candidates(denoiser, Pairs.of(x), {"label": label}, path, slots=slots, seed=3)
    torch.testing.assert_close(found.score, scored.score[..., 0] - scored.score[..., 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.logsnr, scored.logsnr)
    small = measure_odds(denoiser, Pairs.of(x), one, other, path, seed=3, batch_size=2)
    torch.testing.assert_close(small.score, found.score, atol=1e-5, rtol=1e-5)
