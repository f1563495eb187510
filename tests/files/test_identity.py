"""The digest of data tells content and nothing else."""

import numpy as np
import pytest
import torch

from mmg_diffusers.files.identity import Identity

X = torch.arange(6, dtype=torch.float32).reshape(2, 3)


def test_where_and_how_data_are_kept_does_not_count(tmp_path):
    assert (
        Identity.of(X) == Identity.of(X.T.contiguous().T) == Identity.of(X.numpy()) == Identity.of(np.asfortranarray(X))
    )
    assert Identity.of({"a": 1, "b": X}) == Identity.of({"b": X, "a": 1})
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"pixels")
    assert Identity.of_file(tmp_path / "a.png") == Identity.of_file(tmp_path / "b.png") == Identity.of(b"pixels")


@pytest.mark.parametrize(
    "other", [X + 1e-7 * X, X.double(), X.reshape(3, 2), X[:1], [X], {"x": X}, X.int(), b"", "", 0, None, [X, None]]
)
def test_content_counts(other):
    assert Identity.of(other) != Identity.of(X)


def test_neighbours_differ():
    assert Identity.of("ab", "c") != Identity.of("a", "bc")
    assert Identity.of(1) != Identity.of(1.0) != Identity.of("1.0") != Identity.of(True)
    assert Identity.of([]) != Identity.of({})
    assert Identity.of(np.array(["a", "b"])) != Identity.of(np.array(["a", "c"]))
    assert Identity.of(0.0) != Identity.of(-0.0)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), lambda: 0])
def test_what_has_no_content_that_is_known_is_refused(value):
    with pytest.raises(TypeError, match="has no identity"):
        Identity.of(value)
