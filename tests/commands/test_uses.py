"""The protocols that hold the uses against exact truths: small runs of all, and what their numbers are made of."""

import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance

from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies import uses
from mmg_diffusers.commands.studies.uses import drawings, edits, guidance, judge, laws, memory, orders, selection
from mmg_diffusers.commands.studies.uses.attention import Attention
from mmg_diffusers.commands.studies.uses.schedules import Schedule, scheduled
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.worlds.shapes import CAPTIONS, Factors, Shapes, caption_words
from tests.commands.calling import ROOT, run


@pytest.fixture(scope="module")
def plain():
    made = Networks("shapes-plain", "cpu").load()
    made.set_progress_bar_config(disable=True)
    return made


def test_every_protocol_is_run_and_read_back(tmp_path, capsys):
    script = ROOT / "scripts" / "measure_uses.py"
    run(script, "--quick", "--output", tmp_path)
    said = capsys.readouterr().out
    for name in uses.OWN:
        assert f"### {name}" in said
        assert (tmp_path / name / "table.md").read_text() in said
    for line in (
        "| log q takes 80% of the ceiling's gain |",
        "| the excess rises with every step of copies |",
        "| slope of exact on measured nats 1 ± 0.1 |",
        "3 groups of 4 pictures",
        "4 pictures under each of 12 schedules, 4 steps.",
        "| bar | at most 2 standard errors above the swept optimum | 15% below the best constant | at most 3% of the sweep's",
        "| measured, among candidates, scale 5 |",
        "| at equal rows a caption | 4 rows | 8 rows |",
    ):
        assert line in said
    assert "done in" in said
    run(script, "--quick", "--protocol", "selection", "--output", tmp_path)
    again = capsys.readouterr().out
    assert "done in" not in again
    assert again.strip() in said


def test_unknown_protocols_and_other_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no protocol 'select'; expected selection, memory, edits"):
        uses.study("shapes-plain", uses.Settings.quick(), ("select",), tmp_path)
    (tmp_path / "memory").mkdir()
    uses.study("shapes-plain", uses.Settings.quick(), ("memory",), tmp_path)
    with pytest.raises(ValueError, match="settings"):
        uses.study("shapes-plain", uses.Settings(), ("memory",), tmp_path)


# ---- orders ----


def test_spearman_and_area():
    rising, ties = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert float(orders.spearman(rising, rising.exp())) == pytest.approx(1)
    assert float(orders.spearman(rising, -rising)) == pytest.approx(-1)
    assert float(orders.spearman(rising, ties)) == pytest.approx(2 / 5**0.5)
    assert float(orders.spearman(rising, torch.ones(4))) == 0
    assert orders.area(torch.tensor([1.0, 3.0, 2.0, 2.0]), torch.tensor([False, True, True, False])) == pytest.approx(
        7 / 8
    )


def test_best_of_is_the_mean_over_all_choices():
    generator = torch.Generator().manual_seed(2)
    score, outcome = torch.randn(3, 5, generator=generator), torch.rand(3, 5, generator=generator)
    for count in (1, 2, 4, 5):
        choices = list(itertools.combinations(range(5), count))
        by_hand = [
            sum(float(outcome[g, max(some, key=lambda k: float(score[g, k]))]) for some in choices) / len(choices)
            for g in range(3)
        ]
        assert orders.best_of(score, outcome, count).tolist() == pytest.approx(by_hand)


def test_a_bootstrap_has_the_error_of_a_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = orders.with_error(400, lambda rows: float(values[rows].mean()))
    assert found.value == pytest.approx(float(values.mean()))
    assert found.stderr == pytest.approx(float(values.std()) / 20, rel=0.15)
    value, low, high = orders.with_interval(400, lambda rows: float(values[rows].mean()))
    assert low < value < high
    assert high - low == pytest.approx(4 * found.stderr, rel=0.15)


# ---- selection ----


def test_the_checker_is_the_ceiling():
    sample = Shapes("soft").sample(64, 8)
    read = judge.read_log_p(sample.images, sample.caption)
    exact = np.log(Shapes("soft").posterior(sample.factors)[np.arange(64), sample.caption])
    assert np.abs(np.exp(read) - np.exp(exact)).max() < 0.15
    hard = Shapes("hard").sample(64, 8)
    assert judge.read_right(hard.images, hard.caption).all()
    assert judge.read_right(hard.images, (hard.caption + 1) % 48).mean() == 0


def test_coverage_falls_with_variety():
    true = Shapes("soft").sample_factors(400, 1)[1]
    fresh = Shapes("soft").sample_factors(200, 2)[1]
    whole = judge.covered(true, fresh)
    assert whole > 0.6
    assert judge.covered(true, fresh[:20]) < whole / 2
    assert judge.covered(true, true) == 1


