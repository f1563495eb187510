"""The most that a discrete condition can tell, and estimates that exceed it."""

import math

import pytest
import torch

from mmg_diffusers import MINDE, MMG, Estimate
from mmg_diffusers.denoisers.base import TwoDenoisers
from mmg_diffusers.denoisers.exact import GaussianReference, MixtureDenoiser
from mmg_diffusers.measure.ceiling import surprise_of_labels
from mmg_diffusers.measure.quadrature import Trapezoid

SPAN = (-8.0, 8.0)


@pytest.fixture(scope="module")
def labels():
    """Ten labels that x determines, so that I = ln 10: the denoiser, 200 pairs, and a null that is of another law."""
    means = 6 * torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser = MixtureDenoiser(torch.full((10,), 0.1), means, torch.full((10,), 0.05))
    label = torch.arange(200) % 10
    x = means[label] + 0.05**0.5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # A Gaussian of the same size: E|eps - e_null|^2 is larger than the mixture's own, so that I reads too high.
    wrong = TwoDenoisers(GaussianReference(float(x.square().mean() ** 0.5)), denoiser)
    return denoiser, wrong, x, {"label": label}


def test_the_exact_null_stays_below_and_a_false_one_is_said_first(labels):
    exact, wrong, x, cond = labels
    estimator = MMG("gap", Trapezoid(64))
    right = estimator(exact, x, cond, logsnr_range=SPAN, entropy=math.log(10))
    assert right.mean().value == pytest.approx(math.log(10), abs=4 * right.mean().stderr + 0.02)
    assert not any("most that y can hold" in said for said in right.warnings())
    false = estimator(wrong, x, cond, logsnr_range=SPAN, entropy=math.log(10))
    assert false.excess.value == pytest.approx(false.mean().value - math.log(10))
    assert false.excess.value > 5 * false.excess.stderr
    assert "2.303, the most that y can hold" in false.warnings()[0]
    assert estimator(wrong, x, cond, logsnr_range=SPAN).excess is None


def test_minde_takes_what_is_stated_of_y_too(labels):
    """At the levels of its own range, and in both of its forms; what is stated changes no number."""
    exact, wrong, x, cond = labels
    for sigma in (None, 1.0):
        minde = MINDE(sigma, Trapezoid(48))
        right, false = (minde(one, x, cond, entropy=math.log(10)) for one in (exact, wrong))
        assert right.mean().value == pytest.approx(math.log(10), abs=4 * right.mean().stderr + 0.05)
        assert not any("most that y can hold" in said for said in right.warnings())
        assert false.excess.value == pytest.approx(false.mean().value - math.log(10))
        assert "2.303, the most that y can hold" in false.warnings()[0]
        assert false.verdict.grade == "don't"
        unstated = minde(wrong, x, cond)
        assert unstated.excess is None
        assert torch.equal(unstated.nats, false.nats)
    with pytest.raises(ValueError, match="entropy is -1"):
        MINDE()(exact, x, cond, entropy=-1.0)


def test_the_error_is_of_the_difference_pair_by_pair(mixture):
    """Surprises that a pair's own nats follow leave nothing of the spread over pairs."""
    denoiser, x, cond = mixture
    first = MMG("gap", Trapezoid(12))(denoiser, x[:50], {"label": cond["label"][:50]}, logsnr_range=SPAN)
    above = MMG("gap", Trapezoid(12))(
        denoiser, x[:50], {"label": cond["label"][:50]}, logsnr_range=SPAN, entropy=(first.nats - 0.1).clamp(min=0)
    )
    kept = first.nats > 0.1
    expected = torch.where(kept, 0.1, first.nats)
    assert above.excess.value == pytest.approx(float(expected.mean()))
    assert above.excess.stderr == pytest.approx(float(expected.std() / 50**0.5))


def test_files_and_merging_keep_it(labels, tmp_path):
    _, wrong, x, cond = labels
    made = [
        MMG("gap", Trapezoid(8))(
            wrong,
            x[a:b],
            {"label": cond["label"][a:b]},
            pair_ids=torch.arange(a, b),
            logsnr_range=SPAN,
            entropy=entropy,
        )
        for a, b, entropy in ((0, 5, 1.0), (5, 9, 2.0), (9, 12, None))
    ]
    whole = Estimate.merge(made[:2])
    assert whole.ceiling.tolist() == [1.0] * 5 + [2.0] * 4
    assert Estimate.load(whole.save(tmp_path / "e.safetensors")).ceiling.tolist() == whole.ceiling.tolist()
    assert whole.using("orthogonal").ceiling is whole.ceiling
    with pytest.raises(ValueError, match="state it for all or for none"):
        Estimate.merge(made)


def test_labels_that_repeat_show_their_law():
    labels = ["a"] * 10 + ["b"] * 30
    found = surprise_of_labels(labels)
    assert float(found[0] - 1 / 80) == pytest.approx(math.log(4))
    assert float(found[-1] - 1 / 80) == pytest.approx(math.log(4 / 3))
    assert surprise_of_labels(["a", "b", "c", "a"]) is None
    assert surprise_of_labels(["a"] * 10) is None
    # Miller's correction: 2,000 samples of 5 draws a label estimate ln 8 without the plug-in's bias of -7/80.
    draws = torch.randint(8, (2000, 40), generator=torch.Generator().manual_seed(0))
    means = torch.tensor([float(surprise_of_labels(row).mean()) for row in draws.tolist()])
    assert float(means.mean()) == pytest.approx(math.log(8), abs=0.02)
