"""Words of prompts: found, taken out, and masked without moving the others."""

import pytest
import torch

from mmg_diffusers import Candidates, Masked
from mmg_diffusers.pairs.prompts import Word, find_word, replace_word, without, words_of
from mmg_diffusers.worlds.shapes import Shapes


@pytest.mark.parametrize(
    ("prompt", "word", "by", "expected"),
    [
        ("a red circle", "red", "", "a circle"),
        ("red, a circle", "a", "", "red, circle"),
        ("a circle, red", "red", "", "a circle,"),
        ("a red, red circle", "red circle", "disc", "a red, disc"),
        ("the reddest red.", "red", "", "the reddest."),
        ("red", "red", "", ""),
        ("un café noir", "café", "thé", "un thé noir"),
    ],
)
def test_words_are_replaced_without_doubled_spaces(prompt, word, by, expected):
    assert replace_word(prompt, word, by) == expected


def test_words_are_found():
    assert find_word("red on red", "red", occurrence=1) == (7, 10)


def test_masking_leaves_the_other_tokens_in_place(pipe):
    prompt = "a large red circle on the left"
    (whole,) = pipe.codec.encode_prompts([prompt]).values()
    (masked,) = pipe.codec.encode_masked(Masked(prompt, "red")).values()
    assert masked.shape == whole.shape
    # The text encoder is causal: the opening token, "a" and "large" have not seen the word.
    torch.testing.assert_close(masked[:, :3], whole[:, :3])
    assert float((masked[:, 3] - whole[:, 3]).abs().max()) > 0.1
    (other,) = pipe.codec.encode_masked(Masked("a large blue circle on the left", "blue")).values()
    torch.testing.assert_close(masked, other)
    with pytest.raises(ValueError, match="does not see 'moon'"):
        pipe.codec.encode_masked(Masked(f"{prompt} and {prompt} and a moon", "moon"))


def test_several_words_are_masked(pipe):
    prompt = "a large red circle on the left"
    both = without(prompt, [Word("circle"), Word(place=2)])
    assert str(both) == "a large [red masked] [circle masked] on the left"
    assert both.text == prompt
    (one,) = pipe.codec.encode_masked(Masked(prompt, "red")).values()
    (two,) = pipe.codec.encode_masked(both).values()
    torch.testing.assert_close(two[:, :4], one[:, :4])
    assert float((two[:, 4] - one[:, 4]).abs().max()) > 0.1


def test_a_word_is_told_by_its_text_or_its_place():
    prompt = "a red-hot circle, red on the left"
    assert words_of(prompt) == ["a", "red-hot", "circle", "red", "on", "the", "left"]
    assert Word.parse("@3").find(prompt) == ("red", 1)
    assert str(Word.parse("@3").find("a b c d")) == "('d', 0)"
    assert without(prompt, [Word(place=3)], "") == "a red-hot circle, on the left"
    assert without("a red circle on red", [Word(place=1), Word(place=4)], "blue") == "a blue circle on blue"
    assert Word("left").place_in([prompt]) == 6
    assert str(Word.parse(" left ")) == "left"
    assert [str(word) for word in (Word("a"), Word(place=4))] == ["a", "@4"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Word(), "by its text or by its place"),
        (lambda: Word("red", 2), "by its text or by its place"),
        (lambda: Word(place=-1), "expected at least 0"),
        (lambda: Word.parse("@two"), "'@two' is no place"),
        (lambda: Word.parse("  "), "word is empty"),
        (lambda: without("a red circle", [Word("blue")]), "no 'blue' in the prompt"),
        (lambda: without("a red circle", [Word(place=3)]), "there is no word @3"),
        (lambda: without("red on red", [Word("red")]), "occurs 2 times.*say which by its place: @0 or @2"),
        (lambda: without("a red circle", [Word("red circle"), Word("circle")]), "overlap"),
        (lambda: without("a red circle", []), "no words to take out"),
        (lambda: Word("red").place_in(["a red circle", "red circles"]), "not one word at one place"),
        (lambda: Word("red circle").place_in(["a red circle"]), "not one word at one place"),
    ],
)
def test_bad_words_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_masked_prompt_is_a_context(pipe):
    sample = Shapes("soft").sample(2, seed=41)
    contexts = [Masked(prompt, prompt.split()[2]) for prompt in sample.prompts]
    out = pipe(list(sample.images), sample.prompts, given=contexts, levels=6, keep="pixel")
    torch.testing.assert_close(out.pixel_map()[0].flatten(1).sum(1), out.using("orthogonal").nats)
    assert float(out.using("orthogonal").nats.min()) > 0
    assert out.settings["given"] == "the prompt with words masked"
    # The chain rule of the gap form: two words, as one and then the other.
    both = [Masked(context, prompt.split()[3]) for context, prompt in zip(contexts, sample.prompts, strict=True)]
    options = {"levels": 6, "integrand": "gap"}
    two = pipe(list(sample.images), sample.prompts, given=both, **options)
    first = pipe(list(sample.images), contexts, given=both, **options)
    torch.testing.assert_close(two.nats, first.nats + out.using("gap").nats, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="masked prompts are no candidates"):
        pipe(list(sample.images), contexts, marginal=Candidates(sample.prompts))
