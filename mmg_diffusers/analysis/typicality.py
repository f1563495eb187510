"""How usual the likelihood of images is, beside that of reference images: never a verdict by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type
from mmg_diffusers.measure.likelihood import LogLikelihood

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
    differ = [name for name in SHARED if measured.settings.get(name) != usual.settings.get(name)]
    if (measured.event, measured.variable) != (usual.event, usual.variable):
        differ.append("the variable")
    if measured.logsnr_range != usual.logsnr_range:
        differ.append("the range of log-SNR")
    if differ:
        raise ValueError(f"the reference images were measured differently: {', '.join(differ)}; measure both alike")
    if len(usual) < 2:
        raise ValueError(f"got {len(usual)} reference image; expected two or more, whose spread is the unit")
    same = int(torch.isin(measured.rows, usual.rows).sum())
    if same:
        raise ValueError(
            f"{same} of {len(measured)} images are among the reference images; leave these out of one of them"
        )
    return (measured.surprise - usual.surprise.mean()) / usual.surprise.std()


def over_reference(measured: LogLikelihood) -> Tensor:
    """log p(x) - log p_G(x), `(N,)` nats: what the network knows of each image beyond the Gaussian reference.

    It takes off what is likely by its brightness and smoothness alone, as far as a Gaussian knows of that.

    Raises:
        TypeError: for something else than a log-likelihood.
    """
    of_type(measured, LogLikelihood, "measured", "a LogLikelihood")
    return measured.nats + measured.terms.surprise
