"""The Shapes world: its truths by independent routes, its pictures by a reader that knows the renderer."""

import itertools
import math

import numpy as np
import pytest

from mmg_diffusers.worlds.shapes import CAPTIONS, WORDS, Shapes, caption_words, read_images
from mmg_diffusers.worlds.shapes.render import NUISANCES, render
from mmg_diffusers.worlds.shapes.world import RAMPS

RNG = np.random.default_rng(0)
UNEVEN = tuple((lambda p: p / p.sum())(RNG.random(48) + 0.2))
# Nearly all captions are of a large object on the right, whose factors are therefore seldom on a ramp.
STEEP = tuple((lambda p: p / p.sum())(np.where((caption_words(np.arange(48))[:, [0, 3]] == 1).all(1), 40.0, 1.0)))
WORLDS = [Shapes("soft"), Shapes("hard"), Shapes("soft", UNEVEN), Shapes("hard", UNEVEN), Shapes("soft", STEEP)]
IDS = ["soft", "hard", "soft-uneven", "hard-uneven", "soft-steep"]


def test_captions():
    assert len(CAPTIONS) == len(set(CAPTIONS)) == 48
    assert CAPTIONS[0] == "a small red circle on the left"
    assert caption_words(47).tolist() == [1, 3, 2, 1]


@pytest.mark.parametrize("world", WORLDS, ids=IDS)
def test_truth_by_quadrature_agrees_with_monte_carlo(world):
    caption, factors = world.sample_factors(20_000, seed=1)
    pointwise = world.pointwise(factors, caption)
    stderr = pointwise.std() / len(pointwise) ** 0.5
    assert abs(pointwise.mean() - world.mutual_information()) < 4 * stderr + 1e-9
    if world.variant == "hard":
        assert world.mutual_information() == pytest.approx(world.entropy())
    else:
        assert world.mutual_information() < world.entropy() - 0.3


def test_the_quadrature_has_the_law_of_the_prior():
    """The mean of p(caption | factors) over the law of the factors is p(caption), for any prior."""
    for world in (Shapes("soft", STEEP), Shapes("soft", UNEVEN), Shapes("hard", STEEP)):
        factors, density = world._grid()
        assert density.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(density @ world.posterior(factors), world.caption_probability, rtol=1e-9)


def test_colours_are_what_their_words_say():
    """Not only what the reader, which undoes the same map, takes them for."""
    middle = np.full((4, len(NUISANCES)), 0.5)
    half = np.full(4, 0.5)
    images, mask, _ = render(np.array([0.0, 0.25, 0.5, 0.75]), half, half, np.zeros(4, dtype=int), middle)
    colours = np.array([image[inside > 0.99].mean(0) for image, inside in zip(images, mask, strict=True)])
    bright = colours > 0.5
    assert WORDS["colour"] == ("red", "yellow", "green", "blue")
    assert bright.tolist() == [[True, False, False], [True, True, False], [False, True, False], [False, False, True]]
    # Yellow is as red as it is green, and no word's colour has a trace of another's.
    np.testing.assert_allclose(colours[1, 0], colours[1, 1], atol=1e-6)
    np.testing.assert_allclose(colours.min(1), colours.max(1) * 0.1, atol=1e-6)
    assert np.ptp(colours[~bright]) < 1e-6


def test_truth_in_closed_form():
    """On a linear ramp the lesser word's probability is uniform on [0, 1], whose mean entropy is 1/2 nat."""
    world = Shapes("soft")
    for word, choices in WORDS.items():
        ramps = {"size": 0.5, "side": 0.5, "colour": 1.0, "shape": 0.0}[word] * RAMPS[word]
        assert world.conditional_information(word) == pytest.approx(math.log(len(choices)) - ramps / 2, abs=1e-4)
    total = sum(world.conditional_information(word) for word in WORDS)
    assert world.mutual_information() == pytest.approx(total)


