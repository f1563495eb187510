"""The Pairs world: its posterior by enumeration, what says the same, its swaps, its pictures by a reader that knows the renderer."""

import itertools
import math
import re

import numpy as np
import pytest

from mmg_diffusers.worlds.pairs import (
    CAPTIONS,
    PARTS,
    WORDS,
    PairFactors,
    Pairs,
    caption_index,
    caption_words,
    read_pairs,
    reworded,
    swapped,
)
from mmg_diffusers.worlds.pairs.render import NUISANCES, centres, render
from mmg_diffusers.worlds.pairs.world import RAMPS

WORLDS = {variant: Pairs(variant) for variant in ("soft", "hard")}


def parsed(caption):
    return re.findall(r"^a (\w+) (\w+) (right of|left of|above|below) a (\w+) (\w+)$", caption)[0]


def trapezoid(factor, middle, count, ramp):
    """The density of a factor on the circle whose word has its middle there, up to a constant; written anew."""
    off = abs((factor - middle + 0.5) % 1.0 - 0.5) * count
    return min(1.0, max(0.0, (0.5 + ramp / 2 - off) / ramp))


def by_hand(hue, shape, direction):
    """p(caption | picture) of one picture: all captions, the objects taken for the named ones in both ways."""
    middles = {
        **{word: k / 3 for k, word in enumerate(("red", "green", "blue"))},
        **{word: k / 4 for k, word in enumerate(("right of", "above", "left of", "below"))},
    }
    weights = []
    for caption in CAPTIONS:
        colour, noun, relation, other_colour, other_noun = parsed(caption)
        total = 0.0
        for first, second, way in ((0, 1, direction), (1, 0, (direction + 0.5) % 1)):
            if (WORDS["shape"][shape[first]], WORDS["shape"][shape[second]]) != (noun, other_noun):
                continue
            total += (
                trapezoid(hue[first], middles[colour], 3, RAMPS["colour"])
                * trapezoid(hue[second], middles[other_colour], 3, RAMPS["colour"])
                * trapezoid(way, middles[relation], 4, RAMPS["relation"])
            )
        weights.append(total)
    return np.array(weights) / sum(weights)


def test_captions():
    assert len(CAPTIONS) == len(set(CAPTIONS)) == 144
    assert CAPTIONS[0] == "a red circle right of a red circle"
    for index in (0, 17, 100, 143):
        words = [WORDS[kind][i] for kind, i in zip(PARTS, caption_words(index), strict=True)]
        assert tuple(words) == parsed(CAPTIONS[index])
    assert caption_index(caption_words(np.arange(144))).tolist() == list(range(144))


@pytest.mark.parametrize("variant", WORLDS)
def test_the_posterior_is_that_of_all_captions_by_hand(variant):
    world = WORLDS[variant]
    caption, factors = world.sample_factors(300, 5)
    found = world.posterior(factors)
    wanted = np.array([by_hand(factors.hue[k], factors.shape[k], factors.direction[k]) for k in range(300)])
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    chosen = found[np.arange(300), caption]
    np.testing.assert_allclose(world.pointwise(factors, caption), np.log(chosen * 144), atol=1e-12)
    if variant == "hard":
        np.testing.assert_allclose(chosen, 0.5, atol=1e-12)


def test_the_posterior_is_that_of_the_pictures_as_they_are_drawn():
    """By the sampler alone: among pictures that look alike, captions are as frequent as the posterior says."""
    world = WORLDS["soft"]
    caption, factors = world.sample_factors(300_000, 6)
    # Called in an order that the picture tells, as nothing in it tells which was named first.
    turn = factors.hue[:, 0] > factors.hue[:, 1]
    other = factors.turned()
    hue = np.where(turn[:, None], other.hue, factors.hue)
    shape = np.where(turn[:, None], other.shape, factors.shape)
    direction = np.where(turn, other.direction, factors.direction)
    alike = (hue[:, 0] > 0.12) & (hue[:, 0] < 0.26) & (abs(hue[:, 1] - 2 / 3) < 0.08)
    alike &= (shape == [0, 1]).all(1) & (direction > 0.05) & (direction < 0.22)
    count = int(alike.sum())
    assert count > 400
    frequent = np.bincount(caption[alike], minlength=144) / count
    told = world.posterior(PairFactors(hue[alike], shape[alike], direction[alike])).mean(0)
    assert np.abs(frequent - told).max() < 4 * 0.5 / count**0.5
    assert (told > 0.05).sum() == 8  # two colours, two relations, two orders
    assert (frequent[told == 0] == 0).all()


@pytest.mark.parametrize("variant", WORLDS)
def test_captions_that_say_the_same_are_as_likely_and_no_others(variant):
    every = np.arange(144)
    same = reworded(every)
    assert (reworded(same) == every).all()
    assert (same != every).all()
    assert CAPTIONS[same[CAPTIONS.index("a red circle above a blue triangle")]] == "a blue triangle below a red circle"
    _, factors = WORLDS[variant].sample_factors(200, 7)
    found = WORLDS[variant].posterior(factors)
    np.testing.assert_allclose(found, found[:, same], atol=1e-12)
    np.testing.assert_allclose(found, WORLDS[variant].posterior(factors.turned()), atol=1e-12)
    # Some picture tells any two others apart.
    _, many = WORLDS["hard"].sample_factors(4000, 8)
    columns = WORLDS["hard"].posterior(many).round(6)
    assert len(np.unique(columns, axis=1).T) == 72


