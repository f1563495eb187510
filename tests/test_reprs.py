"""What a notebook shows of a result fits into a few lines."""

import re
from dataclasses import replace
from html import escape

import pytest

from mmg_diffusers import MMG, Candidates
from mmg_diffusers.analysis import decompose
from mmg_diffusers.checks import LONGEST_REPR
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pipelines.drawing import Drawn
from mmg_diffusers.runs import Outcome
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, caption_parts


@pytest.fixture(scope="module")
def results(pipe):
    sample = Shapes("soft").sample(3, 1)
    options = {"levels": (-4.0, 0.0, 2.0)}
    filtered = pipe.filter(list(sample.images), sample.prompts, Candidates(CAPTIONS), **options)
    estimate = pipe(list(sample.images), sample.prompts, levels=2, logsnr_range=(-1.0, 0.0))
    return {
        "sample": sample,
        "estimate": estimate,
        "curve": estimate.curve,
        "in the mean": estimate.in_mean(),
        "influence": estimate.influence(),
        "filtered": filtered,
        "evidence": filtered.evidence,
        "mixture": filtered.mixture,
        "classification": filtered.classification,
        "drawn": Drawn(sample.images, tuple(sample.prompts)),
        "outcome": Outcome(estimate, (), {}),
        "words": decompose(filtered.classification, sample.prompts, caption_parts(), "colour", "shape"),
    }


def test_a_repr_is_short_and_has_no_tables_of_numbers(results):
    for name, result in results.items():
        text = repr(result)
        assert len(text) < LONGEST_REPR + 40, name
        assert text.startswith(type(result).__name__ + "("), name
        assert "tensor([[" not in text, name
        assert not re.search(r"0x[0-9a-f]{6}", text), name


def test_a_result_shows_its_mean_and_its_verdict(mixture):
    denoiser, x, cond = mixture
    made = MMG("gap", Trapezoid(8))(denoiser, x[:4], {"label": cond["label"][:4]}, logsnr_range=(-2, 2))
    assert made.verdict.grade == "with caution"
    assert repr(made) == f"Estimate({made.mean()}, 4 pairs, take with caution ({', '.join(made.verdict.about)}))"


def test_a_notebook_shows_the_mean_and_the_first_warnings(mixture):
    denoiser, x, cond = mixture
    made = MMG("gap", Trapezoid(8))(denoiser, x[:4], {"label": cond["label"][:4]}, logsnr_range=(-2, 2))
    many = replace(made, notes=("<b>one</b>", "y" * 900, "three", "four"))
    for result in (made, many):
        shown = result._repr_html_()
        assert f"<b>{result.mean()}</b>, estimate of 4 pairs: {escape(str(result.verdict))}" in shown
        assert shown.count("<li>") == min(4, len(result.warnings()))
        assert len(shown) < 1000
    assert "&lt;b&gt;one&lt;/b&gt;" in shown
    assert f"and {len(many.warnings()) - 3} more: print it" in shown
