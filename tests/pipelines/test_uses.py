"""What measurements are good for, on the model that ships and on small random models of other families."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers import Candidates, Masked, MMGPipeline, NullPrompt
from mmg_diffusers.analysis import Funnel, Sieve, decompose
from mmg_diffusers.analysis.by_word import SHARED
from mmg_diffusers.worlds.shapes import CAPTIONS, WORDS, Shapes
from tests.pipelines.families.table import ROWS

PATH = {"levels": 8, "logsnr_range": (-5.3, 3.0)}


@pytest.fixture(scope="module")
def hard():
    return Shapes("hard").sample(3, seed=31)


# ---- two captions ----


def test_compare_is_the_difference_of_what_classify_scores(pipe, hard):
    images, other = list(hard.images), [CAPTIONS[(k + 7) % 48] for k in hard.caption]
    found = pipe.compare(images, hard.prompts, other, keep="pixel", seed=2, **PATH)
    for k, (a, b) in enumerate(zip(hard.prompts, other, strict=True)):
        scored = pipe.classify(images[k : k + 1], (a, b), pair_ids=[k], draws=2, prune=0.0, seed=2, **PATH)
        difference = scored.curve.score[0, ..., 0] - scored.curve.score[0, ..., 1]
        torch.testing.assert_close(found.score[k], difference, atol=1e-3, rtol=1e-3)
    assert found.best == hard.prompts
    nats, stderr = found.pixel_map()
    assert nats.shape == (3, 32, 32)
    torch.testing.assert_close(nats.flatten(1).sum(1), found.nats)
    assert float(stderr.min()) >= 0
    # Where the object is, there the captions differ more than elsewhere.
    inside = torch.from_numpy(hard.mask > 0.5)
    assert all(float(nats[k][inside[k]].mean()) > float(nats[k][~inside[k]].mean()) for k in range(3))
    turned = pipe.compare(images, other, hard.prompts, seed=2, **PATH)
    torch.testing.assert_close(turned.nats, -found.nats)


def test_compare_takes_one_caption_for_all_and_refuses_the_same_two(pipe, hard):
    found = pipe.compare(list(hard.images), CAPTIONS[0], CAPTIONS[47], levels=2, logsnr_range=(-1.0, 0.0))
    assert found.a == (CAPTIONS[0],) * 3
    assert found.evaluations == 3 * 2 * 2 * 2
    with pytest.raises(ValueError, match="both captions of image 1 are"):
        pipe.compare(list(hard.images), CAPTIONS[:3], [CAPTIONS[4], CAPTIONS[1], CAPTIONS[5]])


# ---- words ----


def varied(prompt):
    """Another colour, another side."""
    colour, side = prompt.split()[2], prompt.split()[6]
    others = [word for word in WORDS["colour"] if word != colour], [word for word in WORDS["side"] if word != side]
    return Candidates.vary(prompt, {colour: others[0], side: others[1]})


def test_words_among_candidates_are_what_the_posterior_says(pipe, hard):
    images, prompts = list(hard.images[:2]), hard.prompts[:2]
    among = [varied(prompt) for prompt in prompts]
    found = pipe.words(images, prompts, marginal=among, prune=0.0, seed=4, together=True, **PATH)
    for k, (prompt, candidates) in enumerate(zip(prompts, among, strict=True)):
        read = pipe.classify(images[k : k + 1], candidates.prompts, draws=2, prune=0.0, seed=4, pair_ids=[k], **PATH)
        colour, side = candidates.parts
        total = read.curve.score.sum(2)[0]
        for word, other, count in ((colour, side, 4), (side, colour, 2)):
            # The same paths: log q of the prompt among those that say the same elsewhere.
            same = torch.tensor([label == other for label in candidates.parts[other]])
            log_q = torch.log_softmax(total[:, same], 1)[:, 0]
            entry = [at for at, owner in enumerate(found.owner.tolist()) if owner == k and found.words[at] == word]
            assert float(found.nats[entry]) == pytest.approx(float(log_q.mean()) + math.log(count), abs=2e-3)
            # Exact: each word of this world is certain, given the rest and the image.
            assert float(found.nats[entry]) == pytest.approx(math.log(count), abs=0.15)
        split = decompose(read, [prompt], candidates.parts, colour, side)
        row = found.shared.parts[k].tolist()
        assert row == pytest.approx([float(getattr(split, part)) for part in SHARED], abs=2e-3)
    nats, stderr = found.pixel_map()
    assert nats.shape == stderr.shape == (4, 32, 32)
    assert set(found.grades) <= {"trust", "with caution"}


def test_words_that_are_taken_out_are_conditional_measurements(pipe, hard):
    images, options = list(hard.images), {"levels": 4, "seed": 1}
    found = pipe.words(images, hard.prompts, words=["@2", "@3"], together=True, **options)
    assert found.how == "masked"
    gaps = {}
    for place in (2, 3):
        texts = [prompt.split()[place] for prompt in hard.prompts]
        given = [Masked(prompt, text) for prompt, text in zip(hard.prompts, texts, strict=True)]
        alone = pipe(images, hard.prompts, given=given, keep="pixel", **options)
        gaps[place] = alone.using("gap").nats
        mine = [k for k, word in enumerate(found.words) if word in texts and k // 3 == place - 2]
        torch.testing.assert_close(found.nats[mine], alone.nats)
        torch.testing.assert_close(found.stderr[mine], alone.stderr)
        # Maps of the image's size add up to the number that is shown.
        torch.testing.assert_close(found.maps[mine].double().flatten(1).sum(1), alone.nats, rtol=1e-4, atol=1e-4)
    both = [Masked(Masked(prompt, prompt.split()[3]), prompt.split()[2]) for prompt in hard.prompts]
    together = pipe(images, hard.prompts, given=both, integrand="gap", **options).nats
    torch.testing.assert_close(found.shared.parts[:, 0], together - gaps[2] - gaps[3], atol=1e-4, rtol=1e-4)
    assert set(found.grades) <= {"with caution", "don't"}


def test_words_among_candidates_that_differ_by_place(pipe, hard):
    among = Candidates([*hard.prompts, *(prompt.replace(prompt.split()[2], "pink") for prompt in hard.prompts)])
    found = pipe.words(list(hard.images), hard.prompts, words=["@2"], marginal=among, maps=False, levels=3)
    assert found.words == tuple(prompt.split()[2] for prompt in hard.prompts)
    assert found.labels == ("@2",) * 3
    assert found.maps is None
    assert float(found.nats.max()) <= math.log(2) + 1e-9


def test_pairs_of_one_image_are_told_of_once_by_words(pipe):
    image = Shapes("soft").sample(1, 0).images[0]
    words = pipe.words([image, image, image], ["a red circle", "red circle", "a blue circle left"], levels=2)
    said = [note for note in words.warnings() if "share an image" in note]
    assert [note.partition(" (")[0] for note in said] == ["3 of 3 pairs share an image with another pair"]


def test_words_of_prompts_of_different_lengths(pipe, hard):
    prompts = ["a circle", "circle", "a red circle"]
    found = pipe.words(list(hard.images), prompts, mask="", levels=2, logsnr_range=(-1.0, 0.0), maps=False)
    assert sorted(zip(found.owner.tolist(), found.words, strict=True)) == [
        *((0, "a"), (0, "circle"), (1, "circle"), (2, "a"), (2, "circle"), (2, "red")),
    ]
    assert found.how == "left out"


# ---- any family ----


@pytest.mark.parametrize("name", ["flux", "sd3", "pixart", "wan"])
def test_words_and_two_captions_of_other_families(name):
    row = next(row for row in ROWS if row.name.startswith(name))
    model = MMGPipeline(row.build(), null=row.null)
    model.set_progress_bar_config(disable=True)
    size = row.size or model.codec.native_size
    shape = (3, *size) if row.frames is None else (row.frames, 3, *size)
    images = [torch.from_numpy(np.random.default_rng(k).random(shape, dtype=np.float32)) for k in range(2)]
    maps = tuple(n for k, n in enumerate(shape) if k != len(shape) - 3)
    options = {"levels": 2, "logsnr_range": (-1.0, 0.0)}
    if model.family.nulls():
        read = model.words(images, "a red dot", words=["red"], **options)
        assert read.maps.shape == (2, *maps)
        assert bool(read.nats.isfinite().all())
    varied = model.words(images, "a red dot", marginal=Candidates.vary("a red dot", {"red": ["blue"]}), **options)
    assert varied.words == ("red", "red")
    found = model.compare(images, "a red dot", "a blue dot", keep="pixel", **options)
    assert found.maps.shape == (2, 2, *maps)


# ---- retrieval ----


def test_a_funnel_that_leaves_nobody_behind_is_classify(pipe, hard):
    images, captions = list(hard.images)[:2], list(dict.fromkeys([*hard.prompts, *CAPTIONS[:5]]))
    full = pipe.classify(images, captions, prune=0.0, seed=1, **PATH)
    found = pipe.rank(images, captions, funnel=Funnel(first=1, least=len(captions)), prune=0.0, seed=1, **PATH)
    torch.testing.assert_close(found.log_q, full.log_posterior, atol=1e-3, rtol=1e-3)
    assert abs(found.loss(full, hard.prompts[:2]).value) < 1e-3
    count = len(captions)
    assert found.of == 2 * count * 8
    assert found.evaluations == 2 * count * (8 + 1)
    few = pipe.rank(images, captions, funnel=Funnel(first=2, keep=0.5), prune=0.0, seed=1, **PATH)
    assert few.best == hard.prompts[:2]
    assert few.followed.sum(1).tolist() == [2, 2]
    # Once one of the two is left, nobody is followed: here both are, since none is pruned.
    assert few.evaluations == 2 * (2 * count + 2 * 8)
    torch.testing.assert_close(few.log_q.exp().sum(1), torch.ones(2, dtype=torch.float64))


def test_a_sieve_leaves_more_behind(pipe, hard):
    images, captions = list(hard.images)[:2], list(dict.fromkeys([*hard.prompts, *CAPTIONS[:5]]))
    count = len(captions)
    # The first leaves nobody behind, the second all but two.
    narrow = Funnel(first=1, least=count, then=(Sieve(4, 2.0, trust=1.0, keep=0.5),))
    found = pipe.rank(images, captions, funnel=narrow, prune=0.0, seed=1, **PATH)
    assert found.best == hard.prompts[:2]
    assert found.followed.sum(1).tolist() == [2, 2]
    assert found.evaluations == 2 * (count + 4 * count + 2 * 8)
    # Those that it left behind have what the second path left them.
    alone = Funnel(first=4, until=2.0, trust=1.0, keep=0.5)
    same = pipe.rank(images, captions, funnel=alone, prune=0.0, seed=1, **PATH)
    torch.testing.assert_close(found.log_q, same.log_q, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"short path ends at log-SNR 5"):
        pipe.rank(images, captions, funnel=Funnel(then=(Sieve(2, 5.0),)), **PATH)


def test_a_funnel_that_does_not_fit_the_path(pipe, hard):
    with pytest.raises(ValueError, match=r"short path ends at log-SNR 5; expected above -5.30 and up to 3.00"):
        pipe.rank(list(hard.images), CAPTIONS, funnel=Funnel(until=5.0), **PATH)
    with pytest.raises(TypeError, match="a Funnel"):
        pipe.rank(list(hard.images), CAPTIONS, funnel=3)


# ---- the best of several ----


def test_select_by_log_q_and_by_a_function(pipe):
    prompts = [CAPTIONS[0], CAPTIONS[47]]
    found = pipe.select(prompts, 2, score=Candidates(prompts), steps=3, seed=5, levels=4)
    assert found.images.shape == (2, 2, 32, 32, 3)
    # Three steps of four images; what was scored is what `filter` says of them.
    assert found.drawing == 12
    texts = [prompt for prompt in prompts for _ in range(2)]
    again = pipe.filter(list(found.images.flatten(0, 1).numpy()), texts, prompts, seed=5, levels=4)
    torch.testing.assert_close(found.score.flatten(), again.nats)
    assert found.scoring == again.evaluations
    assert found.by == "i(image; prompt), Candidates"
    # The prompts are each other's candidates if nothing else is said; the null prompt is warned of.
    usual, null = (pipe.select(prompts, 2, score=score, steps=3, seed=5, levels=4) for score in (None, NullPrompt()))
    torch.testing.assert_close(usual.score, found.score)
    assert any("hardly better than chance" in note for note in null.warnings())
    bright = pipe.select(
        prompts, 2, score=lambda images, texts: [float(image.mean()) for image in images], steps=3, seed=5
    )
    torch.testing.assert_close(bright.images, found.images)
    torch.testing.assert_close(bright.score, found.images.double().mean((2, 3, 4)))
    assert bright.scoring == 0


def test_select_refuses_what_cannot_score(pipe):
    with pytest.raises(TypeError, match="expected NullPrompt"):
        pipe.select(CAPTIONS[:1], 2, score=3)
    with pytest.raises(ValueError, match="has no other prompts beside it"):
        pipe.select(CAPTIONS[:1], 2)
    with pytest.raises(ValueError, match="n is 1"):
        pipe.select(CAPTIONS[:1], 1)
    with pytest.raises(ValueError, match="not among the 2 candidates"):
        pipe.select([CAPTIONS[5]], 2, score=Candidates(CAPTIONS[:2]))
    with pytest.raises(TypeError, match="a list of at least one"):
        pipe.select(CAPTIONS[0], 2)
    with pytest.raises(ValueError, match="one finite number for each"):
        pipe.select(CAPTIONS[:1], 2, score=lambda images, texts: [1.0], steps=1)
