"""What a notebook shows of a result fits into a few lines."""

import re
from dataclasses import replace
from html import escape
from inspect import isabstract

import numpy as np
import pytest
import torch

from mmg_diffusers import MMG, Candidates, Finding, Sandwich
from mmg_diffusers.analysis import PathInfluence, decompose, excess
from mmg_diffusers.arrays.counts import Counted
from mmg_diffusers.checks import LONGEST_REPR
from mmg_diffusers.denoisers.check import DenoiserCheck
from mmg_diffusers.denoisers.exact import GaussianReference
from mmg_diffusers.denoisers.selftest import SelfTest
from mmg_diffusers.files.printed import MORE, in_full, in_short
from mmg_diffusers.measure import Density, Grid
from mmg_diffusers.measure.divergence import EntropyEstimator, Interaction
from mmg_diffusers.measure.likelihood import LogLikelihoodRatio
from mmg_diffusers.measure.measured import Measured
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.pipelines.drawing import Drawn
from mmg_diffusers.pipelines.inspection import Inspection
from mmg_diffusers.runs import Outcome
from mmg_diffusers.runs.shard_files import Failure
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, caption_parts
from tests.analysis.test_by_word import reading
from tests.analysis.test_preference import SCORE, preference
from tests.analysis.test_ranking import ranked
from tests.analysis.test_selection import selected

SHORT = 400
FOUND = (Finding("it may be wrong", "precision", "don't"), "it may not be")