@pytest.mark.parametrize("variant", WORLDS)
def test_the_information_in_closed_form_is_that_of_draws(variant):
    world = WORLDS[variant]
    caption, factors = world.sample_factors(20_000, 1)
    pointwise = world.pointwise(factors, caption)
    error = pointwise.std() / len(pointwise) ** 0.5
    assert abs(pointwise.mean() - world.mutual_information()) < 4 * error + 1e-9
    assert world.entropy() == pytest.approx(math.log(144))
    if variant == "hard":
        assert world.mutual_information() == pytest.approx(math.log(72))


def test_swaps():
    at = CAPTIONS.index
    start = np.array([at("a red circle above a blue triangle")])
    assert swapped(start, "attribute").tolist() == [at("a blue circle above a red triangle")]
    assert swapped(start, "noun").tolist() == [at("a red triangle above a blue circle")]
    assert swapped(start, "relation").tolist() == [at("a blue triangle above a red circle")]
    every = np.arange(144)
    for kind in ("attribute", "noun", "relation"):
        assert (swapped(swapped(every, kind), kind) == every).all()
    # Objects that change places around the relation are the relation turned into its opposite.
    words = caption_words(every)
    words[:, 2] = (words[:, 2] + 2) % 4
    assert (reworded(swapped(every, "relation")) == caption_index(words)).all()
    with pytest.raises(ValueError, match="no swap 'colour' of a caption; expected one of"):
        swapped(every, "colour")


def test_pictures_are_what_captions_say():
    sample = WORLDS["hard"].sample(400, 9)
    assert sample.images.shape == (400, 16, 16, 3)
    assert sample.images.dtype == np.float32
    assert sample.masks.sum(1).max() <= 1.0 + 1e-12  # no object hides another
    for image, masks, prompt in zip(sample.images, sample.masks, sample.prompts, strict=True):
        colour, _, relation, other, _ = parsed(prompt)
        grid = np.arange(16)
        (x, other_x), (y, other_y) = (
            [(mask * own).sum() / mask.sum() for mask in masks] for own in (grid[None, :], grid[:, None])
        )
        assert {"left of": x < other_x, "right of": x > other_x, "above": y < other_y, "below": y > other_y}[relation]
        for word, mask in ((colour, masks[0]), (other, masks[1])):
            assert image[mask > 0.99].mean(0).argmax() == ("red", "green", "blue").index(word)


@pytest.mark.parametrize("variant", WORLDS)
def test_factors_can_be_read_from_the_picture(variant):
    sample = WORLDS[variant].sample(400, 10)
    found, wanted = (WORLDS["soft"].posterior(own) for own in (read_pairs(sample.images), sample.factors))
    assert np.abs(found - wanted).max() < 0.05


def test_a_picture_does_not_tell_which_object_is_named_first():
    """The law of the pictures is the same with the objects in the other order: the same nuisances give the same picture."""
    rng = np.random.default_rng(3)
    hue, shape, direction = rng.random((50, 2)), rng.integers(0, 2, (50, 2)), rng.random(50)
    nuisance = rng.random((50, len(NUISANCES)))
    turned = nuisance.copy()
    for name in ("radius", "saturation", "value"):
        one, other = (NUISANCES.index(f"{name}_{which}") for which in (0, 1))
        turned[:, [one, other]] = nuisance[:, [other, one]]
    image, masks = render(hue, shape, direction, nuisance)
    again, others = render(hue[:, ::-1], shape[:, ::-1], (direction + 0.5) % 1, turned)
    np.testing.assert_allclose(image, again, atol=1e-6)
    np.testing.assert_allclose(masks, others[:, ::-1], atol=1e-9)


def test_no_object_leaves_the_picture():
    corners = np.array(list(itertools.product((0.0, 0.999), repeat=3)))
    nuisance = np.full((8 * 16, len(NUISANCES)), 0.5)
    nuisance[:, :3] = np.repeat(corners, 16, 0)
    direction = np.tile(np.arange(16) / 16, 8)
    x, y = centres(direction, nuisance)
    assert min(x.min(), y.min()) >= 4 - 1e-9
    assert max(x.max(), y.max()) <= 12 + 1e-9
    distance = np.hypot(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1])
    assert distance.min() >= 6.5 - 1e-9


def test_a_longer_draw_begins_alike_and_needs_no_pictures():
    few, many = WORLDS["soft"].sample(3, 4), WORLDS["soft"].sample(5, 4)
    assert np.array_equal(few.images, many.images[:3])
    caption, factors = WORLDS["soft"].sample_factors(3, 4)
    assert caption.tolist() == few.caption.tolist()
    assert np.array_equal(factors.hue, few.factors.hue)
    assert len(few) == len(factors) == 3
    assert len(factors[1:]) == 2


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="variant is 'sharp'; expected 'soft' or 'hard'"):
        Pairs("sharp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 16, 16, 3\)"):
        read_pairs(np.zeros((2, 32, 32, 3)))
    with pytest.raises(ValueError, match="divide 8-bit images by 255"):
        read_pairs(np.full((2, 16, 16, 3), 255.0))
