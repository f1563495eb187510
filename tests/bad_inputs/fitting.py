"""What is fitted to data, and what is measured by it."""

import numpy as np
import torch
from diffusers import LCMScheduler

from mmg_diffusers import FitPlan, Fitted, Masked, Sandwich
from mmg_diffusers.pairs import Plan
from mmg_diffusers.pipelines.tuning import picture_marks
from mmg_diffusers.tuning import LowRank, Part, SoftPlan, SoftPrompts
from tests.bad_inputs.room import IMAGE, CommandFailed, Room, rows

MANY = [np.full((32, 32, 3), k / 10, dtype=np.float32) for k in range(10)]
TWO = ["a", "b"] * 5


def fit(r: Room, images=None, prompts=None, **options):
    return r.pipe.fit(
        MANY if images is None else images, TWO if prompts is None else prompts, progress=False, **options
    )


def distilled(r: Room):
    pipe = r.load(lambda folder: None)
    pipe.pipe.scheduler = LCMScheduler.from_config(pipe.pipe.scheduler.config)
    return pipe.fit(MANY, TWO, progress=False)


def fitted(r: Room, weights=None, seen=()):
    """As if it had been fitted to some pictures."""
    soft = SoftPrompts(torch.full((2,), 0.5, dtype=torch.float64), ("a", "b"))
    digests = r.pipe.encoder.check_images(list(seen), False).digests if seen else ()
    part = Part(torch.zeros(0, dtype=torch.int64), soft, pictures=picture_marks(digests))
    return Fitted.of([part], {"model": {"model": "another", "weights": weights}})


def measured(r: Room, prompt="a", marginal=None, **options):
    return r.pipe(IMAGE, prompt, marginal=fitted(r) if marginal is None else marginal, **options)


def command(r: Room, *options):
    return r.command("fit", "shapes", r.picture(), "--prompt", "a", "--quiet", "--output", r.folder / "out", *options)


def against(r: Room):
    """An estimate with the null prompt, in the place of a fitted one."""
    estimate = r.estimate
    return Sandwich(estimate, estimate)


ROWS = (
    *rows(
        "pipe.fit(images, prompts)",
        ("one image", lambda r: fit(r, [IMAGE], ["a"]), ValueError, "got 1 different image to fit to; expected 8 or more"),
        ("one image ten times", lambda r: fit(r, [IMAGE] * 10), ValueError, "got 1 different image to fit to"),
        (
            "ten images in ten folds of nothing but one",
            lambda r: fit(r, MANY[:8], TWO[:8], folds=8),
            ValueError,
            "got 8 different images to fit to in 8 folds",
        ),
        ("folds=0", lambda r: fit(r, folds=0), ValueError, "folds is 0"),
        ("folds='five'", lambda r: fit(r, folds="five"), TypeError, "folds is 'five'"),
        ("a prompt too few", lambda r: fit(r, prompts=TWO[:9]), ValueError, "got 9 prompts for 10 images"),
        ("a file as its folder", lambda r: fit(r, folder=r.file("taken", b"x")), OSError, "taken is no folder that can be"),
        ("a plan of a measurement", lambda r: fit(r, plan=Plan()), TypeError, "plan is a Plan"),
        ("a guidance-distilled model", distilled, ValueError, "guidance-distilled"),
        ("FitPlan(None)", lambda r: FitPlan(None), ValueError, "which fits nothing"),
        ("FitPlan(64)", lambda r: FitPlan(64), TypeError, "soft is a int"),
        ("FitPlan(branches=LowRank())", lambda r: FitPlan(branches=LowRank()), TypeError, "branches is a LowRank"),
        ("held_out=0", lambda r: FitPlan(held_out=0), ValueError, "held_out is 0"),
        ("SoftPlan(1)", lambda r: SoftPlan(1), ValueError, "prompts is 1"),
        ("SoftPlan(lr=0)", lambda r: SoftPlan(lr=0), ValueError, "lr is 0"),
        ("SoftPlan(steps=0)", lambda r: SoftPlan(steps=0), ValueError, "steps is 0"),
        (
            "soft prompts as texts and vectors",
            lambda r: SoftPrompts(torch.ones(1).double(), ("a",), {"y": torch.ones(1, 2)}),
            ValueError,
            "expected texts or vectors",
        ),
    ),
    *rows(
        "pipe(..., marginal=Fitted(folder))",
        ("no such folder", lambda r: Fitted(r.folder / "nowhere"), FileNotFoundError, "no fitted marginal at"),
        ("no path", lambda r: Fitted(None), TypeError, "the folder of the fitted marginal is a NoneType"),
        (
            "a folder of something else",
            lambda r: Fitted(r.file("f/fitted.safetensors", b"x").parent),
            ValueError,
            "no complete fitted marginal",
        ),
        ("an entropy below 0", lambda r: fitted(r).stating(-1.0), ValueError, "entropy is -1"),
        (
            "an image that it was fitted to",
            lambda r: measured(r, marginal=fitted(r, seen=[IMAGE])),
            ValueError,
            "1 of 1 images are among the 0 that the marginal was fitted to.*folds=5",
        ),
        (
            "a marginal of another model",
            lambda r: measured(r, marginal=fitted(r, "0" * 64)),
            ValueError,
            "fitted with 'another', whose weights are not those of this model",
        ),
        ("given='a'", lambda r: measured(r, "a b", given="a"), ValueError, "given= belongs to the null prompt"),
        ("a masked prompt", lambda r: measured(r, Masked("a b", "b")), ValueError, "masked prompts are not compared"),
        ("tolerance=0.1", lambda r: measured(r, tolerance=0.1), ValueError, "tolerance"),
        ("filter", lambda r: r.pipe.filter(IMAGE, "a", fitted(r)), ValueError, "Fitted has no posterior"),
        ("the class", lambda r: measured(r, marginal=Fitted), TypeError, "Fitted itself"),
    ),
    *rows(
        "Sandwich(bound, fitted)",
        ("an estimate as the bound", against, TypeError, "bound is a Estimate"),
    ),
    *rows(
        "mmg-diffusers fit MODEL SOURCE",
        ("one picture", command, CommandFailed, "got 1 different image to fit to"),
        ("--soft 1", lambda r: command(r, "--soft", 1), CommandFailed, "--soft is 1"),
        (
            "--marginal fitted:nowhere",
            lambda r: r.command("estimate", "shapes", r.picture(), "--prompt", "a", "--marginal", "fitted:nowhere"),
            CommandFailed,
            "no fitted marginal at",
        ),
    ),
)  # fmt: skip
