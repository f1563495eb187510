"""Marginals fitted to data: what they are, that nothing of them stays on the model, and whom they may not measure."""

import dataclasses
import json

import pytest
import torch

import mmg_diffusers
from mmg_diffusers import Candidates, Estimate, FitPlan, Fitted, Outcome, Sandwich
from mmg_diffusers.analysis import Filtered
from mmg_diffusers.arrays import TrainSettings
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.pairs import Plan
from mmg_diffusers.pipelines.fitting import ADAPTER, CONFIG
from mmg_diffusers.tuning import Encoded, LowRank, SoftPlan, TunePlan, soft_prompts
from mmg_diffusers.worlds.shapes import Shapes

PLAN = Plan(levels=4, seed=2)
# A coarse path rules prompts out that come back.
ALL = dataclasses.replace(PLAN, prune=0)
FEW = TrainSettings(
    steps=2, batch=4, lr=1e-3, objective="likelihood", weight_decay=0.0, warmup=1, average=0.5, check_every=1
)
BOTH = TunePlan(LowRank(2), settings=FEW)
QUICK = SoftPlan(3, steps=2, batch=4, check_every=1)


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(30, seed=41)


@pytest.fixture(scope="module")
def data(sample):
    return list(sample.images[:20]), sample.prompts[:20]


@pytest.fixture(scope="module")
def others(sample):
    return list(sample.images[20:26]), sample.prompts[20:26]


@pytest.fixture(scope="module")
def fitted(pipe, data):
    return pipe.fit(*data, progress=False)


def test_few_prompts_are_the_mixture_of_these(pipe, data, others, fitted):
    """Along the same path, with the prompts that data have as candidates: the true one apart, the same to rounding."""
    soft = fitted.parts[0].soft
    assert soft.texts == tuple(dict.fromkeys(data[1]))
    times = [data[1].count(text) / 20 for text in soft.texts]
    torch.testing.assert_close(soft.probability, torch.tensor(times, dtype=torch.float64))
    known = [k for k, prompt in enumerate(others[1]) if prompt in soft.texts]
    assert known
    images, prompts = [others[0][k] for k in known], [others[1][k] for k in known]
    ours = pipe(images, prompts, marginal=fitted, plan=ALL)
    theirs = pipe(images, prompts, marginal=Candidates(soft.texts, soft.probability.tolist()), plan=ALL)
    torch.testing.assert_close(ours.curve.gap, theirs.curve.gap, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.curve.orthogonal, theirs.curve.orthogonal, rtol=1e-4, atol=1e-3)
    assert "upper estimate" in " ".join(ours.warnings())
    assert "not among those" not in " ".join(ours.warnings())
    missing = len(others[1]) - len(known)
    assert missing
    said = " ".join(pipe(*others, marginal=fitted, plan=PLAN).warnings())
    assert f"{missing} of 6 prompts are not among those that the marginal was fitted to" in said
    assert ours.verdict.grade != "trust"
    assert ours.settings["base"] == "a mixture of fitted prompts"


@pytest.mark.parametrize(
    "plan",
    [FitPlan(QUICK), FitPlan(None, BOTH), FitPlan(QUICK, BOTH), FitPlan(SoftPlan(), BOTH)],
    ids=["soft", "null", "soft, both tuned", "prompts, both tuned"],
)
def test_nothing_of_it_stays_on_the_model(pipe, data, others, plan, tmp_path):
    others = [each[:2] for each in others]
    before, weights = pipe(*others, plan=PLAN), pipe.fingerprint()
    made = nudged(pipe.fit(*data, plan=plan, progress=False))
    made.save(tmp_path / "fitted")
    again = Fitted(tmp_path / "fitted")
    assert again.content == made.content
    assert again.record() == made.record()
    assert str(again) == str(made)
    first, second = (pipe(*others, marginal=one, plan=PLAN) for one in (made, again))
    assert isinstance(first, Estimate)
    assert torch.equal(first.nats, second.nats)
    assert float((first.nats - before.nats).abs().max()) > 1e-6
    assert pipe.fingerprint() == weights
    assert torch.equal(pipe(*others, plan=PLAN).curve.gap, before.curve.gap), "to the bit"
    assert not hasattr(pipe.pipe.unet, "peft_config")
    said = json.loads((tmp_path / "fitted" / CONFIG).read_text("utf-8"))
    assert said["model"]["weights"] == weights
    assert said["plan"] == plan.record()
    assert {path.name for path in (tmp_path / "fitted").iterdir()} == {ADAPTER, CONFIG}


