"""Words, pairs of captions, retrieval, selection, guiders, excess."""

import json

import torch

from mmg_diffusers import Candidates, Funnel, Negatives, Sieve, excess
from mmg_diffusers.analysis import PathInfluence
from mmg_diffusers.commands.studies.uses import aro
from mmg_diffusers.measure.influence import Influence
from tests.bad_inputs.room import IMAGE, CommandFailed, rows

RED, BLUE = "a red circle", "a blue circle"
CURVE = Influence(torch.linspace(-2, 2, 5).double(), torch.linspace(1, 0, 5).double()[None], torch.zeros(1, 5).double())

CASE = {"image_path": "gone.png", "true_caption": RED, "false_caption": BLUE, **dict.fromkeys(aro.BOX, 8)}
SOME = torch.tensor([0.0, 1.0]).double()
# What must not be asked: no network, and no folder for results.
UNTOUCHED = (None, None)


def _cases(room, items):
    return aro.read_cases(room.file("cases.json", json.dumps(items)))


ROWS = (
    *rows(
        "Candidates.vary",
        (
            "a word that is not there",
            lambda _: Candidates.vary(RED, {"blue": ["red"]}),
            ValueError,
            "no 'blue' in the prompt",
        ),
        (
            "text for alternatives",
            lambda _: Candidates.vary(RED, {"red": "blue"}),
            TypeError,
            "expected a list of texts",
        ),
        ("its own word", lambda _: Candidates.vary(RED, {"red": ["red"]}), ValueError, "there twice"),
        ("nothing to vary", lambda _: Candidates.vary(RED, {}), ValueError, "no word to vary"),
        ("a list of words", lambda _: Candidates.vary(RED, ["red"]), TypeError, "a mapping of words"),
        (
            "parts of another length",
            lambda _: Candidates([RED, BLUE], parts={"red": ["red"]}),
            ValueError,
            "1 labels for 2",
        ),
    ),
    *rows(
        "pipe.words",
        (
            "a word of no prompt",
            lambda r: r.pipe.words(IMAGE, RED, words=["blue"]),
            ValueError,
            "no prompt has the word 'blue'",
        ),
        ("a place of no prompt", lambda r: r.pipe.words(IMAGE, RED, words=["@9"]), ValueError, "no word @9"),
        ("words that are text", lambda r: r.pipe.words(IMAGE, RED, words="red"), TypeError, "a list of words"),
        (
            "one word by its text and its place",
            lambda r: r.pipe.words(IMAGE, RED, words=["red", "@1"]),
            ValueError,
            "'red' and '@1' are the same one",
        ),
        (
            "one word twice among candidates",
            lambda r: r.pipe.words(IMAGE, RED, marginal=Candidates([RED, BLUE]), words=["red", "@1"]),
            ValueError,
            "are the same one",
        ),
        ("no prompt", lambda r: r.pipe.words(IMAGE, None), TypeError, "prompts is a NoneType"),
        ("negatives", lambda r: r.pipe.words(IMAGE, RED, marginal=Negatives(1)), ValueError, "cannot isolate a word"),
        (
            "a mask among candidates",
            lambda r: r.pipe.words(IMAGE, RED, marginal=Candidates([RED, BLUE]), mask=""),
            ValueError,
            "leave mask='' out",
        ),
        (
            "a prompt that is not among the candidates",
            lambda r: r.pipe.words(IMAGE, "a pink circle", marginal=Candidates([RED, BLUE])),
            ValueError,
            "not among the 2 candidates",
        ),
        (
            "a word in which candidates do not differ",
            lambda r: r.pipe.words(IMAGE, RED, marginal=Candidates([RED, BLUE]), words=["circle"]),
            ValueError,
            "do not differ in 'circle'",
        ),
        (
            "two marginals for one image",
            lambda r: r.pipe.words(IMAGE, RED, marginal=[Candidates([RED, BLUE])] * 2),
            ValueError,
            "2 marginals for 1 images",
        ),
        (
            "a list of text as the marginal",
            lambda r: r.pipe.words(IMAGE, RED, marginal=[RED]),
            TypeError,
            r"marginal\[0\] is a str",
        ),
    ),
    *rows(
        "pipe.compare",
        ("the same caption twice", lambda r: r.pipe.compare(IMAGE, RED, RED), ValueError, "both captions of image 0"),
        (
            "two captions for one image",
            lambda r: r.pipe.compare(IMAGE, [RED, BLUE], RED),
            ValueError,
            "got 2 a for 1 images",
        ),
        ("None", lambda r: r.pipe.compare(IMAGE, RED, None), TypeError, "b is a NoneType"),
        (
            "a tolerance",
            lambda r: r.pipe.compare(IMAGE, RED, BLUE, tolerance=0.1),
            ValueError,
            "belongs to the null prompt",
        ),
    ),
    *rows(
        "pipe.rank",
        ("one caption", lambda r: r.pipe.rank(IMAGE, [RED]), ValueError, "got 1 candidates"),
        ("the same caption twice", lambda r: r.pipe.rank(IMAGE, [RED, RED]), ValueError, "appears more than once"),
        ("a funnel that is a number", lambda r: r.pipe.rank(IMAGE, [RED, BLUE], funnel=3), TypeError, "a Funnel"),
        (
            "a funnel beyond the path",
            lambda r: r.pipe.rank(IMAGE, [RED, BLUE], funnel=Funnel(until=99.0)),
            ValueError,
            "short path ends at log-SNR 99",
        ),
        ("Funnel(keep=1)", lambda _: Funnel(keep=1), ValueError, "keep is 1"),
        ("Funnel(first=0)", lambda _: Funnel(first=0), ValueError, "first is 0"),
        ("Funnel(then=(3,))", lambda _: Funnel(then=(3,)), TypeError, "a tuple of Sieve"),
        ("Sieve(keep=1)", lambda _: Sieve(3, 1.0, keep=1), ValueError, "keep is 1"),
    ),
    *rows(
        "pipe.select",
        ("one image", lambda r: r.pipe.select([RED], 1), ValueError, "n is 1"),
        ("one prompt, and no score", lambda r: r.pipe.select([RED], 2), ValueError, "no other prompts beside it"),
        ("None among prompts", lambda r: r.pipe.select([RED, None], 2), TypeError, r"prompts\[1\] is a NoneType"),
        ("text for prompts", lambda r: r.pipe.select(RED, 2), TypeError, "a list of at least one"),
        ("a number for a score", lambda r: r.pipe.select([RED], 2, score=3), TypeError, "expected NullPrompt"),
        (
            "a prompt that is not among the candidates",
            lambda r: r.pipe.select(["a dot"], 2, score=Candidates([RED, BLUE])),
            ValueError,
            "not among the 2 candidates",
        ),
    ),
    *rows(
        "Influence.guider",
        ("steps without a sampler", lambda _: CURVE.guider(3.0, steps=20), ValueError, "sampler is not known"),
        (
            "levels that fall",
            lambda _: CURVE.guider(3.0, steps=torch.tensor([1.0, 0.0])),
            ValueError,
            "from noise to image",
        ),
        ("share=1", lambda _: CURVE.window(1), ValueError, "share is 1"),
        ("a scale that is text", lambda _: CURVE.guider("3", steps=CURVE.logsnr), TypeError, "scale is '3'"),
    ),
    *rows(
        "excess",
        ("a number", lambda r: excess(3.0, [0.0]), TypeError, "expected a result"),
        ("another number of pairs", lambda r: excess(r.estimate, [0.0]), ValueError, "exact informations of shape"),
        (
            "a result of another kind",
            lambda r: excess(r.estimate, PathInfluence(SOME, torch.ones(6, 2).double(), torch.ones(6, 2, 1), True)),
            ValueError,
            "kind 'estimate' and the other's 'path influence'",
        ),
        ("NaN", lambda r: excess(r.estimate, [float("nan")] * 6), ValueError, "not finite"),
    ),
    *rows(
        "mmg-diffusers compare, words --vary",
        (
            "compare, a table as a caption",
            lambda r: r.command("compare", "shapes", r.picture(), "--a", r.table("prompt\na\n"), "--b", "b"),
            CommandFailed,
            "which is a file; expected words",
        ),
        (
            "compare, no such picture",
            lambda r: r.command("compare", "shapes", r.folder / "x.png", "--a", "a", "--b", "b"),
            CommandFailed,
            "there is no",
        ),
        ("compare, without --b", lambda r: r.command("compare", "shapes", r.picture()), CommandFailed, "--b"),
        (
            "compare, the same caption twice",
            lambda r: r.command("compare", "shapes", r.picture(), "--a", RED, "--b", RED, "--output", r.folder / "o"),
            CommandFailed,
            "both captions of image 0",
        ),
        (
            "words --vary red",
            lambda r: r.command(
                "words", "shapes", r.picture(), "--prompt", RED, "--vary", "red", "--output", r.folder / "out"
            ),
            CommandFailed,
            "such as red=blue,green",
        ),
    ),
    *rows(
        "measure_uses.py --aro FOLDER",
        (
            "no file of ARO in it",
            lambda r: aro.aro(*UNTOUCHED, aro.Settings(str(r.folder))),
            ValueError,
            "holds none of visual",
        ),
        ("no cases", lambda r: _cases(r, []), ValueError, "expected a list of cases"),
        (
            "a case without its box",
            lambda r: _cases(r, [{**CASE, "bbox_w": None}]),
            ValueError,
            "item 0 of .* is no case",
        ),
        (
            "a case without a caption",
            lambda r: _cases(r, [CASE, {"image": "0.png"}]),
            ValueError,
            "item 1 of .*'caption'",
        ),
        (
            "captions that are the same",
            lambda r: _cases(r, [{**CASE, "false_caption": RED}]),
            ValueError,
            "both captions",
        ),
        ("a picture that is gone", lambda r: _cases(r, [CASE])[0].picture(), FileNotFoundError, "there is no picture"),
        (
            "a box outside",
            lambda r: aro.Case(r.picture(), (RED, BLUE), (40, 0, 50, 9)).picture(),
            ValueError,
            "holds nothing",
        ),
    ),
)
