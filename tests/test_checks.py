"""Values in messages are short, whatever they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mmg_diffusers
from mmg_diffusers.checks import reason, shown, whole
from mmg_diffusers.pairs.prompts import Word, find_word


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


class Talkative:
    def __repr__(self):
        return "Talkative " * 100


def kind(value):
    """For the name of a test: pytest would write the longest out."""
    return type(value).__name__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "3"),
        (None, "None"),
        ("a cat", "'a cat'"),
        (b"a", "b'a'"),
        (b"x" * 566_645, "<566,645 bytes>"),
        (memoryview(b"ab"), "<2 bytes>"),
        ({"bytes": b"x" * 566_645, "path": "a.png"}, "{'bytes': <566,645 bytes>, 'path': 'a.png'}"),
        (np.zeros((2, 3), dtype=np.uint8), "<ndarray (2, 3) of uint8>"),
        (torch.zeros(3, 64, 64), "<Tensor (3, 64, 64) of float32>"),
        (torch.tensor([1, 2]), "tensor([1, 2])"),
        ([torch.zeros(9)], "[<Tensor (9,) of float32>]"),
        (Unshowable(), "<Unshowable>"),
        (10**5000, "<an integer of 16,610 bits>"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, ...]"),
    ],
    ids=kind,
)
def test_values_are_shown_short(value, expected):
    assert shown(value) == expected


@pytest.mark.parametrize(
    "value", ["x" * 1000, ["x" * 1000] * 5, {"a" * 300: "b" * 300}, Talkative(), 10**5000, ("é" * 90,) * 6], ids=kind
)
def test_nothing_is_shown_whole(value):
    assert len(shown(value)) <= 160
    with pytest.raises((TypeError, ValueError)) as refused:
        whole(value, "draws", 1)
    assert len(str(refused.value)) < 300


def test_what_other_libraries_say_is_cut():
    assert reason(ValueError("no such column")) == "no such column"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 10_000))) == 400


def test_messages_about_prompts_are_short():
    prompt = "a large cat " * 50_000
    for call in (
        lambda: find_word(prompt, "dog"),
        lambda: find_word(prompt, "cat"),
        lambda: Word("cat").find(prompt[:240]),
    ):
        with pytest.raises(ValueError, match="cat") as refused:
            call()
        assert len(str(refused.value)) < 400


def test_messages_show_values_by_one_function():
    """``{value!r}`` would write out whatever a user passed; ``{shown(value)}`` does not."""
    package = Path(mmg_diffusers.__file__).parent
    whole = [path for path in package.rglob("*.py") if "!r}" in path.read_text("utf-8")]
    assert {path.name for path in whole} == {"checks.py", "moved.py"}