def nudged(made):
    """As if additions had been tuned for longer than two steps, after which they may be those that change nothing."""
    parts = [
        part
        if part.tuned is None
        else dataclasses.replace(
            part,
            tuned=dataclasses.replace(part.tuned, weights={k: v + 0.01 for k, v in part.tuned.weights.items()}),
        )
        for part in made.parts
    ]
    return Fitted.of(parts, made.details)


def test_images_without_prompts_tune_the_null(pipe, data, others):
    plan = FitPlan(soft=None, branches=dataclasses.replace(BOTH, branches="marginal"))
    made = pipe.fit(data[0], plan=plan, progress=False)
    assert not made.soft
    assert pipe(*others, marginal=made, plan=PLAN).settings["base"] == "a null branch that was fitted"
    with pytest.raises(ValueError, match="soft prompts need prompts"):
        pipe.fit(data[0], plan=FitPlan(QUICK), progress=False)


def test_pairs_are_not_measured_by_what_they_were_fitted_to(pipe, data, others, fitted):
    with pytest.raises(ValueError, match=r"2 of 2 images are among the 20 that the marginal was fitted to.*folds=5"):
        pipe(data[0][:2], data[1][:2], marginal=fitted, plan=PLAN)
    crossed = pipe.fit(*data, folds=3, progress=False)
    few = dataclasses.replace(PLAN, levels=2)
    whole = pipe(data[0], data[1], marginal=crossed, plan=few)
    assert whole.pair_ids.tolist() == list(range(20))
    for k in (0, 7, 13):
        alone = pipe(data[0][k : k + 1], data[1][k : k + 1], marginal=crossed, plan=few, pair_ids=[k])
        torch.testing.assert_close(alone.nats, whole.nats[k : k + 1], rtol=1e-4, atol=1e-3)
    sizes = [len(part.rows) for part in crossed.parts]
    assert sorted(sizes) == [13, 13, 14]
    seen = torch.cat([part.rows for part in crossed.parts]).unique(return_counts=True)[1]
    assert seen.tolist() == [2] * 20, "each image is left out of one fold"
    # Of others any fold may tell, and it is the first.
    torch.testing.assert_close(
        pipe(*others, marginal=crossed, plan=few).nats,
        pipe(*others, marginal=Fitted.of(crossed.parts[:1], crossed.details), plan=few).nats,
    )


def test_everything_takes_it(pipe, others, fitted, tmp_path):
    others = [each[:3] for each in others]
    out = pipe(*others, marginal=fitted, plan=PLAN)
    run = pipe.run(
        [{"image": x, "prompt": y} for x, y in zip(*others, strict=True)],
        tmp_path / "run",
        marginal=fitted,
        plan=PLAN,
        progress=False,
    )
    torch.testing.assert_close(run.estimate.nats, out.nats, rtol=0, atol=1e-6)
    assert torch.equal(Outcome.load(tmp_path / "run").estimate.nats, run.estimate.nats)
    left = pipe.influence(*others, marginal=fitted, plan=PLAN)
    torch.testing.assert_close(left.nats[:, 0], out.nats, rtol=1e-3, atol=1e-3)
    nats, _ = pipe.pixel_map(*others, marginal=fitted, integrand="gap", plan=PLAN)
    torch.testing.assert_close(nats.sum((1, 2)), out.using("gap").nats, rtol=1e-3, atol=1e-3)
    stated = pipe(*others, marginal=fitted, entropy=0.5, plan=PLAN)
    assert float(stated.ceiling.mean()) == 0.5
    with pytest.raises(ValueError, match="Fitted has no posterior"):
        pipe.filter(*others, fitted, plan=PLAN)
    with pytest.raises(ValueError, match="given= belongs to the null prompt"):
        pipe(*others, given="a", marginal=fitted, plan=PLAN)


def test_it_is_of_one_model(pipe, others, fitted, tmp_path):
    details = {**fitted.details, "model": {**fitted.details["model"], "weights": "0" * 64}}
    with pytest.raises(ValueError, match="whose weights are not those of this model"):
        pipe(*others, marginal=Fitted.of(fitted.parts, details), plan=PLAN)
    with pytest.raises(FileNotFoundError, match="no fitted marginal"):
        Fitted(tmp_path)
    folder = fitted.save(tmp_path / "cut")
    (folder / ADAPTER).write_bytes((folder / ADAPTER).read_bytes()[:-50])
    with pytest.raises(ValueError, match="no complete fitted marginal"):
        Fitted(folder)


