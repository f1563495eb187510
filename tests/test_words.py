"""Words from a posterior that is known exactly: the Shapes world's own."""

import numpy as np
import pytest
import torch

from mmg_diffusers.analysis import Classification
from mmg_diffusers.candidates import CandidateCurve
from mmg_diffusers.shapes import CAPTIONS, WORDS, Shapes, caption_parts
from mmg_diffusers.words import all_but, decompose, only, word_information

PARTS = caption_parts()


@pytest.fixture(scope="module")
def world():
    """An exact posterior of 4,000 pairs, dressed as a measurement."""
    shapes = Shapes("soft")
    caption, factors = shapes.sample_factors(4000, seed=3)
    prior = torch.full((48,), 1 / 48, dtype=torch.float64)
    evidence = torch.from_numpy(np.log(shapes.posterior(factors) + 1e-300)) - prior.log()
    curve = CandidateCurve(evidence[:, None, None], torch.tensor([-5.0, 3.0]).double(), torch.arange(4000), 0)
    return shapes, Classification(curve, CAPTIONS, prior), caption.tolist()


@pytest.mark.parametrize("kind", list(WORDS))
def test_words_given_the_rest(world, kind):
    shapes, posterior, truth = world
    nats = word_information(posterior, truth, PARTS)[kind]
    stderr = float(nats.std()) / len(nats) ** 0.5
    assert abs(float(nats.mean()) - shapes.conditional_information(kind)) < 4 * stderr + 1e-9
    assert stderr < 0.02


def test_a_chain_of_words_is_the_whole(world):
    _, posterior, truth = world
    rest = all_but(PARTS, "colour")
    total = posterior.within(truth, rest) + posterior.of_group(truth, rest)
    torch.testing.assert_close(total, posterior.pointwise(truth))
    everything = posterior.of_group(truth, only(PARTS, *PARTS))
    torch.testing.assert_close(everything, posterior.pointwise(truth))
    # A single group says nothing.
    assert float(posterior.of_group(truth, ["all"] * 48).abs().max()) < 1e-12


def test_independent_words_are_redundant_only_by_the_least_surprise(world):
    _, posterior, truth = world
    found = decompose(posterior, truth, PARTS, "colour", "shape")
    joint = posterior.of_group(truth, only(PARTS, "colour", "shape"))
    parts = found.redundancy + found.unique_1 + found.unique_2 + found.synergy
    torch.testing.assert_close(parts, joint)
    # Words drawn independently: their informations add up, so synergy equals redundancy.
    torch.testing.assert_close(found.synergy, found.redundancy, rtol=0, atol=1e-6)
    assert found.means()["redundancy"].value == pytest.approx(np.log(3), abs=0.05)


def test_bad_parts(world):
    _, posterior, truth = world
    with pytest.raises(ValueError, match="no part 'texture'"):
        all_but(PARTS, "texture")
    with pytest.raises(ValueError, match="'size' twice"):
        decompose(posterior, truth, PARTS, "size", "size")
    with pytest.raises(ValueError, match="2 groups for 48"):
        posterior.of_group(truth, [1, 2])
