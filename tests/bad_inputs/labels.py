"""Labels compared by a denoiser of one's own, and the levels that it knows."""

import torch

from mmg_diffusers import Adapted, LabelSet, audit_labels, filter_labels, known_range
from mmg_diffusers.denoisers.check import check_denoiser
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from tests.bad_inputs.room import Room, rows

NAN = float("nan")


def labelled(r: Room, labels=None, truth=None, **options):
    """Labels of the mixture's variables, of which the network must not be run."""
    labels = {"label": torch.arange(2)} if labels is None else labels
    return filter_labels(r.untouched, r.x, labels, torch.zeros(6).long() if truth is None else truth, **options)


def label_of_function(r: Room):
    return filter_labels(lambda z, logsnr, cond: z, r.x, {"label": torch.arange(2)}, torch.zeros(6).long())


def label_set(r: Room, count=2, **options):
    return LabelSet({"label": torch.arange(count)}, **options)


def audited(r: Room):
    silent = Adapted(torch.nn.Identity(), RectifiedFlow.shifted())
    return audit_labels(silent, r.x, {"label": torch.arange(2)}, torch.zeros(6).long())


def known(r: Room, denoiser=None, x=None, **options):
    return known_range(r.untouched if denoiser is None else denoiser, r.x if x is None else x, **options)


def checked(r: Room, **options):
    return check_denoiser(r.untouched, r.x.repeat(4, 1), {"y": r.y.repeat(4, 1)}, **options)


ROWS = (
    *rows(
        "check_denoiser(denoiser, x, cond)",
        ("a range that falls", lambda r: checked(r, logsnr_range=(2.0, -2.0)), ValueError, "not a rising range within"),
        ("a range of one end", lambda r: checked(r, logsnr_range=(2.0,)), ValueError, "expected two numbers"),
        ("a range that is NaN", lambda r: checked(r, logsnr_range=(NAN, 2.0)), ValueError, "an end of logsnr_range"),
    ),
    *rows(
        "filter_labels(denoiser, x, labels, truth)",
        ("a function", lambda r: label_of_function(r), TypeError, "expected a Denoiser"),
        (
            "labels as a tensor",
            lambda r: labelled(r, torch.arange(2)),
            TypeError,
            "labels is a Tensor; expected a condition",
        ),
        ("no labels", lambda r: labelled(r, {}), ValueError, "labels holds no tensor"),
        ("one label", lambda r: labelled(r, {"label": torch.arange(1)}), ValueError, "two labels or more"),
        ("labels that lack the truth", lambda r: labelled(r, truth=[0, 1, 2, 0, 1, 0]), ValueError, "not among the 2"),
        ("a true label below 0", lambda r: labelled(r, truth=[-1] * 6), ValueError, "a true label is -1"),
        ("five true labels for six", lambda r: labelled(r, truth=[0] * 5), ValueError, "one for each of 6"),
        ("true labels that are not whole", lambda r: labelled(r, truth=torch.zeros(6)), TypeError, "torch.float32"),
        ("three names for two", lambda r: label_set(r, names=("a", "b", "c")), ValueError, "3 names"),
        ("a name twice", lambda r: label_set(r, names=("a", "a")), ValueError, "1 different ones"),
        ("a prior that sums to 2", lambda r: label_set(r, prior=(1.0, 1.0)), ValueError, "sum to 1"),
        ("a prior of 0", lambda r: label_set(r, prior=(1.0, 0.0)), ValueError, "positive probabilities"),
        ("an audit of a network without a null", audited, ValueError, "no unconditional branch to audit"),
    ),
    *rows(
        "known_range(denoiser, x)",
        ("a function", lambda r: known(r, lambda z, logsnr, cond: z), TypeError, "expected a Denoiser"),
        ("6 variables", known, ValueError, "x has 6 variables; expected 16"),
        ("x as a list", lambda r: known(r, x=[1.0] * 16), TypeError, "x is a list"),
        ("NaN in x", lambda r: known(r, x=r.x.repeat(4, 1) * NAN), ValueError, "NaN or infinite"),
        ("two levels", lambda r: known(r, x=r.x.repeat(4, 1), levels=2), ValueError, "levels is 2"),
        (
            "conditions of other variables",
            lambda r: known(r, x=r.x.repeat(4, 1), cond={"y": r.y}),
            ValueError,
            "6 rows",
        ),
    ),
)