def test_a_soft_prompt_stands_for_its_prompts_data():
    """Two groups of prompts on exact Gaussians: each soft prompt ends where its images are, not where its prompts point."""
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    spread = 0.3

    class Exact(torch.nn.Module):
        """eps of N(m, spread^2) at the noisy variable, as epsilon prediction."""

        def forward(self, noisy, time, mean):
            a2 = alphas[time.long()].float()[:, None]
            return (1 - a2).sqrt() * (noisy - a2.sqrt() * mean) / (a2 * spread**2 + 1 - a2)

    denoiser = Adapted(Exact(), DiscreteVP.from_alphas(alphas, "epsilon"))
    means = torch.tensor([[-1.0, 0.0], [-0.9, 0.1], [1.0, 0.0], [0.9, 0.1]])
    which = torch.arange(2000) % 4
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    moved = torch.tensor([0.4, -0.3])
    encoded = Encoded(means[which] + moved + spread * noise, {"mean": means}, which)
    plan = SoftPlan(2, steps=300, batch=64, lr=0.05, check_every=100)
    split = encoded.split(0.2, 0)
    made = soft_prompts(denoiser, *split, list("abcd"), plan, denoiser.logsnr_range, progress=False)
    assert made.probability.tolist() == pytest.approx([0.5, 0.5])
    found = made.vectors["mean"][made.vectors["mean"][:, 0].argsort()]
    expected = torch.tensor([[-0.95, 0.05], [0.95, 0.05]]) + moved
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


@pytest.fixture(scope="module")
def sandwich(pipe, others, fitted):
    bound = pipe.filter(*others, list(dict.fromkeys([*fitted.parts[0].soft.texts, *others[1]])), plan=PLAN)
    return Sandwich(bound, pipe(*others, marginal=fitted, plan=PLAN))


def test_a_sandwich_has_the_bound_below_and_the_fitted_above(sandwich, tmp_path):
    assert sandwich.below == sandwich.bound.mean()
    read = {form: sandwich.fitted.using(form) for form in ("gap", "orthogonal")}
    above = max(read.values(), key=lambda one: one.mean().value)
    assert read["gap"].mean() != read["orthogonal"].mean()
    assert sandwich.above == above.mean()
    torch.testing.assert_close(sandwich.nats, (sandwich.bound.in_mean().nats + above.nats) / 2)
    low, high = sandwich.interval
    assert low == pytest.approx(sandwich.below.value - 2 * sandwich.below.stderr)
    assert high == pytest.approx(above.mean().value + 2 * above.mean().stderr)
    said = str(sandwich)
    assert "fails by chance alone" in said
    assert "fails where the conditional branch errs" in said
    again = mmg_diffusers.load(sandwich.save(tmp_path / "s.safetensors"))
    assert isinstance(again, Sandwich)
    assert str(again) == said
    assert list(again.to_pandas().columns) == ["pair", "nats", "stderr", "below", "above"]


def test_a_sandwich_whose_sides_cross_is_not_believed(sandwich):
    curve = sandwich.fitted.curve
    none = dataclasses.replace(curve, orthogonal=torch.zeros_like(curve.orthogonal), gap=torch.zeros_like(curve.gap))
    crossed = Sandwich(sandwich.bound, dataclasses.replace(sandwich.fitted, curve=none))
    high = dataclasses.replace(crossed.bound, evidence=sure(crossed.bound))
    crossed = Sandwich(high, crossed.fitted)
    assert crossed.verdict.grade == "don't"
    assert "cross" in " ".join(crossed.warnings())


def test_a_sandwich_is_no_better_than_its_upper_side(sandwich):
    """Gap a whole nat per unit of log-SNR above the orthogonal form: the certificate says that the branches are wrong."""
    curve = sandwich.fitted.curve
    torn = dataclasses.replace(sandwich.fitted, curve=dataclasses.replace(curve, gap=curve.orthogonal + 2.0))
    assert torn.verdict.grade == "don't"
    assert "certificate" in torn.verdict.about
    found = Sandwich(sandwich.bound, torn)
    assert found.width.value > 0
    assert found.verdict.grade == "don't"
    assert "certificate" in found.verdict.about


def sure(bound: Filtered):
    """Evidence that knows each true candidate."""
    score = bound.evidence.score.clone()
    index = bound.mixture.truth.view(-1, 1, 1, 1).expand(-1, score.shape[1], score.shape[2], 1)
    return dataclasses.replace(
        bound.evidence, score=score.scatter_add(3, index, torch.full(index.shape, 20.0).double())
    )
