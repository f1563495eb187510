"""Levels that a pipeline's network does not know are warned of wherever candidates are compared, as those of one's own network are."""

from dataclasses import replace

import pytest
import torch

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.analysis import Filtered
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.worlds.shapes import Shapes

STEPS = {"levels": 3}


def model(factor):
    """The plain model, its predictions multiplied by a factor."""
    pipe = MMGPipeline.from_pretrained(shapes_model("shapes-plain"))
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        for weight in pipe.pipe.unet.conv_out.parameters():
            weight.mul_(factor)
    return pipe


@pytest.fixture(scope="module")
def wrong():
    return model(3.0)


@pytest.fixture(scope="module")
def pairs():
    drawn = Shapes("soft").sample(16, seed=5)
    return list(drawn.images), list(drawn.prompts), list(dict.fromkeys(drawn.prompts))


def ranges(record):
    return [note for note in record.warnings() if getattr(note, "about", "") == "range" and "does not know" in note]


def test_a_pipeline_says_which_levels_it_does_not_know(wrong, pairs, tmp_path):
    images, prompts, candidates = pairs
    candidates, prompts = candidates[:2], [candidates[k % 2] for k in range(16)]
    found = wrong.filter(images, prompts, candidates, **STEPS)
    (said,) = ranges(found)
    assert "logsnr_range= of a pipeline" in said
    assert said in found.against_mixture.warnings()
    assert said in found.classification.warnings()
    # A record that is read says the same; one of few pairs cannot tell, and those that are joined can.
    read = Filtered.load(found.save(tmp_path / "filtered"))
    assert ranges(read) == [said]
    assert read.verdict == found.verdict
    halves = [
        wrong.filter(images[k:][:8], prompts[k:][:8], candidates, pair_ids=range(k, k + 8), **STEPS) for k in (0, 8)
    ]
    assert [ranges(half) for half in halves] == [[], []]
    assert ranges(Filtered.merge(halves)) == [said]
    ranked = wrong.rank(images, candidates, **STEPS)
    assert len(ranges(ranked)) == 1
    again = type(ranked).load(ranked.save(tmp_path / "ranked"))
    assert ranges(again) == ranges(ranked)
    assert again.verdict == ranked.verdict


def test_of_levels_that_it_knows_nothing_is_said(pairs):
    images, prompts, candidates = pairs
    assert ranges(model(1.0).filter(images, prompts, candidates, **STEPS)) == []


def test_files_keep_what_a_finding_weighs(wrong, pairs, tmp_path):
    images, _, candidates = pairs
    told = Finding("told", "range", "don't")
    made = {
        "classes": wrong.classify(images[:1], candidates[:2], **STEPS),
        "preference": wrong.compare(images[:1], *candidates[:2], **STEPS),
        "likelihood": wrong.log_likelihood(images[:1], **STEPS),
    }
    for name, record in made.items():
        (read,) = type(record).load(replace(record, notes=(told,)).save(tmp_path / name)).notes
        assert (read, read.about, read.grade) == (told, "range", "don't"), name
