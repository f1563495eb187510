"""Images that the model draws: from the noise of their place alone, with what must be said of them."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, HeunDiscreteScheduler, PNDMScheduler

from mmg_diffusers import Candidates
from mmg_diffusers.pipelines.drawing import Switching, draw, stream, switch_prompts
from mmg_diffusers.worlds.shapes import CAPTIONS

FIRST, SECOND = "a large red circle on the left", "a large blue circle on the right"


def test_an_image_does_not_depend_on_those_beside_it(pipe):
    both = draw(pipe, [FIRST, SECOND], steps=3, seed=1)
    one = draw(pipe, [FIRST], steps=3, seed=1)
    assert both.images.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(both.images[0], one.images[0], atol=1e-4)
    assert not np.allclose(both.images[0], draw(pipe, [FIRST], steps=3, seed=2).images[0], atol=1e-2)
    assert both.notes == ()


def test_guidance_is_warned_of(pipe):
    with pytest.warns(UserWarning, match="do not sample p"):
        guided = draw(pipe, [FIRST], steps=2, guidance=3.0)
    assert "guidance 3: they do not sample p(image | prompt)" in guided.notes[0]
    with pytest.raises(ValueError, match=r"guidance is 0\.5"):
        draw(pipe, [FIRST], guidance=0.5)
    with pytest.raises(ValueError, match="no prompts"):
        draw(pipe, [])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_switching_at_the_ends_is_one_prompt(pipe, guidance):
    with pytest.warns(UserWarning, match="guidance 2") if guidance > 1 else _nothing():
        found = switch_prompts(
            pipe, FIRST, SECOND, [0.0, 0.5, 1.0], count=2, steps=4, levels=4, seed=3, guidance=guidance
        )
    assert found.step.tolist() == [0, 2, 4]
    assert (found.tau.diff() < 0).all()
    assert float(found.tau[-1]) == 0.0
    with pytest.warns(UserWarning, match="guidance 2") if guidance > 1 else _nothing():
        alone = [draw(pipe, [prompt] * 2, steps=4, seed=3, guidance=guidance).images for prompt in (SECOND, FIRST)]
    np.testing.assert_allclose(found.images[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(found.images[-1], alone[1], atol=1e-5)
    assert all(not np.allclose(found.images[1], image, atol=1e-2) for image in alone)
    torch.testing.assert_close(found.posterior.sum(2), torch.ones(3, 2, dtype=torch.float64))
    assert found.candidates == (FIRST, SECOND)
    assert bool(found.notes) == (guidance > 1)


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_where_the_first_prompt_wins_half_of_the_time(pipe):
    convention = pipe.denoiser.convention
    levels = convention.at_tau(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    # Four images that follow the first prompt from the second, third, third and fourth time on.
    follows = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]).double()
    posterior = torch.stack([follows, 1 - follows], 2)
    found = Switching(("a", "b"), 0, 1, torch.arange(5), levels, posterior, np.zeros((5, 4, 8, 8, 3)), convention)
    share, stderr = found.share()
    assert share.tolist() == [0.0, 0.25, 0.75, 1.0, 1.0]
    assert stderr[1] == pytest.approx(0.25)
    assert found.share(1)[0].tolist() == [1.0, 0.75, 0.25, 0.0, 0.0]
    assert found.half().value == pytest.approx(float((levels[1] + levels[2]) / 2))
    assert found.half("tau").value == pytest.approx(float(convention.tau(levels[1:3].mean()[None])))
    assert 0 < found.half("tau").stderr < 0.25
    never = Switching(("a", "b"), 1, 0, torch.arange(5), levels, posterior, np.zeros((5, 4, 8, 8, 3)), convention)
    assert np.isnan(never.half("tau").value)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((FIRST, SECOND, [0.5, 1.2]), {}, r"tau is 1\.2; expected a share of the diffusion time"),
        ((FIRST, SECOND, []), {}, "no diffusion times"),
        ((FIRST, FIRST, [0.5]), {"candidates": Candidates(CAPTIONS)}, "expected two different ones"),
        ((FIRST, "a moon", [0.5]), {"candidates": Candidates(CAPTIONS)}, "'a moon' is not among the 48 candidates"),
        ((FIRST, SECOND, [0.5]), {"count": 0}, "count is 0"),
    ],
)
def test_bad_switches_are_refused(pipe, arguments, options, says):
    with pytest.raises(ValueError, match=says):
        switch_prompts(pipe, *arguments, **options)


@pytest.mark.parametrize("sampler", [PNDMScheduler, HeunDiscreteScheduler, DDIMScheduler])
def test_a_switch_counts_the_calls_of_the_sampler(pipe, sampler, monkeypatch):
    """PNDM makes six calls for five steps, Heun nine: tau = 0 follows the first prompt to the end, tau = 1 the second."""
    config = {**pipe.pipe.scheduler.config, **({"skip_prk_steps": True} if sampler is PNDMScheduler else {})}
    monkeypatch.setattr(pipe.pipe, "scheduler", sampler.from_config(config))
    found = switch_prompts(pipe, FIRST, SECOND, [1.0, 0.5, 0.0], count=2, steps=5, levels=2, seed=3)
    calls = {PNDMScheduler: 6, HeunDiscreteScheduler: 9, DDIMScheduler: 5}[sampler]
    assert found.step.tolist()[0] == 0
    assert found.step.tolist()[-1] == calls
    # The switch in the middle begins at the first call whose diffusion time is no longer above one half.
    scheduler = sampler.from_config(config)
    scheduler.set_timesteps(5)
    tau = found.convention.tau(found.convention.at_timestep(scheduler.timesteps))
    assert int(found.step[1]) == int((tau > 0.5).sum())
    assert float(found.tau[1]) == pytest.approx(float(tau[int(found.step[1])]))
    for at, prompt in ((0, SECOND), (-1, FIRST)):
        alone = draw(pipe, [prompt] * 2, steps=5, seed=3).images
        np.testing.assert_allclose(found.images[at], alone, atol=1e-5)


def test_seeds_of_63_bits_name_noise_of_their_own():
    def noise(seed, place=0):
        return torch.randn(4, generator=torch.Generator().manual_seed(stream(seed, place)))

    # Those that 32 bits tell apart are as they were.
    assert stream(3, 5) == 3 * 2**20 + 5
    seeds = [0, 2**12, 2**32, 2**44, 2**63 - 1]
    drawn = torch.stack([noise(seed, place) for seed in seeds for place in (0, 1)])
    assert len(drawn.unique(dim=0)) == len(drawn)
