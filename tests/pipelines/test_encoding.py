"""What is found out about prompts before a network runs."""

import warnings

import pytest

NOTE = r"'\(red:1.3\)' in 'a \(red:1.3\) circle' is read as it stands: words of a prompt have no weights here"


def test_weights_of_words_are_read_as_text_and_said_so(pipe):
    with pytest.warns(UserWarning, match=NOTE):
        (note,) = pipe.encoder.check_prompts(["a (red:1.3) circle", "a circle"])
    assert "(red:1.3)" in note


@pytest.mark.parametrize("prompt", ["a clock (at 10:30)", "a (red) circle", "ratio 1:1.5", "a circle: (1.5)"])
def test_other_signs_are_no_weights(pipe, prompt):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that of letters, of which the shipped model sees few
        notes = [note for note in pipe.encoder.check_prompts([prompt]) if "weights" in note]
    assert not notes
