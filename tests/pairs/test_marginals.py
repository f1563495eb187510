"""Candidates and negatives of each pair, against counts that are known."""

import math

import pytest
import torch

from mmg_diffusers.pairs import Candidates, Negatives

PROMPTS = [f"prompt {k}" for k in range(40)]


def lent(mixture, pair):
    """The prompts of a pair's candidates, without its own."""
    names = [mixture.names[k] for k in mixture.slots[pair].tolist()]
    return names[0], frozenset(names[1:])


def test_each_pair_draws_negatives_of_its_own_and_never_itself():
    mixture = Negatives(3).mixture(PROMPTS, torch.arange(40))
    # All prompts differ, so that a pair that lent to itself would have a prior of a half.
    assert torch.equal(mixture.prior, torch.full((40, 4), 0.25, dtype=torch.float64))
    drawn = [lent(mixture, pair) for pair in range(40)]
    assert [own for own, _ in drawn] == PROMPTS
    assert len({others for _, others in drawn}) >= 39
    # Every pair lends about as often as another: 120 draws of 40.
    often = [sum(name in others for _, others in drawn) for name in PROMPTS]
    assert sum(often) == 120
    assert max(often) <= 10
    assert mixture.ceiling == pytest.approx(math.log(4))


def test_negatives_are_named_by_the_seed_and_the_pair():
    one = Negatives(3).mixture(PROMPTS, torch.arange(40))
    assert torch.equal(Negatives(3).mixture(PROMPTS, torch.arange(40)).slots, one.slots)
    assert not torch.equal(Negatives(3, seed=1).mixture(PROMPTS, torch.arange(40)).slots, one.slots)
    assert not torch.equal(Negatives(3).mixture(PROMPTS, torch.arange(1, 41)).slots, one.slots)


def test_a_prior_within_its_group():
    among = Candidates(["a", "b", "c"], prior=[0.5, 0.3, 0.2], groups=["one", "one", "two"])
    mixture = among.mixture(["b", "c"], torch.arange(2))
    assert mixture.prior.tolist() == [pytest.approx([0.625, 0.375]), pytest.approx([1.0, 0.0])]
    assert mixture.ceiling == pytest.approx(-math.log(0.375) / 2)