@pytest.fixture(scope="module")
def results(pipe):
    sample = Shapes("soft").sample(3, 1)
    options = {"levels": (-4.0, 0.0, 2.0)}
    filtered = pipe.filter(list(sample.images), sample.prompts, Candidates(CAPTIONS), **options)
    estimate = pipe(list(sample.images), sample.prompts, levels=2, logsnr_range=(-1.0, 0.0))
    images, prompts = list(sample.images), sample.prompts
    audited = pipe.audit(images, prompts, [*CAPTIONS[:4], *dict.fromkeys(prompts)], **options)
    likely = pipe.log_likelihood(images, levels=3)
    fitted = pipe.fit(list(Shapes("soft").sample(12, 2).images), [CAPTIONS[k] for k in range(12)], progress=False)
    against = pipe(images, [CAPTIONS[k] for k in range(3)], marginal=fitted, levels=4)
    bound = pipe.filter(images, [CAPTIONS[k] for k in range(3)], CAPTIONS[:3], levels=4)
    spins = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    grid = Density(GaussianReference(1.0), Trapezoid(4), values=Grid(-1, 1, 2))
    probable = grid(GaussianReference(1.0), spins, logsnr_range=(-5.0, 9.0))
    levels = torch.linspace(-4, 4, 50)
    entropy = EntropyEstimator(quadrature=Trapezoid(4))
    return {
        "audit": audited,
        "log-likelihood": likely,
        "ratio": LogLikelihoodRatio(likely, likely),
        "log-probability": probable,
        "their ratio": probable.versus(probable),
        "sandwich": Sandwich(bound, against),
        "fitted": fitted,
        "preference": preference(SCORE),
        "ranked": ranked([[0.7, 0.2, 0.1]] * 3),
        "selected": selected([[1.0, 3.0, 2.0], [6.0, 0.0, 0.0]]),
        "path": PathInfluence(levels.double(), torch.rand(2, 50).double(), torch.rand(2, 50, 3), True),
        "words of prompts": reading(),
        "excess": excess(estimate, torch.zeros(len(estimate)).double()),
        "interaction": Interaction(estimate, estimate),
        "counted": Counted.of(np.arange(60) % 3, np.arange(60) % 2),
        "entropy": entropy(GaussianReference(1.0), torch.zeros(4, 2), logsnr_range=(-1.0, 0.0)),
        "check": DenoiserCheck(*[levels] * 4),
        "self test": SelfTest(levels, {"conditional": levels}, levels, "passed", ("a sentence " * 30,)),
        "inspection": Inspection({f"fact {k}": "of many words" for k in range(40)}, None, {}),
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


def kinds(cls):
    """All results that there are."""
    below = {one for kind in cls.__subclasses__() for one in kinds(kind)}
    return below if isabstract(cls) else {cls, *below}


def test_every_kind_of_result_is_looked_at(results):
    theirs = {kind for kind in kinds(Measured) if kind.__module__.startswith("mmg_diffusers.")}
    assert len(theirs) > 15
    assert theirs <= {type(result) for result in results.values()}


def test_a_repr_is_short_and_has_no_tables_of_numbers(results):
    for name, result in results.items():
        text = repr(result)
        assert len(text) < min(LONGEST_REPR + 40, SHORT), name
        assert text.startswith(type(result).__name__ + "("), name
        assert "tensor([[" not in text, name
        assert not re.search(r"0x[0-9a-f]{6}", text), name


def test_results_that_are_no_means_say_what_they_found(results):
    assert "nats over 3 pairs, from log-SNR -1.00 on" in str(results["influence"])
    assert "over 48 candidates, which hold 3.871 nats" in str(results["classification"])
    assert str(results["outcome"]).startswith("0 pairs, none of them bad\nverdict: ")
    failed = replace(results["outcome"], failures=(Failure(2, "no picture"),), notes=("a", "b"), estimate=None)
    assert str(failed) == "0 pairs, 1 of them bad (.failures); 2 notes (.notes)"
    for name in ("influence", "classification", "outcome"):
        assert results[name]._repr_html_() == f"<pre>{escape(str(results[name]))}</pre>"


def test_print_shows_less_than_four_hundred_characters(results):
    for name, result in results.items():
        assert len(str(result)) < SHORT, name


def test_what_print_leaves_out_is_named():
    head = ["verdict: trust", "1.0000 +- 0.1000 nats"]
    few = "it ends early; give more levels"
    assert in_short(head, [few]) == "\n".join([*head, f"warning: {few}"])
    assert in_short(head, []) == "\n".join(head)
    for number in range(1, 30):
        said = in_short(head, [f"{k} " * number for k in range(10)])
        whole = said.count("warning: ") == 10 and MORE not in said
        assert whole or said.endswith(f"\n{MORE}")
        assert len(said) < SHORT
    note = Finding("the captions are those of the text files", grade="trust")
    assert in_short(head, [few, note]).endswith(f"warning: {few}\nnote: {note}")
    long = in_short(["x" * 380], [few])
    with in_full():
        assert in_short(head, [few] * 9) == "\n".join([*head, *[f"warning: {few}"] * 9])
    assert long == "x" * 380 + f"\n{MORE}"


def test_what_was_found_weighs_as_much_in_a_file(results, tmp_path):
    told = {name: one for name, one in results.items() if isinstance(one, Measured) and hasattr(one, "notes")}
    assert {
        "estimate",
        "preference",
        "ranked",
        "selected",
        "path",
        "excess",
        "counted",
        "log-likelihood",
    } <= told.keys()
    for name, result in told.items():
        result = replace(result, notes=FOUND)
        assert result.verdict.grade == "don't", name
        again = type(result).load(result.save(tmp_path / f"{name}.safetensors"))
        assert again.verdict == result.verdict, name
        assert [(found, found.about, found.grade) for found in again.verdict.findings] == [
            (found, found.about, found.grade) for found in result.verdict.findings
        ], name


def test_few_are_few_whatever_is_asked_of_them(results):
    for name in ("preference", "ranked", "selected", "path", "excess", "log-likelihood", "ratio", "estimate"):
        assert "pairs" in results[name].verdict.about, name
    many = torch.ones(30, 2, dtype=torch.float64)
    assert selected(many.tolist()).verdict.grade == "trust"
    assert ranked([[0.7, 0.2, 0.1]] * 30).verdict.grade == "trust"
    path = PathInfluence(torch.tensor([0.0, 1.0]).double(), many, torch.ones(30, 2, 3), False)
    assert path.verdict.grade == "trust"


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
