"""Words of prompts: found, taken out, and masked without moving the others."""

import pytest
import torch

from mmg_diffusers import Masked
from mmg_diffusers.prompts import find_word, replace_word
from mmg_diffusers.shapes import Shapes


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


def test_words_are_found_or_refused():
    assert find_word("red on red", "red", occurrence=1) == (7, 10)
    for word, occurrence, says in (
        ("blue", None, "no 'blue' in the prompt.*its words are a, red, circle, on, red"),
        ("re", None, "no 're'"),
        (" ", None, "word is empty"),
        ("red", None, "occurs 2 times.*occurrence=0 to 1"),
        ("red", 2, "occurrence is 2"),
    ):
        with pytest.raises(ValueError, match=says):
            Masked("a red circle on red", word, occurrence)


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


def test_a_masked_prompt_is_a_context(pipe):
    sample = Shapes("soft").sample(2, seed=41)
    contexts = [Masked(prompt, prompt.split()[2]) for prompt in sample.prompts]
    out = pipe(list(sample.images), sample.prompts, given=contexts, levels=6, keep="pixel")
    torch.testing.assert_close(out.pixel_map()[0].flatten(1).sum(1), out.using("orthogonal").nats)
    assert float(out.using("orthogonal").nats.min()) > 0
