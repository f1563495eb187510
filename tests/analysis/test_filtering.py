"""The posterior filter on a mixture whose posterior is known at every level, and on the shipped model."""

import pytest
import torch

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.reliability import Reliability
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pairs.marginals import Candidates, Negatives
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes


def filtered(mixture, count=600, levels=150, draws=1, prune=0.0):
    denoiser, x, cond = mixture
    truth = cond["label"][:count]
    curve = measure_candidates(
        denoiser,
        Pairs.of(x[:count]),
        {"label": torch.arange(3)},
        NoisePath(Trapezoid(levels), draws, prune, (-8.0, 8.0)),
        truth=truth,
        prior=denoiser.log_weights.exp(),
    )
    slots, prior = torch.arange(3).expand(count, -1), denoiser.log_weights.exp().expand(count, -1)
    return Filtered(curve, Mixture(("one", "two", "three"), slots, prior, truth))


def test_three_readings_agree_level_by_level(mixture):
    found = filtered(mixture)
    log_q, entropy, gap = found.by_level[:, :-1], found.entropy_by_level[:, :-1], found.integrated_by_level("gap")
    orthogonal = found.integrated_by_level("orthogonal")
    for level in range(10, 149, 15):
        for other in (entropy, gap, orthogonal):
            difference = log_q[:, level] - other[:, level]
            stderr = float(difference.std()) / len(difference) ** 0.5
            assert abs(float(difference.mean())) < 3 * stderr + 0.01
            assert stderr < 0.08
    assert float(log_q[:, -1].mean()) > 0.3


def test_the_mixture_is_the_marginal(mixture):
    """Along the path the posterior is p(label | z), so the mixture of predictions is the exact marginal prediction."""
    denoiser, x, _ = mixture
    found = filtered(mixture, count=100, levels=300)
    from mmg_diffusers.denoisers.levels import add_noise
    from mmg_diffusers.measure.draws import PairDraws, brownian_path

    path = brownian_path([PairDraws(0, i) for i in range(100)], found.logsnr, (2,), torch.float64)
    for level, (eps, _) in enumerate(path):
        if level % 60 == 30:
            logsnr = found.logsnr[level].expand(100)
            z = add_noise(x[:100], logsnr, eps)
            exact = denoiser.log_posterior(z, logsnr).exp()
            assert float((found.log_posterior[:, 0, level].exp() - exact).square().mean().sqrt()) < 0.05
            label = {"label": found.mixture.truth}
            gap = (eps - denoiser(z, logsnr)).square().sum(1) - (eps - denoiser(z, logsnr, label)).square().sum(1)
            mine = found.against_mixture.curve.gap[:, 0, level]
            assert float((mine - gap).square().mean().sqrt()) < 0.1 * float(gap.std()) + 0.01


def test_the_clean_end_decays(mixture):
    denoiser, x, cond = mixture
    far = type(denoiser)(denoiser.log_weights.exp(), 4 * denoiser.means, denoiser.variances)
    found = filtered((far, x + 3 * denoiser.means[cond["label"]], cond), count=200)
    curve = found.against_mixture.curve.orthogonal.mean((0, 1))
    assert float(curve[-1]) < 0.01 * float(curve.max())
    assert found.settled < 6
    assert found.mean().value < found.mixture.ceiling


def test_influence_is_what_is_left(mixture):
    found = filtered(mixture, count=50, levels=40, draws=2)
    over = found.influence()
    torch.testing.assert_close(over.nats[:, 0], found.nats)
    assert torch.equal(over.nats[:, -1], torch.zeros(50, dtype=torch.float64))
    torch.testing.assert_close(over.stderr[:, 0], found.stderr)
    assert float(found.stderr.max()) > 0


def test_round_trip_and_merge(mixture, tmp_path):
    found = filtered(mixture, count=20, levels=8)
    back = Filtered.load(found.save(tmp_path / "filter.safetensors"))
    assert torch.equal(back.nats, found.nats)
    assert torch.equal(back.steadied_by_level, found.steadied_by_level)
    assert back.truth == found.truth
    assert (back.settings, back.versions, back.notes) == (found.settings, found.versions, found.notes)
    assert torch.equal(back.against_mixture.using("gap").nats, found.against_mixture.using("gap").nats)
    assert back.evaluations == found.evaluations
    torch.testing.assert_close(back.classification.pointwise(found.truth), found.nats)
    assert found.to_pandas()["nats"].tolist() == found.nats.tolist()
    other = CandidateCurve.load(found.evidence.save(tmp_path / "evidence.safetensors"))
    assert torch.equal(other.score, found.evidence.score)
    for path, says in ((tmp_path / "evidence.safetensors", "format"), (tmp_path / "short", "no complete filter")):
        path.write_bytes((tmp_path / "evidence.safetensors").read_bytes() if "evidence" in path.name else b"123")
        with pytest.raises(ValueError, match=says):
            Filtered.load(path)
    with pytest.raises(FileNotFoundError, match="no filter at"):
        Filtered.load(tmp_path / "absent")
    with pytest.raises(ValueError, match="more than one shard"):
        Filtered.merge([found, back])
    with pytest.raises(ValueError, match="along different levels"):
        Filtered.merge([found, filtered(mixture, count=20, levels=9)])


