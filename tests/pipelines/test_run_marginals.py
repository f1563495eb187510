"""Runs against any marginal: what a run says of a pair is what the pair is told in one call, however it is cut into chunks."""

import math

import pytest
import torch

from mmg_diffusers import Candidates, Negatives, NullPrompt, Outcome
from mmg_diffusers.analysis import Filtered
from mmg_diffusers.pairs import Plan
from mmg_diffusers.runs import shards
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes

PLAN = Plan(levels=4, seed=2)
SAMPLE = Shapes("soft").sample(5, seed=31)
AMONG = list(dict.fromkeys([*SAMPLE.prompts, *CAPTIONS[:8]]))


@pytest.fixture
def pairs(monkeypatch):
    monkeypatch.setattr(shards, "CHUNK", 2)
    monkeypatch.setattr(shards.run, "__kwdefaults__", {**shards.run.__kwdefaults__, "chunk": 2})
    return SAMPLE, [{"image": x, "prompt": y} for x, y in zip(SAMPLE.images, SAMPLE.prompts, strict=True)]


MARGINALS = {
    "candidates": Candidates(AMONG),
    "groups": Candidates(AMONG, groups=[caption.split()[1] for caption in AMONG]),
    "negatives": Negatives(3, seed=5),
    "null": NullPrompt(),
}


@pytest.mark.parametrize("name", MARGINALS)
def test_a_run_says_what_one_call_says(pipe, pairs, tmp_path, name):
    sample, rows = pairs
    marginal = MARGINALS[name]
    outcome = pipe.run(rows, tmp_path / "run", marginal=marginal, plan=PLAN, progress=False)
    whole = pipe.measure(list(sample.images), sample.prompts, None, marginal, PLAN)
    assert type(outcome.estimate) is type(whole)
    torch.testing.assert_close(outcome.estimate.nats, whole.nats, rtol=0, atol=1e-6)
    again = Outcome.load(tmp_path / "run")
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)
    assert again.to_pandas()["nats"].tolist() == outcome.estimate.nats.tolist()
    assert outcome.clusters() == again.clusters()
    if name != "null":
        assert isinstance(whole, Filtered)
        assert outcome.estimate.mixture.names == whole.mixture.names
        assert torch.equal(outcome.estimate.mixture.slots, whole.mixture.slots)
        ceiling = math.log({"candidates": len(AMONG), "groups": len(AMONG), "negatives": 4}[name])
        assert outcome.estimate.nats.max() <= ceiling + 1e-9


def test_negatives_come_from_the_whole_source(pipe, pairs, tmp_path):
    """A chunk of two pairs could lend one negative; three are drawn, from pairs of other chunks."""
    _, rows = pairs
    outcome = pipe.run(rows, tmp_path / "run", marginal=Negatives(3), plan=PLAN, progress=False)
    lent = outcome.estimate.mixture
    prompts = [row["prompt"] for row in rows]
    for pair, (slots, prior) in enumerate(zip(lent.slots, lent.prior, strict=True)):
        names = {lent.names[k] for k, share in zip(slots.tolist(), prior.tolist(), strict=True) if share > 0}
        assert names - {prompts[place] for place in (2 * (pair // 2), 2 * (pair // 2) + 1) if place < 5}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (NullPrompt(), Candidates(AMONG)),
        (Candidates(AMONG), Candidates(AMONG[:6] + AMONG[6:][::-1])),
        (Negatives(2), Negatives(3)),
        (Negatives(2), Negatives(2, seed=1)),
    ],
)
def test_a_folder_belongs_to_one_marginal(pipe, pairs, tmp_path, first, second):
    _, rows = pairs
    pipe.run(rows, tmp_path / "run", marginal=first, plan=PLAN, progress=False)
    with pytest.raises(ValueError, match="other settings"):
        pipe.run(rows, tmp_path / "run", marginal=second, plan=PLAN, progress=False)
