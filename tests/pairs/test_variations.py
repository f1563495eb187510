"""Candidates that one prompt is varied into."""

import pytest

from mmg_diffusers import Candidates


def test_all_that_a_prompt_could_have_said():
    made = Candidates.vary("a red circle on the left", {"red": ["dark blue", "green"], "left": ["right"]})
    assert made.prompts == (
        "a red circle on the left",
        "a red circle on the right",
        "a dark blue circle on the left",
        "a dark blue circle on the right",
        "a green circle on the left",
        "a green circle on the right",
    )
    assert made.parts == {
        "red": ("red", "red", "dark blue", "dark blue", "green", "green"),
        "left": ("left", "right") * 3,
    }
    assert made.candidates == 6


def test_the_order_of_words_changes_labels_and_not_prompts():
    one, other = (
        Candidates.vary("a red circle", dict(words))
        for words in (
            (("red", ["blue"]), ("circle", ["square"])),
            (("circle", ["square"]), ("red", ["blue"])),
        )
    )
    assert one.prompts == other.prompts
    assert one.parts == other.parts
    assert list(other.parts) == ["circle", "red"]


@pytest.mark.parametrize(
    ("prompt", "words", "error", "says"),
    [
        ("a red circle", {}, ValueError, "no word to vary"),
        ("a red circle", {"blue": ["red"]}, ValueError, "no 'blue' in the prompt"),
        ("red on red", {"red": ["blue"]}, ValueError, "occurs 2 times"),
        ("a red circle", {"red": "blue"}, TypeError, "expected a list of texts"),
        ("a red circle", {"red": []}, ValueError, "no alternatives"),
        ("a red circle", {"red": ["red"]}, ValueError, "there twice"),
        ("a red circle", {"red circle": ["dot"], "red": ["blue"]}, ValueError, "overlap"),
        ("a red circle", {"red": [" "]}, ValueError, "which is empty"),
        ("a red circle", ["red"], TypeError, "a mapping of words"),
        ("a b c", {w: [f"{w}{k}" for k in range(20)] for w in "abc"}, ValueError, "9,261 prompts"),
    ],
)
def test_what_cannot_be_varied(prompt, words, error, says):
    with pytest.raises(error, match=says):
        Candidates.vary(prompt, words)