def test_an_unfinished_or_bold_posterior_is_warned_of(mixture):
    denoiser, x, cond = mixture
    far = type(denoiser)(denoiser.log_weights.exp(), denoiser.means, denoiser.variances / 50)
    assert filtered(mixture, levels=40).warnings() == ()
    bold = filtered((far, x, cond), count=300, levels=60)
    # As it stands it is far from calibrated; by what other pairs vouch for it is not.
    as_it_stands = Reliability.of(bold.log_posterior[:, :, -1], bold.mixture.truth)
    assert "more than it is right about" in as_it_stands.finding(bold.mixture.ceiling)
    assert "calibration" not in bold.verdict.about
    assert float(bold.trust[:, 1:].max()) < 0.3
    assert bold.mean().value > float(bold.nats.mean()) + 10 * bold.mean().stderr
    assert bold.mean().value < bold.mixture.ceiling
    curve = measure_candidates(
        denoiser,
        Pairs.of(x[:50]),
        {"label": torch.arange(3)},
        NoisePath(Trapezoid(8), logsnr_range=(-8.0, 0.0)),
        truth=cond["label"][:50],
    )
    prior = torch.full((50, 3), 1 / 3, dtype=torch.float64)
    short = Filtered(curve, Mixture(("one", "two", "three"), torch.arange(3).expand(50, -1), prior, cond["label"][:50]))
    assert any("still moves at the end of the path, log-SNR 0.00" in text for text in short.warnings())


def test_a_bound_over_noise_alone_is_taken_with_caution(mixture):
    """A path that ends where hardly anything is told yet has a bound that holds, and says nothing."""
    denoiser, x, cond = mixture
    truth = cond["label"][:300]

    def over(low, high):
        path = NoisePath(Trapezoid(24), logsnr_range=(low, high))
        curve = measure_candidates(denoiser, Pairs.of(x[:300]), {"label": torch.arange(3)}, path, truth=truth)
        prior = torch.full((300, 3), 1 / 3, dtype=torch.float64)
        return Filtered(curve, Mixture(("one", "two", "three"), torch.arange(3).expand(300, -1), prior, truth))

    noisy, whole = over(-8.0, -5.0), over(-8.0, 6.0)
    assert noisy.mean().value < 0.1
    assert any("more noise than picture, where the posterior has told" in text for text in noisy.warnings())
    assert noisy.verdict.grade != "trust"
    assert not any("more noise than picture" in text for text in whole.warnings())


def test_the_step_error_vanishes_for_small_steps_of_any_network(mixture):
    denoiser, x, cond = mixture
    # Means twice as far apart as they are: a network that is wrong, and bold.
    wrong = type(denoiser)(denoiser.log_weights.exp(), 2 * denoiser.means, denoiser.variances)
    for network in (denoiser, wrong):
        fine = filtered((network, x, cond), levels=300)
        assert abs(fine.step_error.value) < 0.05
        assert fine.step_error.stderr < 0.02
        # The gap itself agrees with the steadied one in expectation, with several times its noise.
        difference = fine.integrated_by_level("gap")[:, -1] - fine.steadied_by_level[:, -1]
        stderr = float(difference.std()) / len(difference) ** 0.5
        assert abs(float(difference.mean())) < 3 * stderr
        assert stderr > 3 * fine.step_error.stderr
    assert float(fine.entropy_by_level[:, -1].mean() - fine.nats.mean()) > 1
    coarse = filtered((wrong, x, cond), levels=15)
    assert coarse.step_error.value > 0.5
    assert coarse.step_error.value > 6 * coarse.step_error.stderr
    assert any("the 14 steps of the path are too large" in text for text in coarse.warnings())
    assert not any("too large" in text for text in fine.warnings())


def test_pruning_is_bookkept(mixture):
    denoiser, x, cond = mixture
    far = type(denoiser)(denoiser.log_weights.exp(), 4 * denoiser.means, denoiser.variances)
    apart = (far, x + 3 * denoiser.means[cond["label"]], cond)
    whole, pruned = filtered(apart, count=200), filtered(apart, count=200, prune=1e-5)
    assert pruned.evaluations < 0.8 * whole.evaluations
    assert abs(pruned.mean().value - whole.mean().value) < 1e-3
    for form in ("gap", "orthogonal"):
        difference = pruned.against_mixture.using(form).mean().value - whole.against_mixture.using(form).mean().value
        assert abs(difference) < 1e-3


