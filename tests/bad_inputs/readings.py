"""Records, marginals, calibrations, words, maps, worlds and tasks."""

from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import save_file

from mmg_diffusers import MMG, Calibration, Candidates, Classification, Estimate, Masked, Negatives
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.analysis.maps import auroc, dilate, to_pixels
from mmg_diffusers.analysis.words import (
    all_but,
    decompose,
    decompose_maps,
    isolate,
    pair_surprise,
    parts_by_place,
)
from mmg_diffusers.commands.figures import style
from mmg_diffusers.commands.report import build_report
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.quadrature import StratifiedUniform, Trapezoid
from mmg_diffusers.pairs.marginals import NullPrompt
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.prompts import Word, find_word, replace_word, without, words_of
from mmg_diffusers.worlds.pairs import Pairs, read_pairs, swapped
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, caption_parts, read_images
from mmg_diffusers.worlds.tasks import get_task
from mmg_diffusers.worlds.tasks.maps import Spiral
from tests.bad_inputs.room import IMAGE, RANGE, Room, rows

NAN, INF = float("nan"), float("inf")
PROMPT = "a red circle on red"
MASK = torch.arange(32).reshape(2, 4, 4) % 2 == 0
TASK = "1v1-normal-0.75"


def replaced(name, values):
    """A tensor of a record, replaced."""
    return lambda tensors, _record: tensors.update({name: values.contiguous()})


def one_nan(values):
    """The values, the last of which is not a number."""
    changed = values.clone()
    changed.view(-1)[-1] = NAN
    return changed


def noted(name, value):
    """An entry of a record's header, set."""
    return lambda _tensors, record: record.update({name: value})


def cut(r: Room, share=0.5):
    path = r.estimate.save(r.folder / "e.safetensors")
    body = path.read_bytes()
    path.write_bytes(body[: int(share * len(body))])
    return path


def pickled(r: Room):
    torch.save({"nats": 1.0}, r.folder / "e.safetensors")
    return r.folder / "e.safetensors"


def foreign(r: Room):
    save_file({"x": r.x}, r.folder / "x.safetensors")
    return r.folder / "x.safetensors"


def other(r: Room):
    return MMG("gap", Trapezoid(5))(r.gaussian, r.x, {"y": r.y}, pair_ids=torch.arange(6) + 6, logsnr_range=RANGE)


def fewer(r: Room):
    return MMG("gap", Trapezoid(5))(r.gaussian, r.x[:5], {"y": r.y[:5]}, logsnr_range=RANGE)


def drawn(r: Room):
    return MMG("gap", StratifiedUniform(4))(r.gaussian, r.x, {"y": r.y}, logsnr_range=RANGE)


LEVELS = torch.tensor([-5.0, 3.0], dtype=torch.float64)


def mixture(slots=((0, 1),), prior=((0.5, 0.5),), truth=(0,)):
    return Mixture(("a", "b"), torch.tensor(slots), torch.tensor(prior).double(), torch.tensor(truth))


def zero(r: Room):
    estimate = r.estimate
    return replace(estimate, curve=replace(estimate.curve, gap=0 * estimate.curve.gap))


def posterior(names=("one", "two", "three"), count=4):
    """A comparison of candidates that says nothing."""
    curve = CandidateCurve(torch.zeros(count, 1, 1, len(names)).double(), LEVELS, torch.arange(count), 0)
    return Classification(curve, names, torch.full((len(names),), 1 / len(names), dtype=torch.float64))


