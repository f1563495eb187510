"""The binding protocol and ARO's: what is asked, who is right, what copies of data hold; small runs of both."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mmg_diffusers.commands.studies.uses import aro, binding, towers
from mmg_diffusers.commands.studies.uses.shuffles import PLAIN, TAGGED, plain_caption, shuffles
from mmg_diffusers.worlds.pairs import CAPTIONS, Pairs, reworded
from mmg_diffusers.worlds.shapes import Shapes
from tests.commands.calling import ROOT, run

SCRIPT = ROOT / "scripts" / "measure_uses.py"


# ---- words in another order ----


def test_shuffles_move_the_words_that_they_say():
    caption = "a small dog chases the big red ball"
    tags = ["", "adjective", "noun", "", "", "adjective", "adjective", "noun"]
    seen = {way: set() for way in (*TAGGED, *PLAIN)}
    for seed in range(60):
        for way, text in shuffles(caption, tags, np.random.default_rng(seed)).items():
            assert sorted(text.split()) == sorted(caption.split())
            assert text != caption
            seen[way].add(text)
    words = caption.split()
    for text in seen["nouns and adjectives"]:
        moved = text.split()
        assert [moved[k] for k in (0, 3, 4)] == ["a", "chases", "the"]
        assert {moved[2], moved[7]} == {"dog", "ball"}
    for text in seen["all but nouns and adjectives"]:
        assert [text.split()[k] for k in (1, 2, 5, 6, 7)] == [words[k] for k in (1, 2, 5, 6, 7)]
    for text in seen["within trigrams"]:
        assert [sorted(text.split()[k : k + 3]) for k in (0, 3, 6)] == [sorted(words[k : k + 3]) for k in (0, 3, 6)]
    assert seen["trigrams"] <= {
        " ".join(word for k in order for word in words[3 * k : 3 * k + 3])
        for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    }
    # 2 ways of the nouns times 6 of the adjectives, one of which is the caption.
    assert len(seen["nouns and adjectives"]) == 11
    assert set(shuffles(caption, None, np.random.default_rng(0))) == set(PLAIN)


def test_shuffles_leave_out_what_can_not_be_told():
    rng = np.random.default_rng(0)
    assert shuffles("red", ["adjective"], rng) == {}
    assert set(shuffles("red ball", ["adjective", "noun"], rng)) == {"within trigrams"}
    assert shuffles("red ball", ["adjective", "noun"], rng, lambda text: text == "ball red") == {}
    with pytest.raises(ValueError, match="1 tags for the 2 words of 'red ball'"):
        shuffles("red ball", ["noun"], rng)


def test_captions_are_read_as_the_protocol_reads_them():
    assert plain_caption("A Red ball;  on (the) grass.\n") == "a red ball on the grass"
    assert plain_caption("a b c d", most=2) == "a b"


# ---- what is asked ----


@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_false_texts_say_another_thing(variant):
    whole = binding.asked(variant, 60, 3)
    assert len(whole.images) == len(whole.caption) == 60
    true = whole.true
    alike = [CAPTIONS[k] for k in reworded(whole.caption)]
    for kind, false in whole.false.items():
        assert len(false) == (4 if kind == "order" else 1)
        for texts in false:
            assert all(text not in both for text, *both in zip(texts, true, alike, strict=True))
            assert all(sorted(text.split()) == sorted(own.split()) for text, own in zip(texts, true, strict=True))
    ((colour, noun, way, other, last),) = re.findall(r"^a (\w+) (\w+) (.+) a (\w+) (\w+)$", true[0])
    assert whole.false["attribute"][0][0] == f"a {other} {noun} {way} a {colour} {last}"
    assert whole.false["noun"][0][0] == f"a {colour} {last} {way} a {other} {noun}"
    assert whole.false["relation"][0][0] == f"a {other} {last} {way} a {colour} {noun}"


def test_the_ceiling_is_exact_bayes():
    whole = binding.asked("soft", 200, 4)
    posterior = Pairs("soft").posterior(whole.factors)
    true = binding.exact(whole.factors, whole.true)
    assert true.tolist() == [posterior[k, CAPTIONS.index(text)] for k, text in enumerate(whole.true)]
    orders = torch.stack([binding.exact(whole.factors, texts) for texts in whole.false["order"]])
    # What is no caption cannot be, so that only nouns and adjectives that changed places can be.
    assert (orders[1:] == 0).float().mean() > 0.9
    assert 0.9 < float(binding.right(true, orders).mean()) <= 1
    swap = binding.exact(whole.factors, whole.false["attribute"][0])
    # No rule that sees the picture is right oftener: where both can be, the more probable one is taken.
    assert float(binding.right(true, swap[None]).mean()) == pytest.approx(
        float((true > swap).double().mean()), abs=0.01
    )
    hard = binding.asked("hard", 200, 4)
    for kind, false in hard.false.items():
        told = torch.stack([binding.exact(hard.factors, texts) for texts in false])
        assert float(binding.right(binding.exact(hard.factors, hard.true), told).min()) == 1, kind


def test_who_is_right():
    true = torch.tensor([1.0, 1.0, 1.0, 0.0])
    false = torch.tensor([[0.0, 1.0, 2.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    assert binding.right(true, false).tolist() == pytest.approx([1, 1 / 2, 0, 1 / 3])


def result_of(nats):
    """What `binding` gives where every comparison comes out by so many nats."""
    kinds = {kind: 4 if kind == "order" else 1 for kind in binding.KINDS}
    part = {
        kind: {"nats": [[nats] * 40] * many, "stderr": [[0.1] * 40] * many, "rows": 80 * many}
        for kind, many in kinds.items()
    }
    classified = {kind: [[1.0, -1.0] * 20] * many for kind, many in kinds.items()}
    return {"compared": {"hard": [part]}, "classified": {"hard": classified}, "pairs": 40, "seed": 3}


@pytest.mark.parametrize(("nats", "share", "met"), [(2.0, 1.0, "yes"), (-2.0, -1.0, "no"), (0.0, 0.0, "no")])
def test_shares_of_the_ceilings_gain_and_bars(nats, share, met):
    rows = binding.found(result_of(nats), "hard")
    assert [own.kind for own in rows] == list(binding.KINDS)
    assert [own.chance for own in rows] == [0.5, 0.5, 0.5, 0.2]
    for own in rows:
        wanted = -0.25 if own.kind == "order" and share < 0 else share
        assert own.share().value == pytest.approx(wanted)
        assert float(own.classifier.mean()) == 0.5
        assert own.rows == (8 if own.kind == "order" else 2)
        assert own.close == (nats == 0)
        assert len(own.alone) == (4 if own.kind == "order" else 1)
        # Half of them is right at random, where nothing is told.
        assert own.alone[0] == (0.5 * (1 + share), 0.5, 1.0)
    said = list(binding.binding_lines(result_of(nats)))
    (line,) = (line for line in said if line.startswith("| hard: colours change places"))
    assert f"| {met} |" in line


# ---- the classifier ----


def test_towers_learn_and_hear_the_order_of_words():
    few = towers.trained_towers(towers.Training(pictures=4096, passes=3))
    sample = Pairs("hard").sample(128, 5)
    true = few.score(sample.images, sample.prompts)
    other = few.score(sample.images, [*sample.prompts[1:], sample.prompts[0]])
    assert float((true > other).double().mean()) > 0.7
    turned = [" ".join(reversed(prompt.split())) for prompt in sample.prompts]
    assert not torch.allclose(few.score(sample.images, turned), true)
    with pytest.raises(ValueError, match="'a pink circle' has no words of Pairs' captions"):
        few.score(sample.images[:1], ["a pink circle"])


def test_towers_see_the_pairs_of_the_training():
    images, captions = towers.trained_pairs(1030)
    assert images.shape == (1030, 3, 16, 16)
    later = Pairs("soft").sample(6, 2**32 + 1024)
    assert captions[1024:].tolist() == later.caption.tolist()
    off = images[1024:].movedim(1, 3).float() / 255 - torch.from_numpy(later.images)
    assert float(off.abs().max()) < 1 / 500


# ---- copies of ARO ----


@pytest.fixture
def copy(tmp_path):
    """A folder as ARO's data lie, with pictures of Shapes in the left upper corner of larger ones."""
    folder = tmp_path / "aro"
    (folder / "images").mkdir(parents=True)
    (folder / "val2014").mkdir()
    sample = Shapes("hard").sample(5, 2)
    box = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 32, "bbox_h": 32}
    relations, attributions, orders = [], [], []
    for k, (image, prompt) in enumerate(zip(sample.images, sample.prompts, strict=True)):
        small = Image.fromarray((255 * image).round().astype(np.uint8))
        small.save(folder / "val2014" / f"{k}.png")
        large = Image.new("RGB", (80, 60), "white")
        large.paste(small)
        large.save(folder / "images" / f"{k}.png")
        side = prompt.split()[-1]
        false = prompt.replace(side, "left" if side == "right" else "right")
        pair = {"image_path": f"{k}.png", **box, "true_caption": prompt, "false_caption": false}
        relations.append({**pair, "relation_name": f"on the {side}"})
        attributions.append({**pair, "attributes": ["small", "large"]})
        orders.append({"image": f"val2014/{k}.png", "caption": [prompt.capitalize() + ".", prompt]})
    orders[0] = {"image": "val2014/0.png", "caption_options": ["a b", "b a", "a b", "b a", "c a"]}
    for name, items in (
        ("visual_genome_relation", relations),
        ("visual_genome_attribution", attributions),
        ("coco_karpathy_test", orders),
    ):
        (folder / f"{name}.json").write_text(json.dumps(items))
    return folder, sample


