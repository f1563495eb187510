"""What a comparison of two captions says, of numbers that are known."""

import math

import pytest
import torch

import mmg_diffusers
from mmg_diffusers.analysis import Preference


def preference(score, ids=None, **more):
    score = torch.as_tensor(score, dtype=torch.float64)
    count, levels = len(score), score.shape[2]
    ids = torch.arange(count) if ids is None else torch.tensor(ids)
    names = tuple(f"a{k}" for k in ids.tolist()), tuple(f"b{k}" for k in ids.tolist())
    return Preference(*names, score, torch.linspace(-2, 2, levels + 1).double(), ids, 8, **more)


#               two paths of four steps each
SCORE = [[[0.0, 2.0, 2.0, 0.5], [0.0, 2.0, 3.0, 0.5]], [[-1.0, 0.5, -4.0, 0.0], [-1.0, 0.5, -6.0, 0.0]]]


def test_numbers_of_a_pair():
    found = preference(SCORE)
    torch.testing.assert_close(found.nats, torch.tensor([5.0, -5.5], dtype=torch.float64))
    torch.testing.assert_close(found.probability, found.nats.sigmoid())
    # Prior odds of 1 to 3 take ln 3 away.
    torch.testing.assert_close(found.odds(0.25), found.nats - math.log(3))
    assert found.best == ["a0", "b1"]
    assert found.share().value == 0.5
    assert found.mean().value == pytest.approx(-0.25)
    # Variances 0.5 and 2, averaged with their mean by 1 to 4, over two paths.
    expected = torch.tensor([(0.5 + 4 * 1.25) / 5 / 2, (2 + 4 * 1.25) / 5 / 2], dtype=torch.float64).sqrt()
    torch.testing.assert_close(found.stderr, expected)


def test_where_it_is_decided():
    found = preference(SCORE)
    # The odds of the winner at levels -2 to 2: 0 0 2 4.5 5, and 0 1 0.5 5.5 5.5.
    assert found.decided(0.95).tolist() == [1.0, 1.0]
    assert found.decided(0.85).tolist() == [0.0, 1.0]
    assert found.decided(0.994)[0].isnan()
    torch.testing.assert_close(found.influence().nats[0], torch.tensor([5.0, 5.0, 3.0, 0.5, 0.0]).double())


def test_one_path_has_no_error():
    assert preference([[[1.0, 2.0]]]).stderr.isnan().all()


def test_maps_sum_to_the_odds():
    maps = torch.tensor([[[[1.0, 2.0]], [[2.0, 1.0]]]], dtype=torch.float64)
    found = preference([[[1.0, 2.0], [2.0, 1.0]]], maps=maps)
    nats, stderr = found.pixel_map()
    assert float(nats.sum()) == float(found.nats)
    assert stderr.shape == (1, 1, 2)
    with pytest.raises(ValueError, match="keep='pixel'"):
        preference(SCORE).pixel_map()


def test_files_and_merging(tmp_path):
    whole = preference(SCORE)
    parts = [preference(SCORE[k : k + 1], ids=[k]) for k in (0, 1)]
    merged = Preference.merge(parts)
    assert merged.a == whole.a
    assert torch.equal(merged.score, whole.score)
    read = mmg_diffusers.load(whole.save(tmp_path / "p.safetensors"))
    assert isinstance(read, Preference)
    assert torch.equal(read.nats, whole.nats)
    with pytest.raises(ValueError, match="different ones"):
        Preference.merge([parts[0], parts[0]])


def test_warnings_say_what_is_close_and_what_is_late():
    said = " ".join(preference([[[0.1, 0.0], [-0.1, 0.0]], [[3.0, 0.0], [3.0, 0.0]]]).warnings())
    assert "1 of 2 pairs are within two standard errors of a tie" in said
    late = preference([[[0.0] * 19 + [3.0], [0.0] * 19 + [3.0]]])
    assert "moves 1 of 1 pairs" in " ".join(late.warnings())
    clear = [[3.0, *[0.0] * 19], [3.0, *[0.0] * 19]]
    assert str(preference([clear] * 19).verdict) == "take with caution (pairs)"
    assert "19 pairs: too few to show the tails of their law" in preference([clear] * 19).warnings()[0]
    assert preference([clear] * 20).warnings() == ()
    assert str(preference([clear] * 20).verdict) == "trust"
    assert len(repr(late)) < 400


def test_the_caption_that_fits_better_is_named():
    score = torch.ones(4, 2, 8)
    score[0] = -0.5
    one, other = str(preference(score)), str(preference(-score))
    assert "\na fits better by 5.0000 +- 3.0000 nats in the mean over 4 pairs, and better than b in 75 % of them" in one
    assert (
        "\nb fits better by 5.0000 +- 3.0000 nats in the mean over 4 pairs, and better than a in 75 % of them" in other
    )


@pytest.mark.parametrize(("levels", "grade"), [(8, "trust"), (3, "with caution"), (1, "don't")])
def test_long_steps_are_said(levels, grade):
    """From log-SNR -2 to 2: steps of 0.5, 1.33 and 4."""
    steps = [note for note in preference(torch.ones(30, 2, levels)).verdict.findings if note.about == "steps"]
    assert [note.grade for note in steps] == ([] if grade == "trust" else [grade])
