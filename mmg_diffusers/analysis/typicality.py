"""How usual the likelihood of images is, beside that of reference images: never a verdict by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type
from mmg_diffusers.measure.likelihood import LogLikelihood, LogLikelihoodRatio
from mmg_diffusers.measure.value import Value

# What two measurements must share, so that their likelihoods compare.
SHARED = ("model", "reference", "quadrature", "draws", "antithetic", "control", "conditional")


def typicality(measured: LogLikelihood, usual: LogLikelihood) -> Tensor:
    """How far each surprise lies from those of reference images, in their standard deviations, `(N,)`.

    Images of the law that the reference images are of lie about 0, within 2 or so. Positive values are of images that are less
    likely than those; negative ones of images that are *more* likely than any of them, which is as unusual (Nalisnick
    et al., arXiv 1906.02994): a constant picture is likelier than photographs are, and no photograph. So there is no
    threshold here, and log p alone says nothing about membership in the training data.

    Args:
        measured: of the images in question.
        usual: of two reference images or more, other ones, measured alike.

    Raises:
        TypeError: for something else than log-likelihoods.
        ValueError: for measurements that do not compare, fewer than two reference images, or images that are in both.
    """
    for record, name in ((measured, "measured"), (usual, "usual")):
        of_type(record, LogLikelihood, name, "a LogLikelihood")
    _check_alike(measured, usual)
    if len(usual) < 2:
        raise ValueError(f"got {len(usual)} reference image; expected two or more, whose spread is the unit")
    return (measured.surprise - usual.surprise.mean()) / usual.surprise.std()


def over_reference(measured: LogLikelihood) -> Tensor:
    """log p(x) - log p_G(x), `(N,)` nats: what the network knows of each image beyond the Gaussian reference.

    It takes off what is likely by its brightness and smoothness alone, as far as a Gaussian knows of that.

    Raises:
        TypeError: for something else than a log-likelihood.
    """
    of_type(measured, LogLikelihood, "measured", "a LogLikelihood")
    return measured.nats + measured.terms.surprise


def membership(suspected: LogLikelihood | LogLikelihoodRatio, held_out: LogLikelihood | LogLikelihoodRatio) -> Value:
    """How well log p tells images that a model may have been trained on from images that were held out for certain.

    The log p of an image says nothing of that: images are likely for many reasons. Two sets of one law can be told apart if
    the first is likelier as a whole, and best by what one model says more than another, `LogLikelihood.versus`, such as
    before and after a training.

    Args:
        suspected: images in question, or the ratio of two models for them.
        held_out: others of the same law, measured alike.

    Returns:
        the area under the ROC curve: the chance that a suspected image is likelier than one that was held out, a half if they
        cannot be told apart; with its standard error (DeLong et al. 1988, Biometrics 44, 837).

    Raises:
        TypeError: for something else than two log-likelihoods, or two ratios.
        ValueError: for measurements that do not compare, fewer than two images, or images that are in both.
    """
    for record, name in ((suspected, "suspected"), (held_out, "held_out")):
        of_type(record, (LogLikelihood, LogLikelihoodRatio), name, "a LogLikelihood, or a ratio of two")
    if isinstance(suspected, LogLikelihood) and isinstance(held_out, LogLikelihood):
        _check_alike(suspected, held_out)
    elif isinstance(suspected, LogLikelihoodRatio) and isinstance(held_out, LogLikelihoodRatio):
        _check_alike(suspected.one, held_out.one)
        _check_alike(suspected.other, held_out.other)
    else:
        raise TypeError("got a log-likelihood and a ratio; expected two of one kind")
    first, second = suspected.nats, held_out.nats
    if min(len(first), len(second)) < 2:
        raise ValueError(f"got {len(first)} and {len(second)} images; expected two or more of each")
    # Of each image, the share of the others that it is likelier than; ties half.
    above = ((first[:, None] > second).double() + (first[:, None] >= second).double()) / 2
    variance = above.mean(1).var() / len(first) + above.mean(0).var() / len(second)
    return Value(float(above.mean()), float(variance.sqrt()), "of the area under the ROC curve")


def _check_alike(measured: LogLikelihood, usual: LogLikelihood) -> None:
    """Raise a ValueError unless two measurements, of different images, compare."""
    differ = [name for name in SHARED if measured.settings.get(name) != usual.settings.get(name)]
    if (measured.event, measured.variable) != (usual.event, usual.variable):
        differ.append("the variable")
    if measured.logsnr_range != usual.logsnr_range:
        differ.append("the range of log-SNR")
    if differ:
        raise ValueError(f"the reference images were measured differently: {', '.join(differ)}; measure both alike")
    same = int(torch.isin(measured.rows, usual.rows).sum())
    if same:
        raise ValueError(
            f"{same} of {len(measured)} images are among the reference images; leave these out of one of them"
        )
