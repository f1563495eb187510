"""Words from a posterior that is known exactly: the Shapes world's own."""

import numpy as np
import pytest
import torch

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.words import (
    Decomposition,
    all_but,
    decompose,
    decompose_maps,
    isolate,
    only,
    pair_information,
    pair_surprise,
    parts_by_place,
    word_information,
)
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.pairs.marginals import Candidates, Negatives, NullPrompt
from mmg_diffusers.pairs.prompts import Masked, Word
from mmg_diffusers.worlds.shapes import CAPTIONS, WORDS, Shapes, caption_parts

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


def test_words_given_the_rest_of_the_prompt(world):
    _, posterior, truth = world
    found = decompose(posterior, truth, PARTS, "colour", "side", given=("size", "shape"))
    pair = pair_information(posterior, truth, PARTS)[("colour", "side")]
    parts = found.redundancy + found.unique_1 + found.unique_2 + found.synergy
    torch.testing.assert_close(parts, pair)
    # What one adds to the other is the same either way round.
    words = word_information(posterior, truth, PARTS)
    torch.testing.assert_close(found.interaction, found.unique_1 + found.redundancy - words["colour"])
    torch.testing.assert_close(found.interaction, found.unique_2 + found.redundancy - words["side"])
    assert set(pair_information(posterior, truth, PARTS)) == {
        ("size", "colour"),
        ("size", "shape"),
        ("size", "side"),
        ("colour", "shape"),
        ("colour", "side"),
        ("shape", "side"),
    }


def test_a_decomposition_in_numbers():
    """Two bits that are copies of each other, then two of which only the exclusive or is told (Finn and Lizier)."""
    bit = torch.tensor([np.log(2)])
    none = torch.zeros(1, dtype=torch.float64)
    copies = Decomposition.of((bit, bit), bit, bit, bit)
    assert [float(v) for v in (copies.redundancy, copies.synergy, copies.interaction)] == pytest.approx(
        [np.log(2), 0.0, np.log(2)]
    )
    either = Decomposition.of((bit, bit), none, none, bit)
    assert [float(v) for v in (either.redundancy, either.synergy, either.interaction)] == pytest.approx(
        [0.0, np.log(2), -np.log(2)]
    )
    # A word that misinforms, beside one that is right, is unique in what it takes away.
    wrong = Decomposition.of((bit, bit), -bit, bit, none)
    assert float(wrong.unique_1) == pytest.approx(-2 * np.log(2))


def test_maps_of_a_decomposition_add_up():
    generator = torch.Generator().manual_seed(0)
    both, one, two = (torch.randn(3, 4, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    surprise = (torch.full((3,), np.log(4)), torch.full((3,), np.log(3)))
    found = decompose_maps(surprise, both, one, two)
    torch.testing.assert_close(found.redundancy + found.unique_1 + found.unique_2 + found.synergy, both)
    torch.testing.assert_close(found.unique_1 + found.redundancy, both - two)
    torch.testing.assert_close(found.interaction, both - one - two)
    assert found.means()["synergy"].value == pytest.approx(float(found.synergy.flatten(1).sum(1).mean()))
    with pytest.raises(ValueError, match="differ in shape"):
        decompose_maps(surprise, both, one, two[:, :2])


def test_surprise_of_two_words():
    prompts = ["a large red circle on the left", "a small blue circle on the left"]
    first, second = pair_surprise(Candidates(CAPTIONS), prompts, Word(place=2), Word("circle"))
    assert first.tolist() == pytest.approx([np.log(4)] * 2)
    assert second.tolist() == pytest.approx([np.log(3)] * 2)
    some = Candidates(["a b", "a c", "d b"], prior=(0.5, 0.3, 0.2))
    first, second = pair_surprise(some, ["a c"], Word(place=0), Word("c"))
    assert (float(first), float(second)) == pytest.approx((-np.log(0.8), -np.log(0.3)))
    with pytest.raises(ValueError, match="'d c' is not among the 3"):
        pair_surprise(some, ["d c"], Word(place=0), Word("c"))


def test_parts_by_place():
    found = parts_by_place(CAPTIONS)
    assert list(found) == ["@1", "@2", "@3", "@6"]
    assert list(found.values()) == list(PARTS.values())
    with pytest.raises(ValueError, match="'a b' and 'a b c' have different numbers of words"):
        parts_by_place(["a b c", "a b"])
    with pytest.raises(ValueError, match="the same words"):
        parts_by_place(["a b", "a, b"])


def test_isolating_a_word():
    prompts = ["a large red circle on the left", "a small blue circle on the left"]
    masked = isolate([Word(place=2)], prompts, NullPrompt())
    assert masked.given == [Masked(prompts[0], "red", 0), Masked(prompts[1], "blue", 0)]
    assert masked.said == "masked"
    assert isolate([Word("circle")], prompts, NullPrompt(), by="thing").given == [
        "a large red thing on the left",
        "a small blue thing on the left",
    ]
    assert isolate([Word("circle")], prompts, NullPrompt(), by="").said == "left out"
    among = isolate([Word("circle"), Word(place=2)], prompts, Candidates(CAPTIONS))
    assert among.given is None
    assert among.marginal.groups == all_but(PARTS, "colour", "shape")
    sides = isolate([Word("circle")], prompts, Candidates(CAPTIONS, groups=PARTS["side"])).marginal.groups
    assert len(set(sides)) == 16
    for ask, says in (
        (lambda: isolate([Word("circle")], prompts, Negatives(1)), "cannot isolate a word"),
        (lambda: isolate([Word("circle")], prompts, Candidates(CAPTIONS), by="x"), "leave 'x' out"),
        (lambda: isolate([Word("left"), Word("on")], prompts, Candidates(CAPTIONS)), "say the same at @4"),
        (lambda: isolate([Word("green")], prompts, NullPrompt()), "no 'green' in the prompt"),
    ):
        with pytest.raises(ValueError, match=says):
            ask()