def test_cases_are_those_of_the_files(copy):
    folder, sample = copy
    cases = aro.read_cases(folder / "visual_genome_relation.json")
    assert [case.texts[0] for case in cases] == sample.prompts
    assert all(case.texts[0].split()[:-1] == case.texts[1].split()[:-1] for case in cases)
    assert cases[0].group == "on the " + sample.prompts[0].split()[-1]
    for case, image in zip(cases, sample.images, strict=True):
        assert np.abs(np.asarray(case.picture()) / 255 - image).max() < 1 / 500
    assert aro.read_cases(folder / "visual_genome_attribution.json")[0].group == "small_large"
    orders = aro.read_cases(folder / "coco_karpathy_test.json", seed=1)
    assert len(orders) == 1 + 2 * 4
    assert orders[0].texts == ("a b", "b a", "c a")
    assert orders[1].texts[0] == orders[2].texts[0] == sample.prompts[1]
    assert len(orders[1].texts) == 3
    assert orders[1].picture().size == (32, 32)
    assert aro.read_cases(folder / "coco_karpathy_test.json", seed=1) == orders


def test_other_files_are_refused(copy, tmp_path):
    folder, _ = copy
    file = tmp_path / "cases.json"
    whole = json.loads((folder / "visual_genome_relation.json").read_text())

    def refused(items, said):
        file.write_text(json.dumps(items))
        with pytest.raises(ValueError, match=said):
            aro.read_cases(file)

    refused([], "expected a list of cases")
    refused({"cases": []}, "expected a list of cases")
    refused([{k: v for k, v in whole[0].items() if k != "bbox_w"}], "item 0 of .* is no case of ARO .no 'bbox_w'.")
    refused([whole[0], {"image": "a.png"}], "item 1 of .*no 'caption'")
    refused([{**whole[0], "false_caption": whole[0]["true_caption"]}], "both captions are 'a ")
    refused([3], "item 0 of .* is no case of ARO")
    refused([{**whole[0], "bbox_x": "left"}], "item 0 of .* is no case of ARO")
    file.write_text(json.dumps([{**whole[0], "image_path": "gone.png"}]))
    with pytest.raises(FileNotFoundError, match=r"there is no picture .*gone\.png"):
        aro.read_cases(file)[0].picture()
    outside = aro.Case(folder / "images" / "0.png", ("a", "b"), (100, 0, 120, 20))
    with pytest.raises(ValueError, match=r"holds nothing of .* of 80 x 60 pixels"):
        outside.picture()


def test_a_copy_is_measured_with_any_model(copy, tmp_path, capsys):
    folder, _ = copy
    given = ("--quick", "--aro", folder, "--cases", 4, "--model", "shapes-plain", "--output", tmp_path / "out")
    run(SCRIPT, *given)
    said = capsys.readouterr().out
    assert "### aro" in said
    for task in ("relation | 4", "attribution | 4", "order | 4"):
        assert f"| {task} |" in said
    assert "### selection" not in said
    run(SCRIPT, *given)
    assert "done in" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds none of visual_genome_attribution"):
        run(SCRIPT, "--quick", "--aro", tmp_path, "--output", tmp_path / "none")


def test_lines_count_a_case_as_right_against_all_of_its_texts():
    nats = [[1.0, 2.0], [1.0, -0.1], [0.5, 0.5], [3.0, 0.1]]
    part = {"groups": ["on", "on", "under", "under"], "nats": nats, "rows": 128}
    (line,) = list(aro.aro_lines({"order": [part]}))[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["order", "4", "0.333"]
    assert cells[3].startswith("0.750 ± ")
    assert cells[4:] == ["0.750 (2)", "0.667", "yes", "32"]