def test_conditional_information_agrees_with_counting():
    """I(image; colour | rest) of the uneven world, by a plug-in estimate over bins of the factors."""
    world = Shapes("soft", UNEVEN)
    caption, factors = world.sample_factors(400_000, seed=2)
    words = caption_words(caption)
    bins = np.floor(factors.hue * 64).astype(int)
    # Given the rest, only the hue informs about the colour. Sum over the 12 rests, each with its bias corrected.
    total = 0.0
    for rest in itertools.product(range(2), range(3), range(2)):
        chosen = (words[:, [0, 2, 3]] == rest).all(1)
        table = np.zeros((4, 64))
        np.add.at(table, (words[chosen, 1], bins[chosen]), 1)
        n = table.sum()
        joint = table / n
        outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        plug_in = (joint[seen] * np.log(joint[seen] / outer[seen])).sum()
        bias = (seen.sum() - (joint.sum(0) > 0).sum() - (joint.sum(1) > 0).sum() + 1) / (2 * n)
        total += n / len(caption) * (plug_in - bias)
    assert total == pytest.approx(world.conditional_information("colour"), abs=0.01)


@pytest.mark.parametrize("world", WORLDS[:3:2], ids=IDS[:3:2])
def test_captions_given_factors_have_the_stated_probabilities(world):
    """The posterior is calibrated: among pairs to which it gives a chance p, a share p has the caption."""
    caption, factors = world.sample_factors(60_000, seed=3)
    posterior = world.posterior(factors)
    assert posterior.sum(1) == pytest.approx(np.ones(len(caption)))
    drawn = np.eye(48)[caption]
    for low, high in itertools.pairwise((0.0, 1e-9, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01)):
        chosen = (posterior >= low) & (posterior < high)
        p = posterior[chosen]
        assert abs(drawn[chosen].sum() - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum()) + 1e-6
    assert np.bincount(caption, minlength=48) / len(caption) == pytest.approx(
        world.caption_probability, abs=4.5 * (0.03 / len(caption)) ** 0.5 + 1e-3
    )


def test_the_image_determines_the_factors():
    """Pixels alone give back the factors, so that p(y | image) = p(y | factors)."""
    world = Shapes("soft")
    sample = world.sample(600, seed=4)
    reading = read_images(sample.images)
    assert (reading.factors.shape == sample.factors.shape).all()
    hue = np.abs((reading.factors.hue - sample.factors.hue + 0.5) % 1 - 0.5)
    assert hue.max() < 1e-4
    assert np.abs(reading.factors.position - sample.factors.position).max() < 0.02
    # Corners of the smallest triangles are blunted by anti-aliasing; the ramp between the words is 0.2 wide.
    size = np.abs(reading.factors.size - sample.factors.size)
    assert np.quantile(size, 0.9) < 0.01
    assert size.max() < 0.08
    read = np.log(world.posterior(reading.factors)[np.arange(600), sample.caption].clip(1e-3))
    true = np.log(world.posterior(sample.factors)[np.arange(600), sample.caption])
    assert np.corrcoef(read, true)[0, 1] > 0.98
    hard = Shapes("hard").sample(200, seed=5)
    words = read_images(hard.images)
    for column, kind in enumerate(WORDS):
        assert words.words(kind) == [WORDS[kind][i] for i in caption_words(hard.caption)[:, column]]


def test_masks_cover_what_they_say():
    sample = Shapes("soft").sample(200, seed=6)
    chroma = sample.images.max(-1) - sample.images.min(-1)
    assert (chroma[sample.mask > 0.99] > 0.4).all()
    assert (chroma[sample.mask == 0] < 1e-6).all()
    assert sample.mask.sum((1, 2)).min() > 20
    assert (sample.mask + sample.distractor).max() <= 1 + 1e-9
    assert (sample.distractor.sum((1, 2)) > 5).mean() > 0.7


def test_draws_are_seeded():
    world = Shapes("soft")
    a, b = world.sample(5, seed=1), world.sample(8, seed=1)
    assert (a.images == b.images[:5]).all()
    assert a.prompts == b.prompts[:5]
    caption, factors = world.sample_factors(5, seed=1)
    assert (caption == a.caption).all()
    assert (factors.hue == a.factors.hue).all()
    assert not (world.sample(5, seed=2).images == a.images).all()
    assert a.images.dtype == np.float32
    assert a.images.min() >= 0
    assert a.images.max() <= 1
