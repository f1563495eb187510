"""What a reading of words says, of numbers that are known."""

import math
from dataclasses import replace

import pytest
import torch

import mmg_diffusers
from mmg_diffusers.analysis import Words
from mmg_diffusers.analysis.by_word import SharedByTwo
from mmg_diffusers.analysis.doubts import AMONG, verdict_of
from mmg_diffusers.measure.verdict import Finding, Verdict

DOUBTED = Verdict((Finding("it may be no prompt", "context"), Finding("they differ", "certificate", "don't")))


def reading(**changes):
    """Two prompts: "a red <b>" with two words, "a red dot" with one."""
    later = torch.tensor([[2.0, 1.5, 0.5, 0.0], [-1.0, -1.0, 0.0, 0.0], [4.0, 4.0, 3.0, 0.0]], dtype=torch.float64)
    made = Words(
        prompts=("a red <b>", "a red dot"),
        ids=torch.tensor([7, 9]),
        owner=torch.tensor([0, 0, 1]),
        span=torch.tensor([[2, 5], [6, 9], [2, 5]]),
        labels=("red", "<b>", "red"),
        nats_of_words=later[:, 0],
        error_of_words=torch.tensor([0.3, 0.4, 0.5], dtype=torch.float64),
        logsnr=torch.tensor([-2.0, -1.0, 0.0, 1.0], dtype=torch.float64),
        later=later,
        later_error=torch.zeros_like(later),
        verdicts=(Verdict(), DOUBTED, Verdict()),
        how="masked",
        evaluations=24,
        shared=SharedByTwo(torch.tensor([[0, 1]]), torch.tensor([[0.5, *[math.nan] * 4]], dtype=torch.float64)),
    )
    return replace(made, **changes)


def test_numbers():
    found = reading()
    assert found.words == ("red", "<b>", "red")
    assert found.pair_ids.tolist() == [7, 7, 9]
    # 1 of 2 nats are left between -1 (1.5) and 0 (0.5); 2 of 4 between 0 (3) and 1.
    torch.testing.assert_close(found.half[[0, 2]], torch.tensor([-0.5, 1 / 3], dtype=torch.float64))
    assert found.half[1].isnan()
    means = found.means()
    assert means["red"].value == 3.0
    assert means["red"].stderr == pytest.approx(1.0)
    assert tuple(means["<b>"]) == (-1.0, pytest.approx(0.4))
    # Words of one prompt are not independent: two clusters, whose residuals sum to -7/3 and 7/3.
    value, stderr = found.mean()
    assert value == pytest.approx(5 / 3)
    assert stderr == pytest.approx((2 * 2 * (7 / 3) ** 2) ** 0.5 / 3)
    assert found.shared_means() == {("red", "<b>"): {"interaction": pytest.approx((0.5, math.nan), nan_ok=True)}}


def test_one_label():
    red = reading().of("red")
    assert len(red.owner) == 2
    assert red.influence().half().value == pytest.approx(1 / 7)  # 3 of 6 lie between 0 (3.5) and 1 (0)
    with pytest.raises(ValueError, match="no word 'blue' was read; there are red, <b>"):
        reading().of("blue")


def test_text_coloured_by_nats():
    page = reading().to_html()
    assert page.count("<p>") == 2
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    # The strongest word has the strongest colour; what misinforms has the other.
    assert "rgba(230,120,20,0.60)" in page
    assert "rgba(40,110,220,0.15)" in page
    assert "4.000 ± 0.50 nats; trust; half told at log-SNR 0.33" in page
    assert reading()._repr_html_() == page
    assert "and 1 more" in reading().to_html(1)
    assert len(repr(reading())) < 400
    assert len(str(reading())) < 1200


def test_files_and_merging(tmp_path):
    found = reading(maps=torch.rand(3, 2, 2), maps_error=torch.rand(3, 2, 2))
    read = mmg_diffusers.load(found.save(tmp_path / "w.safetensors"))
    assert isinstance(read, Words)
    for name in ("nats", "half", "maps"):
        torch.testing.assert_close(getattr(read, name), getattr(found, name), equal_nan=True)
    assert read.labels == found.labels
    assert read.verdicts == found.verdicts
    assert read.verdicts[1].about == ("certificate",)
    tensors, record = found.packed()
    before = {name: value for name, value in record.items() if name != "verdicts"}
    assert Words.unpacked(tensors, before | {"grades": ["trust", "don't", "trust"]}).grades == found.grades
    other = replace(found, ids=torch.tensor([1, 2]))
    both = Words.merge([found, other])
    assert both.words == found.words * 2
    assert both.owner.tolist() == [0, 0, 1, 2, 2, 3]
    assert both.shared.entries.tolist() == [[0, 1], [3, 4]]
    with pytest.raises(ValueError, match="ids"):
        Words.merge([found, found])


def test_how_far_a_word_that_was_taken_out_is_believed():
    assert verdict_of(2.0, 0.3, 0.1, 0.05).grade == "with caution"
    assert str(verdict_of(2.0, 0.6, 0.1, 0.05)) == "don't trust (certificate)"  # 0.4 of 2 beyond the error
    assert str(verdict_of(2.0, 0.1, 0.1, 0.4)) == "don't trust (decay)"  # the curve does not end
    assert verdict_of(0.01, 0.02, 0.0, 0.0).grade == "with caution"  # held against 0.2
    said = " ".join(reading().warnings())
    assert "1 of 3 words are not to be trusted (certificate), such as <b>" in said
    assert reading().grades == ("trust", "don't", "trust")
    assert reading().verdict.grade == "with caution"
    assert "no check tells" in " ".join(reading(verdicts=(verdict_of(2.0, 0.3, 0.1, 0.05),) * 3).warnings())


def test_words_among_candidates_are_not_sent_to_candidates():
    (said,) = reading(verdicts=(DOUBTED,) * 3, how=AMONG).warnings()
    assert "3 of 3 words are not to be trusted" in said
    assert "Candidates.vary" not in said
    caution = Verdict((Finding("few pairs", "pairs"),))
    assert reading(verdicts=(caution,) * 3, how=AMONG).warnings() == ()