def test_shares_of_the_ceilings_gain():
    right = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    part = {
        "caption": [0] * 4 + [1] * 4 + [2] * 4,
        "right": right.flatten().tolist(),
        "judged": right.flatten().tolist(),
        "factors": {name: [0.0] * 12 for name in ("hue", "size", "position")} | {"shape": [0] * 12},
        "scores": {"ceiling": right.flatten().tolist(), "gap": [1.0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]},
        "rows": {"gap": 8},
        "drawing": 8,
    }
    pool = selection.Pool.of({"parts": [part], "settings": {"n": 4, "steps": 8}})
    # The ceiling finds both right pictures of 4, against a quarter of them at random; the gap finds one.
    assert float(pool.gain("ceiling", 4).sum()) == pytest.approx(1.5)
    assert pool.share("gap", 4).value == pytest.approx(0.5 / 1.5)
    assert "(of 2)" in next(line for line in selection.equal_rows(pool) if "noise, gap" in line)


# ---- memorisation ----


def test_the_law_of_the_pictures_is_closed():
    law = memory.Pictures()
    drawn = law.sample(20_000, 3)
    covariance = law.root @ law.root.T
    cross = covariance @ law.reads.T
    joint = torch.cat([torch.cat([covariance, cross], 1), torch.cat([cross.T, law.law.covariance_matrix], 1)])
    exact = GaussianDenoiser(joint, len(covariance)).mutual_information()
    off = float(drawn.exact.mean()) - exact
    assert abs(off) < 4 * float(drawn.exact.std()) / 20_000**0.5


def test_a_network_says_more_of_what_it_was_shown_often():
    settings = memory.Settings(alone=256, planted=8, copies=(200,), steps=700, width=96, levels=6, seeds=(1,))
    found = memory.looked_for(settings, 5)
    copies, nats = torch.tensor(found["copies"]), torch.tensor(found["nats"])
    assert float(nats[copies == 200].mean()) > float(nats[copies == 0].mean()) + 1
    assert found["rows"] == 4 * settings.levels
    said = "\n".join(memory.memory_lines({"parts": [found]}))
    assert "| copies | 0 | 1 | 200 |" in said


# ---- edits ----


def test_exact_words_are_those_of_the_world():
    sample = Shapes("soft").sample(200, 4)
    kind = np.arange(200) % 4
    found = edits.exact_word(sample.factors, sample.caption, kind).numpy()
    # Words are independent given the picture: the four of a caption make up its posterior.
    whole = sum(edits.exact_word(sample.factors, sample.caption, np.full(200, k)).numpy() for k in range(4))
    exact = np.log(Shapes("soft").posterior(sample.factors)[np.arange(200), sample.caption])
    assert whole == pytest.approx(exact, abs=1e-9)
    assert (found <= 1e-12).all()


def test_slopes_and_kinds():
    kind = torch.tensor([0, 0, 0, 1, 1, 1])
    one = torch.tensor([1.0, 2, 3, 10, 20, 30])
    assert edits.within_kinds(one, torch.tensor([5.0, 6, 7, 3, 2, 1]), kind) == pytest.approx(0)
    assert edits._slope(one, 0.5 * one + 3) == pytest.approx(0.5)


def test_attention_is_shared_by_the_tokens(plain):
    prompts = [CAPTIONS[0], CAPTIONS[30]]
    with Attention(plain.pipe.unet) as seen:
        draw(plain, prompts, steps=2)
    count = len(plain.pipe.tokenizer(prompts[0], padding="max_length").input_ids)
    total = sum(seen.maps([token, token], 8) for token in range(count))
    assert total.shape == (2, len(seen.names), 8, 8)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
    assert not any(part._forward_pre_hooks for part in plain.pipe.unet.modules())
    assert edits._token(plain, CAPTIONS[0], "colour") == 3
    with pytest.raises(ValueError, match="Linear has no cross attention"):
        Attention(torch.nn.Linear(1, 1))


def test_swaps_change_one_word(plain):
    swaps = edits.Swaps.of(plain, 8, 1, 3)
    words = caption_words(np.arange(48))
    off = words[swaps.before] != words[swaps.after]
    assert (off.sum(1) == 1).all()
    assert off.argmax(1).tolist() == swaps.kind.tolist()
    truths = swaps.truths()
    assert all(values.shape == (8,) and bool((values >= 0).all()) for values in truths.values())
    assert math.isclose(float(swaps.change().max()), float(np.abs(swaps.drawn - swaps.redrawn).sum(3).max()))


# ---- guidance ----


def test_a_schedule_is_as_strong_as_it_is_asked_to_be():
    whole, part = Schedule.within(8, 0, 8, 2.0), Schedule.within(8, 3, 5, 2.0)
    assert whole.scales == (3.0,) * 8
    assert part.scales == (1.0, 1.0, 1.0, 9.0, 9.0, 1.0, 1.0, 1.0)
    assert part.strength == whole.strength == 2.0
    assert (whole.rows, part.rows) == (16, 10)
    assert (whole.inside, part.inside) == ((0, 8), (3, 5))
    with pytest.raises(ValueError, match="no step has guidance"):
        _ = Schedule((1.0, 1.0)).inside


