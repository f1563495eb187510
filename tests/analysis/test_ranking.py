"""What a ranking says, of numbers that are known."""

import math

import pytest
import torch

import mmg_diffusers
from mmg_diffusers.analysis import Funnel, Ranked, Sieve
from mmg_diffusers.analysis.ranking import left_behind


def ranked(q, followed=None, ids=None):
    q = torch.tensor(q, dtype=torch.float64)
    count = q.shape[1]
    followed = torch.ones_like(q, dtype=torch.bool) if followed is None else torch.tensor(followed)
    ids = torch.arange(len(q)) if ids is None else torch.tensor(ids)
    prior = torch.full((count,), 1 / count, dtype=torch.float64)
    error = torch.zeros(len(q), dtype=torch.float64)
    return Ranked(tuple("abc")[:count], q.log(), prior, followed, error, ids, 10, 100)


def test_those_left_behind_keep_their_probability():
    first = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    slots = torch.tensor([[0, 2, 1], [1, 2, 3]])
    later = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64)
    found = left_behind(first.log(), later.log(), slots, 4).exp()
    # 0 and 2 share the 0.8 that they had as 1 to 3; the empty slot is nobody's.
    expected = torch.tensor([[0.2, 0.1, 0.6, 0.1], [0.25, 0.375, 0.1875, 0.1875]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_who_stays():
    log_q = torch.tensor([[0.9, 0.0999, 1e-4], [0.9998, 1e-4, 1e-4]], dtype=torch.float64).log()
    assert Funnel(keep=1e-3).in_play(log_q).tolist()[0] == [True, True, False]
    assert int(Funnel(keep=1e-3).in_play(log_q)[1].sum()) == 2
    assert Funnel(least=3).in_play(log_q).all()
    for wrong in ({"keep": 0.0}, {"keep": 1.0}, {"first": 0}, {"least": 1}, {"trust": 0.0}, {"trust": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Funnel(**wrong)
    with pytest.raises(TypeError, match="a tuple of Sieve"):
        Funnel(then=(3,))
    for wrong in ({"keep": 1.0}, {"steps": 0}, {"least": 1}, {"trust": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Sieve(**{"steps": 3, "until": 1.0} | wrong)
    # An empty slot does not stay, whatever the least.
    assert Sieve(3, 1.0, least=3).in_play(torch.tensor([[-0.1, -3.0, -torch.inf]])).tolist() == [[True, True, False]]


def test_numbers():
    found = ranked([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    assert found.best == ["a", "b"]
    assert found.top(2)[0] == [("a", pytest.approx(0.7)), ("b", pytest.approx(0.2))]
    assert float(found.nats[0]) == pytest.approx(math.log(2.1))
    assert found.rank_of(["b", "c"]).tolist() == [2, 2]
    assert found.recall(["b", "b"]).value == 0.5
    assert found.recall(["b", "c"], 2).value == 1.0
    assert float(found.pointwise(["c", "b"])[0]) == pytest.approx(math.log(0.3))
    with pytest.raises(ValueError, match="'d' is not among the 3"):
        found.rank_of(["a", "d"])
    left = ranked([[0.7, 0.2, 0.1]], [[False, True, True]])
    assert "was left behind by the short path" in " ".join(left.warnings())


def test_files_and_merging(tmp_path):
    found = ranked([[0.7, 0.2, 0.1]], ids=[5])
    read = mmg_diffusers.load(found.save(tmp_path / "r.safetensors"))
    assert isinstance(read, Ranked)
    assert torch.equal(read.log_q, found.log_q)
    both = Ranked.merge([found, ranked([[0.1, 0.2, 0.7]], ids=[6])])
    assert both.best == ["a", "c"]
    assert (both.evaluations, both.of) == (20, 200)
    assert "10.0 % of 100" in str(found)
