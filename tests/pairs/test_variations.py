"""Candidates that one prompt is varied into."""

import pytest

from mmg_diffusers import Candidates
from mmg_diffusers.commands.studies.words import varied


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


def test_a_word_that_is_there_twice_is_varied_by_its_place():
    made = Candidates.vary("a red dot on a red square", {"@1": ["blue"], "@5": ["blue"]})
    assert made.prompts == (
        "a red dot on a red square",
        "a red dot on a blue square",
        "a blue dot on a red square",
        "a blue dot on a blue square",
    )
    assert made.parts == {"@1": ("red", "red", "blue", "blue"), "@5": ("red", "blue") * 2}
    own = varied(["a red dot", "a blue dot"], {"@1": ["red", "blue", "green"]})
    assert [one.prompts for one in own] == [
        ("a red dot", "a blue dot", "a green dot"),
        ("a blue dot", "a red dot", "a green dot"),
    ]


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
        ("red on red", {"red": ["blue"]}, ValueError, "occurs 2 times.*by its place: @0 or @2"),
        ("red on red", {"@7": ["blue"]}, ValueError, "no word @7"),
        ("a red circle", {"@1": ["blue"], "red": ["green"]}, ValueError, "overlap"),
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
