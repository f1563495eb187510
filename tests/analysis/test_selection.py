"""The best of several images, of numbers that are known."""

from dataclasses import replace

import pytest
import torch

import mmg_diffusers
from mmg_diffusers.analysis import Selected


def selected(score, images=None):
    score = torch.tensor(score, dtype=torch.float64)
    images = torch.rand(*score.shape, 2, 2, 3) if images is None else images
    prompts = tuple(f"p{k}" for k in range(len(score)))
    return Selected(prompts, images, score, torch.full_like(score, 0.1), 100, 40, "a score")


def test_numbers():
    found = selected([[1.0, 3.0, 2.0], [6.0, 0.0, 0.0]])
    assert found.chosen.tolist() == [1, 0]
    assert torch.equal(found.best[0], found.images[0, 1])
    assert found.nats.tolist() == [3.0, 6.0]
    # 3 - 2 and 6 - 2.
    assert tuple(found.gain) == (2.5, pytest.approx(1.5))
    assert found.gain.unit == "of the score"
    assert replace(found, by="i(image; prompt), Candidates").gain.unit == "nats"
    assert "2 prompts: too few" in found.warnings()[0]
    assert found.evaluations == 140
    assert list(found.to_pandas()["chosen"]) == [False, True, False, True, False, False]


def test_coverage():
    # Prompt 0 draws two modes; prompt 1 one. In each mode images differ by little.
    at = torch.tensor([[0.0, 0.01, 10.0, 10.01], [20.0, 20.01, 20.02, 20.03]])
    images = at[..., None, None, None].expand(2, 4, 1, 1, 3)
    covered, at_random = selected([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], images).coverage(nearest=1)
    # 2 of the first mode, and of the third mode the first two see the first.
    assert covered == pytest.approx(4 / 8)
    assert 0.4 < at_random < 0.8
    both = selected([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], images)
    assert both.coverage(lambda flat: flat[:, 0, 0, :1] > 5, nearest=1)[0] == 1.0
    with pytest.raises(ValueError, match="expected fewer"):
        both.coverage(nearest=8)


def test_files_and_merging(tmp_path):
    found = selected([[1.0, 3.0]])
    read = mmg_diffusers.load(found.save(tmp_path / "s.safetensors"))
    assert isinstance(read, Selected)
    assert torch.equal(read.images, found.images)
    both = Selected.merge([found, found])
    assert both.nats.tolist() == [3.0, 3.0]
    assert both.evaluations == 280
    with pytest.raises(ValueError, match="not finite"):
        selected([[1.0, float("nan")]])