def test_a_schedule_follows_the_guider():
    # Half a step into the first and the last of its steps, as `Influence.fractions` has it.
    guider = ClassifierFreeGuidance(5.0, start=2.5 / 8, stop=6.5 / 8)
    assert Schedule.of(guider, 8).scales == (1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0)
    assert Schedule.of(ClassifierFreeGuidance(3.0), 2).scales == (3.0, 3.0)


def test_schedules_draw_what_the_pipeline_draws(plain):
    prompts = [CAPTIONS[0], CAPTIONS[30]]
    none, constant, late = Schedule((1.0,) * 3), Schedule((3.0,) * 3), Schedule((1.0, 1.0, 6.0))
    found = scheduled(plain, prompts, [none, constant, late], 5)
    np.testing.assert_allclose(found[none], draw(plain, prompts, steps=3, seed=5).images, atol=1e-5)
    with pytest.warns(UserWarning, match="guidance 3"):
        guided = draw(plain, prompts, steps=3, guidance=3.0, seed=5).images
    np.testing.assert_allclose(found[constant], guided, atol=1e-5)
    # It begins as the one without guidance does, and ends as neither.
    assert np.abs(found[late] - found[none]).max() > 0.01
    alone = scheduled(plain, prompts, [late], 5)[late]
    np.testing.assert_allclose(alone, found[late], atol=1e-5)


def test_captions_have_one_law_once_they_are_turned():
    for variant in ("soft", "hard"):
        law = laws.Law.of(variant)
        captions, factors = Shapes(variant).sample_factors(40_000, 5)
        assert laws.Law.held_by(laws.placed(captions, factors)).distance(law) < 0.03
        for word in range(2):
            own = caption_words(captions)[:, 0] == word
            assert laws.Law.held_by(laws.placed(captions[own], factors[own])).distance(law) < 0.03
    assert laws.Law.of("soft").covariance.diagonal().tolist() == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-6)


def test_the_distance_is_that_of_normal_laws():
    one = laws.Law(torch.zeros(2).double(), torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double())
    other = laws.Law(torch.tensor([3.0, 0.0]).double(), torch.tensor([[1.0, 0.0], [0.0, 9.0]]).double())
    # Along the axes: 3^2 + (2 - 1)^2 + (1 - 3)^2.
    assert one.distance(other) == pytest.approx(14**0.5)
    assert one.distance(one) == pytest.approx(0, abs=1e-6)
    # A wrong shape is two corners away: of a share e of them the square is 2 e.
    captions, factors = Shapes("hard").sample_factors(4_000, 6)
    wrong = np.where(np.arange(4_000) % 10 == 0, (factors.shape + 1) % 3, factors.shape)
    moved = Factors(factors.hue, factors.size, factors.position, wrong)
    off = laws.Law.held_by(laws.placed(captions, moved)).distance(laws.Law.held_by(laws.placed(captions, factors)))
    assert off == pytest.approx(0.2**0.5, rel=0.02)


def _of_known_distance(shifts, seed):
    """Pictures of the hard law whose size is off by a share of its range, under each schedule."""
    captions, factors = Shapes("hard").sample_factors(256, seed)
    inwards = np.where(caption_words(captions)[:, 0] == 0, 1, -1)
    parts = []
    for rows in (slice(0, 128), slice(128, 256)):
        read = {}
        for name, shift in shifts.items():
            moved = factors.size[rows] + shift * inwards[rows]
            kinds = {"hue": factors.hue[rows], "size": moved, "position": factors.position[rows]}
            read[name] = {
                "factors": {kind: own.tolist() for kind, own in kinds.items()}
                | {"shape": factors.shape[rows].tolist()},
                "right": [True] * 128,
                "judged": [name != "none"] * 128,
            }
        parts.append({"caption": captions[rows].tolist(), "read": read})
    return {"parts": parts, "schedules": {name: [1.0, 2.0] for name in shifts}}


def test_a_sweep_is_chosen_on_one_half_and_read_on_the_other():
    shifts = {"none": 0.4, "constant 2": 0.2, "constant 3": 0.3, "swept 0-2 at 1": 0.1, "measured": 0.1}
    made = drawings.Drawings.of(_of_known_distance(shifts, 8), "hard")
    assert made.best(made.named("constant ")) == ("constant 2", "constant 2")
    best, own = drawings.always("swept 0-2 at 1"), drawings.always("measured")
    assert made.further(own, best) == Value(0.0, 0.0, "share")
    assert made.ratio(own, drawings.always("constant 2")).value == pytest.approx(-0.5, abs=0.1)
    assert made.share("judged", drawings.always("none")).value == 0
    # Each half is drawn from with replacement by itself.
    first, second = made.halves(torch.randint(256, (256,), generator=torch.Generator().manual_seed(1)))
    assert int(first.max()) < 128 <= int(second.min())
    assert len(first) == len(second) == 128


def test_an_odd_number_of_seeds_has_no_halves():
    with pytest.raises(ValueError, match="there are 3 seeds; expected an even number"):
        guidance.Settings(seeds=(1, 2, 3))