def test_the_shipped_model_against_its_candidates(pipe):
    sample = Shapes("soft").sample(6, seed=31)
    candidates = [*dict.fromkeys(sample.prompts), *[c for c in CAPTIONS if c not in sample.prompts][:4]]
    found = pipe.filter(
        list(sample.images), sample.prompts, candidates, levels=10, keep="pixel", logsnr_range=(-5.36, 3.0)
    )
    compared = found.against_mixture
    torch.testing.assert_close(compared.pixel_map()[0].flatten(1).sum(1), compared.using("orthogonal").nats)
    assert found.mean().value < found.mixture.ceiling
    same = pipe.classify(list(sample.images), candidates, levels=10, logsnr_range=(-5.36, 3.0))
    torch.testing.assert_close(found.nats, same.pointwise(sample.prompts), rtol=1e-6, atol=1e-6)


def test_slots_are_candidates_of_ones_own(mixture):
    """A variable that is compared with two of three candidates gets what a comparison of the two alone gives."""
    denoiser, x, cond = mixture
    truth = cond["label"][:30]
    path = NoisePath(Trapezoid(20), logsnr_range=(-8.0, 8.0))
    every = {"label": torch.arange(3)}
    others = torch.where(truth == 0, 1, 0)
    slots = torch.stack([others, truth], 1)
    two = measure_candidates(denoiser, Pairs.of(x[:30]), every, path, slots=slots, truth=torch.ones(30).long())
    padded = torch.cat([slots, torch.zeros(30, 2).long()], 1)
    prior = torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(30, -1)
    wide = measure_candidates(
        denoiser, Pairs.of(x[:30]), every, path, slots=padded, truth=torch.ones(30).long(), prior=prior
    )
    torch.testing.assert_close(wide.score[..., :2], two.score)
    torch.testing.assert_close(wide.mixture.gap, two.mixture.gap)
    assert wide.evaluations == two.evaluations == 30 * 19 * 2
    three = measure_candidates(denoiser, Pairs.of(x[:30]), every, path)
    torch.testing.assert_close(two.score[:, :, :, 1], three.score[torch.arange(30), :, :, truth])


def test_groups_and_negatives_choose_the_candidates():
    grouped = Candidates(("a b", "a c", "d c"), groups=("a", "a", "d"), prior=(0.5, 0.25, 0.25))
    found = grouped.mixture(["a c", "d c", "a b"], torch.arange(3))
    assert found.slots[0].tolist() == [0, 1]
    torch.testing.assert_close(found.prior[0], torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
    assert found.prior[1].tolist() == [1.0, 0.0]
    assert found.truth.tolist() == [1, 0, 0]
    prompts = ["one", "two", "one", "three"]
    negatives = Negatives(3).mixture(prompts, torch.arange(4))
    # All other pairs lend theirs: the prompt that occurs twice counts twice.
    assert [negatives.names[k] for k in negatives.slots[:, 0]] == prompts
    torch.testing.assert_close(negatives.prior[:, 0], torch.tensor([0.5, 0.25, 0.5, 0.25], dtype=torch.float64))
    torch.testing.assert_close(negatives.prior.sum(1), torch.ones(4, dtype=torch.float64))
    one = Negatives(1, seed=3).mixture(prompts, torch.tensor([7, 2, 9, 4]))
    assert torch.equal(one.slots, Negatives(1, seed=3).mixture(prompts, torch.tensor([7, 2, 9, 4])).slots)


def test_one_argument_chooses_the_marginal(pipe):
    sample = Shapes("soft").sample(5, seed=32)
    images, options = list(sample.images), {"levels": 6, "logsnr_range": (-5.36, 3.0), "seed": 1}
    some = Candidates([*dict.fromkeys(sample.prompts), "a small blue square on the right"])
    filtered = pipe.filter(images, sample.prompts, some, keep="pixel", **options)
    against = pipe(images, sample.prompts, marginal=some, integrand="gap", **options)
    assert torch.equal(against.nats, filtered.against_mixture.using("gap").nats)
    over = pipe.influence(images, sample.prompts, marginal=some, **options)
    assert torch.equal(over.nats[:, 0], filtered.nats)
    nats, stderr = pipe.pixel_map(images, sample.prompts, marginal=some, **options)
    assert nats.shape == stderr.shape == (5, 32, 32)
    torch.testing.assert_close(nats.sum((1, 2)), filtered.against_mixture.using("orthogonal").nats)
    null = pipe.influence(images, sample.prompts, **options)
    torch.testing.assert_close(null.nats[:, 0], pipe(images, sample.prompts, **options).nats)
    sampled = pipe.filter(images, sample.prompts, Negatives(2), **options)
    assert sampled.mean().value <= sampled.mixture.ceiling <= torch.tensor(3.0).log() + 1e-9
    assert any("cannot exceed ln 3 = 1.099" in note for note in sampled.against_mixture.warnings())