ROWS = (
    *rows(
        "Estimate.load(path)",
        ("None", lambda r: Estimate.load(None), TypeError, "the path of the estimate is a NoneType"),
        ("nothing there", lambda r: Estimate.load(r.folder / "x"), FileNotFoundError, "no estimate at"),
        ("a folder", lambda r: Estimate.load(r.folder), FileNotFoundError, "no estimate at"),
        ("an empty file", lambda r: Estimate.load(r.file("e")), ValueError, "no complete estimate"),
        ("text", lambda r: Estimate.load(r.file("e", "this is text")), ValueError, "no complete estimate"),
        ("cut", lambda r: Estimate.load(cut(r)), ValueError, "no complete estimate"),
        ("pickled", lambda r: Estimate.load(pickled(r)), ValueError, "no complete estimate"),
        ("tensors of another kind", lambda r: Estimate.load(foreign(r)), ValueError, "no complete estimate"),
        ("a record of nothing", lambda r: Estimate.load(r.record(lambda t, d: d.clear())), ValueError, "'format'"),
        ("another format", lambda r: Estimate.load(r.record(noted("format", "x"))), ValueError, "format 'x'"),
        (
            "an unknown integrand",
            lambda r: Estimate.load(r.record(noted("integrand", "x"))),
            ValueError,
            "integrand 'x'",
        ),
        ("a range of text", lambda r: Estimate.load(r.record(noted("logsnr_range", ["a", "b"]))), ValueError, "is 'a'"),
        ("evaluations as text", lambda r: Estimate.load(r.record(noted("evaluations", "many"))), ValueError, "'many'"),
        ("a tensor missing", lambda r: Estimate.load(r.record(lambda t, d: t.pop("gap"))), ValueError, "gap"),
        ("a tensor too many", lambda r: Estimate.load(r.record(replaced("more", r.x))), ValueError, "more"),
        (
            "NaN",
            lambda r: Estimate.load(r.record(replaced("gap", r.estimate.curve.gap * NAN))),
            ValueError,
            "a pair without any",
        ),
        (
            "NaN at one level",
            lambda r: Estimate.load(r.record(replaced("gap", one_nan(r.estimate.curve.gap)))),
            ValueError,
            "expected .* finite float64",
        ),
        (
            "a shape that would be broadcast",
            lambda r: Estimate.load(r.record(replaced("weight", r.estimate.curve.weight[:1]))),
            ValueError,
            r"weight is \(1, 1, 4\)",
        ),
        (
            "a pair twice",
            lambda r: Estimate.load(r.record(replaced("pair_ids", torch.zeros(6).long()))),
            ValueError,
            "6 different int64",
        ),
    ),
    *rows(
        "Filtered.load, .merge, .classification; CandidateCurve.load",
        ("load, None", lambda r: Filtered.load(None), TypeError, "the path of the filter is a NoneType"),
        ("load, nothing there", lambda r: Filtered.load(r.folder / "x"), FileNotFoundError, "no filter at"),
        ("load, text", lambda r: Filtered.load(r.file("f", "this is text")), ValueError, "no complete filter"),
        ("load, an estimate", lambda r: Filtered.load(r.estimate.save(r.folder / "e")), ValueError, "format"),
        ("merge of nothing", lambda r: Filtered.merge([]), ValueError, "no filter to merge"),
        ("merge of estimates", lambda r: Filtered.merge([r.estimate]), TypeError, "is a Estimate; expected a Filtered"),
        (
            "CandidateCurve.load, nothing there",
            lambda r: CandidateCurve.load(r.folder / "x"),
            FileNotFoundError,
            "no comp",
        ),
        (
            "CandidateCurve.load, text",
            lambda r: CandidateCurve.load(r.file("f", "text")),
            ValueError,
            "no complete comp",
        ),
        (
            "scores with NaN",
            lambda r: CandidateCurve(torch.full((1, 1, 1, 2), NAN).double(), LEVELS, torch.arange(1), 0),
            ValueError,
            "expected finite float64",
        ),
        (
            "levels that fall",
            lambda r: CandidateCurve(torch.zeros(1, 1, 1, 2).double(), LEVELS.flip(0), torch.arange(1), 0),
            ValueError,
            "do not rise",
        ),
        (
            "innovations with NaN",
            lambda r: CandidateCurve(
                torch.zeros(1, 1, 1, 2).double(),
                LEVELS,
                torch.arange(1),
                0,
                innovation=torch.full((1, 1, 1), NAN).double(),
            ),
            ValueError,
            "the innovations of a comparison are torch.float64; expected finite",
        ),
        (
            "innovations of other draws",
            lambda r: CandidateCurve(
                torch.zeros(1, 1, 1, 2).double(), LEVELS, torch.arange(1), 0, innovation=torch.zeros(1, 2, 1).double()
            ),
            ValueError,
            r"expected \(1, 1, 1\)",
        ),
        (
            "squares of no dimensions",
            lambda r: CandidateCurve(
                torch.zeros(1, 1, 1, 2).double(), LEVELS, torch.arange(1), 0, square=torch.ones(1).double()
            ),
            ValueError,
            r"of 0 dimensions; expected \(1,\)",
        ),
        ("a mixture of other names", lambda r: mixture(slots=[[0, 2]]), ValueError, "slots of a mixture must be"),
        ("a mixture with a prior of sum 2", lambda r: mixture(prior=[[1.0, 1.0]]), ValueError, "do not sum to 1"),
        ("a mixture with a truth of 2", lambda r: mixture(truth=[2]), ValueError, "truths of a mixture must be"),
    ),
    *rows(
        "Estimate.merge, .using, .pixel_map, .save; influence(estimate); build_report; style",
        ("merge of nothing", lambda r: Estimate.merge([]), ValueError, "no estimate to merge"),
        (
            "merge of one, not in a list",
            lambda r: Estimate.merge(r.estimate),
            TypeError,
            "expected a list of estimates",
        ),
        ("mean, 2 labels", lambda r: r.estimate.mean(["a", "b"]), ValueError, "2 cluster labels for"),
        ("mean, labels as text", lambda r: r.estimate.mean("abcdef"), TypeError, "cluster is a str"),
        (
            "mean, one label",
            lambda r: r.estimate.mean(["a"] * len(r.estimate)),
            ValueError,
            "all pairs are in one cluster",
        ),
        ("merge of numbers", lambda r: Estimate.merge([1, 2]), TypeError, "is a int; expected a Estimate"),
        ("merge, a pair twice", lambda r: Estimate.merge([r.estimate, r.estimate]), ValueError, "more than one shard"),
        ("merge of other settings", lambda r: Estimate.merge([r.estimate, other(r)]), ValueError, "different settings"),
        ("using('nats')", lambda r: r.estimate.using("nats"), ValueError, "unknown integrand 'nats'"),
        ("pixel_map, not kept", lambda r: r.estimate.pixel_map(), ValueError, "keep='pixel'"),
        ("save over a folder", lambda r: r.estimate.save(r.folder), OSError, "cannot write"),
        ("save below a file", lambda r: r.estimate.save(r.file("a") / "b"), OSError, "cannot write .*b "),
        ("influence of drawn levels", lambda r: influence(drawn(r)), ValueError, r"quadrature=Trapezoid\(levels\)"),
        ("influence on no such axis", lambda r: influence(r.estimate).on("x"), ValueError, "axis is 'x'"),
        (
            "influence over an unknown time",
            lambda r: influence(r.estimate).on("tau"),
            ValueError,
            "a matter of the network",
        ),
        (
            "influence beyond its levels",
            lambda r: influence(r.estimate).at(99.0),
            ValueError,
            "logsnr is 99; expected one",
        ),
        ("influence of zero, half of it", lambda r: influence(zero(r)).half(), ValueError, "no half of it"),
        ("a report of other pairs", lambda r: build_report(r.estimate, [IMAGE], ["a"]), ValueError, "got 1 images"),
        (
            "a report of bad images",
            lambda r: build_report(r.estimate, [IMAGE * 9] * 6, ["a"] * 6),
            ValueError,
            "by 255",
        ),
        (
            "a report with a model of fewer pairs",
            lambda r: build_report(r.estimate, [IMAGE] * 6, ["a"] * 6, others={"another": fewer(r)}),
            ValueError,
            "got another of 5 images",
        ),
        ("a style of no width", lambda r: style(0), ValueError, "width is 0; expected inches"),
        ("a style of unknown parts", lambda r: style(font_sise=3), ValueError, "no parameter font_sise"),
    ),
    *rows(
        "Candidates, Negatives",
        ("no candidate", lambda r: Candidates([]), ValueError, "got 0 candidates; expected a list of at least two"),
        ("a number", lambda r: Candidates(3), TypeError, "the candidates are 3"),
        ("a number with a fraction among them", lambda r: Candidates(["a", 3.5]), TypeError, "candidate 1 is a float"),
        ("a truth value among them", lambda r: Candidates(["a", True]), TypeError, "candidate 1 is a bool"),
        ("a number below 0 among them", lambda r: Candidates(["a", -1]), ValueError, "number of a class is -1"),
        ("two groups for three", lambda r: Candidates(("a", "b", "c"), groups=(1, 2)), ValueError, "2 groups for 3"),
        ("groups=5", lambda r: Candidates(["a", "b"], groups=5), TypeError, "groups is a int"),
        ("Negatives(0)", lambda r: Negatives(0), ValueError, "count is 0; expected at least 1 negative"),
        ("Negatives(1.5)", lambda r: Negatives(1.5), TypeError, "count is 1.5"),
        ("Negatives(3, seed=-1)", lambda r: Negatives(3, seed=-1), ValueError, "seed is -1"),
        (
            "as many negatives as pairs",
            lambda r: Negatives(2).mixture(["a", "b"], torch.arange(2)),
            ValueError,
            "need 3",
        ),
    ),
    *rows(
        "Calibration, Classification",
        ("a negative trust", lambda r: Calibration((), (-1.0,)), ValueError, "non-negative factor"),
        ("one trust for two bands", lambda r: Calibration((0.0,), (1.0,)), ValueError, "non-negative factor"),
        ("a trust of NaN", lambda r: Calibration((), (NAN,)), ValueError, "trust is nan"),
        ("a trust as a number", lambda r: Calibration((), 0.5), TypeError, "trust is a float"),
        ("edges that fall", lambda r: Calibration((1.0, 0.0), (1.0,) * 3), ValueError, "non-negative factor a band"),
        ("a temperature of two bands", lambda r: Calibration((0.0,), (1.0, 1.0)).temperature, ValueError, "no single"),
        (
            "calibrate, labels of two",
            lambda r: posterior().calibrate([0] * 4, parts={"kind": "ab"}),
            ValueError,
            "part 'kind' has 2 labels for 3 candidates",
        ),
        ("of_group, two groups", lambda r: posterior().of_group([0] * 4, [1, 2]), ValueError, "2 groups for 3"),
        ("all_but, no such part", lambda r: all_but(caption_parts(), "texture"), ValueError, "no part 'texture'"),
        (
            "decompose, a part twice, once as context",
            lambda r: decompose(posterior(CAPTIONS), [0] * 4, caption_parts(), "size", "side", given=("side",)),
            ValueError,
            "'side' twice",
        ),
        (
            "decompose, a part twice",
            lambda r: decompose(posterior(CAPTIONS), [0] * 4, caption_parts(), "size", "size"),
            ValueError,
            "'size' twice",
        ),
    ),
    *rows(
        "Classification.bound, .pointwise, .calibrate (truth)",
        *(
            (
                f"{method}, {wrong}",
                lambda r, method=method, truth=truth: getattr(posterior(), method)(truth),
                error,
                says,
            )
            for method in ("bound", "pointwise", "calibrate")
            for wrong, truth, error, says in (
                ("three truths for four", ["one"] * 3, ValueError, "3 true candidates for 4"),
                ("an unknown name", ["four"] * 4, ValueError, "'four' is not among"),
                ("index 3", [3] * 4, ValueError, r"0\.\.2"),
                ("index -1", [-1] * 4, ValueError, r"0\.\.2"),
                ("index 1.5", [1.5] * 4, TypeError, "a true candidate is 1.5"),
                ("a single text", "four", TypeError, "a list of 4 names or indices"),
            )
        ),
    ),
    *rows(
        "find_word, replace_word, Masked",
        ("no text", lambda r: find_word(3, "a"), TypeError, "the prompt is a int"),
        ("no word", lambda r: find_word(PROMPT, None), TypeError, "the word is a NoneType"),
        (
            "a word that is not there",
            lambda r: Masked(PROMPT, "blue"),
            ValueError,
            "no 'blue'.*words are a, red, circle, on",
        ),
        ("a part of a word", lambda r: Masked(PROMPT, "re"), ValueError, "no 're'"),
        ("a space", lambda r: Masked(PROMPT, " "), ValueError, "word is empty"),
        ("a word that occurs twice", lambda r: Masked(PROMPT, "red"), ValueError, "occurs 2 times.*occurrence=0 to 1"),
        ("occurrence=2", lambda r: Masked(PROMPT, "red", 2), ValueError, "occurrence is 2"),
        ("occurrence=-1", lambda r: Masked(PROMPT, "red", -1), ValueError, "occurrence is -1"),
        ("occurrence='first'", lambda r: Masked(PROMPT, "red", "first"), TypeError, "occurrence is 'first'"),
        ("by=None", lambda r: replace_word(PROMPT, "circle", None), TypeError, "is a NoneType; expected text"),
    ),
    *rows(
        "Word, without, isolate, parts_by_place, pair_surprise, decompose_maps",
        ("Word()", lambda r: Word(), ValueError, "by its text or by its place"),
        ("Word('a', 1)", lambda r: Word("a", 1), ValueError, "by its text or by its place"),
        ("Word(3)", lambda r: Word(3), TypeError, "the word is a int"),
        ("Word(place=-1)", lambda r: Word(place=-1), ValueError, "the place of a word is -1"),
        ("Word.parse('@x')", lambda r: Word.parse("@x"), ValueError, "no place of a word"),
        ("Word.parse(' ')", lambda r: Word.parse(" "), ValueError, "the word is empty"),
        ("Word(place=9).find", lambda r: Word(place=9).find(PROMPT), ValueError, "no word @9"),
        ("Word.find, no text", lambda r: Word(place=0).find(None), TypeError, "the prompt is a NoneType"),
        ("Word.find, twice there", lambda r: Word("red").find(PROMPT), ValueError, "by its place: @1 or @4"),
        ("words_of(None)", lambda r: words_of(None), TypeError, "the prompt is a NoneType"),
        ("without no words", lambda r: without(PROMPT, []), ValueError, "no words to take out"),
        (
            "without words that overlap",
            lambda r: without(PROMPT, [Word("red circle"), Word("circle")]),
            ValueError,
            "overlap",
        ),
        ("isolate, negatives", lambda r: isolate([Word("red")], [PROMPT], Negatives(1)), ValueError, "cannot isolate"),
        (
            "isolate, candidates and by=",
            lambda r: isolate([Word("circle")], [PROMPT], Candidates(CAPTIONS), by="x"),
            ValueError,
            "leave 'x' out",
        ),
        (
            "isolate, a word that no candidate changes",
            lambda r: isolate([Word("on")], [CAPTIONS[0]], Candidates(CAPTIONS)),
            ValueError,
            "say the same at @4",
        ),
        ("isolate, no such word", lambda r: isolate([Word("blue")], [PROMPT], NullPrompt()), ValueError, "no 'blue'"),
        ("parts_by_place, other lengths", lambda r: parts_by_place(["a b c", "a b"]), ValueError, "numbers of words"),
        ("parts_by_place, the same words", lambda r: parts_by_place(["a b", "a, b"]), ValueError, "the same words"),
        (
            "pair_surprise, another prompt",
            lambda r: pair_surprise(Candidates(["a b", "a c"]), ["d c"], Word(place=0), Word("c")),
            ValueError,
            "'d c' is not among the 2",
        ),
        (
            "decompose_maps, other shapes",
            lambda r: decompose_maps((torch.ones(1), torch.ones(1)), MASK * 1.0, MASK * 1.0, MASK[:1] * 1.0),
            ValueError,
            "differ in shape",
        ),
    ),
    *rows(
        "to_pixels, auroc, dilate",
        ("to_pixels, a list", lambda r: to_pixels([[1.0]], (2, 2)), TypeError, "maps is a list"),
        (
            "to_pixels, a size of 0",
            lambda r: to_pixels(torch.zeros(2, 2), (0, 4)),
            ValueError,
            "is 0; expected at least 1",
        ),
        ("to_pixels, three sides", lambda r: to_pixels(torch.zeros(2, 2), (2, 2, 2)), ValueError, "height and width"),
        ("to_pixels, half a pixel", lambda r: to_pixels(torch.zeros(2, 2), (2.5, 2)), TypeError, "is 2.5, a float"),
        ("to_pixels, NaN", lambda r: to_pixels(torch.full((2, 2), NAN), (2, 2)), ValueError, "finite numbers"),
        (
            "to_pixels, spread='cubic'",
            lambda r: to_pixels(torch.zeros(2, 2), (2, 2), "cubic"),
            ValueError,
            "spread is 'cub",
        ),
        ("auroc, other shapes", lambda r: auroc(torch.rand(2, 2, 8), MASK), ValueError, "a mask of one shape"),
        ("auroc, NaN", lambda r: auroc(torch.full((2, 4, 4), NAN), MASK), ValueError, "expected finite maps"),
        ("auroc, a mask of floats", lambda r: auroc(torch.rand(2, 4, 4), MASK.float()), TypeError, "expected booleans"),
        ("auroc, a full mask", lambda r: auroc(torch.rand(2, 4, 4), MASK | True), ValueError, "empty or full"),
        ("dilate, reach=-1", lambda r: dilate(MASK, -1), ValueError, "reach is -1"),
        ("dilate, a mask of floats", lambda r: dilate(MASK.float(), 1), TypeError, "expected booleans"),
    ),
    *rows(
        "Shapes, read_images",
        ("Shapes('medium')", lambda r: Shapes("medium"), ValueError, "expected 'soft' or 'hard'"),
        ("a prior of two", lambda r: Shapes(prior=[0.5, 0.5]), ValueError, "48 positive probabilities"),
        ("a prior of sum 48", lambda r: Shapes(prior=[1.0] * 48), ValueError, "sum 48"),
        ("a prior with NaN", lambda r: Shapes(prior=[NAN] * 48), ValueError, "probability is nan"),
        ("sample(0)", lambda r: Shapes().sample(0), ValueError, "count is 0; expected at least 1 pair"),
        ("sample(2.5)", lambda r: Shapes().sample(2.5), TypeError, "count is 2.5"),
        ("sample(3, seed=-1)", lambda r: Shapes().sample(3, -1), ValueError, "seed is -1; expected at least 0"),
        ("an unknown word", lambda r: Shapes().conditional_information("weight"), ValueError, "no word 'weight'"),
        ("read_images, another size", lambda r: read_images(np.zeros((2, 16, 16, 3))), ValueError, r"\(2, 16, 16, 3\)"),
        ("read_images, 0 to 255", lambda r: read_images(np.full((1, 32, 32, 3), 255.0)), ValueError, "divide 8-bit"),
        ("read_images, a path", lambda r: read_images("a.png"), TypeError, "images is a str"),
    ),
    *rows(
        "Pairs, read_pairs, swapped",
        ("Pairs('medium')", lambda r: Pairs("medium"), ValueError, "expected 'soft' or 'hard'"),
        ("sample(0)", lambda r: Pairs().sample(0), ValueError, "count is 0; expected at least 1 pair"),
        ("sample(3, seed=-1)", lambda r: Pairs().sample(3, -1), ValueError, "seed is -1; expected at least 0"),
        ("read_pairs, another size", lambda r: read_pairs(np.zeros((2, 32, 32, 3))), ValueError, r"\(2, 32, 32, 3\)"),
        ("read_pairs, 0 to 255", lambda r: read_pairs(np.full((1, 16, 16, 3), 255.0)), ValueError, "divide 8-bit"),
        ("read_pairs, a path", lambda r: read_pairs("a.png"), TypeError, "images is a str"),
        ("swapped, another kind", lambda r: swapped(np.arange(3), "size"), ValueError, "no swap 'size' of a caption"),
    ),
    *rows(
        "get_task(key), Task.sample(n, seed)",
        ("an unknown key", lambda r: get_task("x"), ValueError, r"no task 'x'; expected a key of bmi_tasks\(\)"),
        (
            "a key cut short",
            lambda r: get_task("multinormal-sparse-3-3"),
            ValueError,
            "no task 'multinormal-sparse-3-3'.*'multinormal-sparse-3-3-2-",
        ),
        ("a number", lambda r: get_task(3), TypeError, "the key is a int"),
        ("n=0", lambda r: get_task(TASK).sample(0, 0), ValueError, "n is 0; expected at least 1"),
        ("n=1e4", lambda r: get_task(TASK).sample(1e4, 0), TypeError, "n is 10000.0, a float"),
        ("seed=-1", lambda r: get_task(TASK).sample(10, -1), ValueError, "seed is -1; expected at least 0"),
        ("seed=None", lambda r: get_task(TASK).sample(10, None), TypeError, "seed is None"),
        (
            "a spiral without its plane",
            lambda r: Spiral(1, 2)(np.zeros((4, 2))),
            ValueError,
            "turns coordinates 1 and 2",
        ),
    ),
)
