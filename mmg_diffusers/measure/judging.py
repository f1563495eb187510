"""What a curve says against itself: identities that ideal branches satisfy at every level, ends that have not decayed, few pairs.

With e_u = E[eps | z] and e_c = E[eps | z, y], at every level and in expectation over pairs,

    |eps - e_u|^2 - |eps - e_c|^2  =  |e_c - e_u|^2  =  |e_c - r|^2 - |e_u - r|^2          (gap = orthogonal = outside the norm)

for any r that z alone decides, since eps - e is orthogonal to what z and y tell. The integral of gap - orthogonal is the certificate; in
it, levels at which the two differ one way cancel those at which they differ the other way, so that bands of levels are looked at one by
one. If a branch errs by b, independent of the noise and of what is to be told, gap - outside is 2 |b_u|^2 - 2 |b_c|^2: twice what the
errors add to gap. With r the prediction for N(0, 1), a wrong scale of both predictions, as at the noisy end, is no error of that kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmg_diffusers.measure.moments import OutsideNorm
from mmg_diffusers.measure.reading import Reading
from mmg_diffusers.measure.value import Value
from mmg_diffusers.measure.verdict import LEAST, Finding, Grade, weighed, worst

# What it means that gap and orthogonal differ, by what is compared.
DISAGREEMENT = {
    "conditions": "the two branches are not the marginal and the conditional of one distribution",
    "models": "the model that x should come from does not denoise them as its own draws",
    "reference": "the network does not denoise x as draws of its own law",
}
# What settings say of a base that is a network's own branch without a condition.
NULL_BRANCH = "the branch without a condition"
# Bands of log-SNR, even, that identities are held against.
BANDS = 8
# Standard errors that a band must be off by: one of two identities in eight bands is off by as much by chance in 1 of 400 records.
# Of few pairs more, since their spread is not known well (so many times 1 + 5 / (N - 1), which follows Student's t).
OFF = 3.5
# Fewer pairs than these do not show the tails of their law.
FEW = 20
# Steps in log-SNR over which a prediction is taken to stand still; longer ones weigh (e^h - 1) / h times too much.
COARSE = 1.0


class Imbalance(NamedTuple):
    """How far an identity is from holding: `nats`, less two standard errors in each band that is off, and where it is off most."""

    nats: float
    low: float
    high: float
    worst: Value


def scale_of(mean: float) -> float:
    """What errors of an answer are held against, in nats."""
    return max(abs(mean), LEAST)


def imbalance(reading: Reading, difference: Tensor) -> Imbalance | None:
    """How far a difference `(N, D, L)`, which ideal branches leave at 0 in expectation, is from it; ``None`` if by no more than chance."""
    curve, count = reading.curve, len(reading)
    if count < 2:
        return None
    low, high = curve.logsnr_range
    place = ((curve.logsnr - low) / (high - low) * BANDS).nan_to_num(0.0).floor().clamp(0, BANDS - 1).long()
    draws = curve.draws.view(-1, 1, 1)
    terms = (difference * curve.weight / 2 / draws).nan_to_num(0.0)
    bands = torch.zeros(count, BANDS, dtype=torch.float64).scatter_add_(1, place.flatten(1), terms.flatten(1))
    mean, error = bands.mean(0), bands.std(0) / count**0.5
    off = mean.abs() > OFF * (1 + 5 / (count - 1)) * error + 1e-9
    if not bool(off.any()):
        return None
    sizes = torch.where(off, mean.abs() - 2 * error, 0.0)
    most = int(sizes.argmax())
    step = (high - low) / BANDS
    return Imbalance(
        float(sizes.sum()), low + most * step, low + (most + 1) * step, Value(float(mean[most]), float(error[most]))
    )


def of_certificate(reading: Reading, mean: float, compares: str) -> list[Finding]:
    """What the certificate says, in the whole and band by band, of an answer of `mean` nats."""
    scale, said = scale_of(mean), DISAGREEMENT[compares]
    difference, error = reading.certificate
    found: list[Finding] = []
    if abs(difference) > max(3 * error, 0.02 * abs(mean)):
        grade = worst(["with caution", weighed((abs(difference) - 2 * error) / scale)])
        found.append(Finding(f"gap - orthogonal = {difference:.3f} +- {error:.3f} nats: {said}", "certificate", grade))
    elif error > scale / 2:
        grade: Grade = "don't" if error > scale else "with caution"
        found.append(
            Finding(
                f"gap - orthogonal = {difference:.3f} +- {error:.3f} nats, an error as large as the answer: it could not show that "
                "the answer is wrong; measure more pairs",
                "certificate",
                grade,
            )
        )
    off = imbalance(reading, reading.curve.gap - reading.curve.orthogonal)
    if off is not None and not found and weighed(off.nats / scale) != "trust":
        found.append(
            Finding(
                f"gap - orthogonal is {off.worst.value:.3f} +- {off.worst.stderr:.3f} nats between log-SNR {off.low:.2f} and "
                f"{off.high:.2f}: {said}",
                "certificate",
                weighed(off.nats / scale),
            )
        )
    return found


def of_errors(reading: Reading, mean: float) -> list[Finding]:
    """What errors of the branches themselves add to gap, or take from it."""
    off = imbalance(reading, (reading.curve.gap - reading.curve.values(OutsideNorm())) / 2)
    if off is None:
        return []
    grade = weighed(off.nats / scale_of(mean))
    if grade == "trust":
        return []
    return [
        Finding(
            f"the errors of the {'base' if off.worst.value > 0 else 'conditional'} branch are larger than the other's, which is no information: "
            f"{off.worst.value:+.3f} +- {off.worst.stderr:.3f} nats of gap between log-SNR {off.low:.2f} and {off.high:.2f}",
            "errors",
            grade,
        )
    ]


# What lies beyond the noisy end and the clean one, by what is compared.
_ERRS = "this is what the two err by, and part of the number is no difference of their laws"
BEYOND = {
    "conditions": (
        "what y tells",
        "Unless y tells of details as fine as that, this is what the branches err by, and part of the number is no information",
    ),
    "reference": ("what tells the network from its reference", f"Unless the reference is not flat there, {_ERRS}"),
    "models": ("what tells the two models apart", f"Unless the models differ in details as fine as that, {_ERRS}"),
}


def of_decay(reading: Reading, mean: float, compares: str) -> list[Finding]:
    """What ends of the curve that have not decayed make of the answer.

    Of a clean end that has not decayed, as much may be error as grew evenly from the peak of the curve on.
    """
    found: list[Finding] = []
    low, high = reading.logsnr_range
    edge = reading.boundary
    if not edge.low_decayed:
        found.append(
            Finding(
                f"the curve has not decayed at log-SNR {low:.2f}: {BEYOND[compares][0]} through more noise than that is not in the number "
                f"(about {edge.low.value:.3f} nats, if the curve falls from there{'' if compares == 'conditions' else ', and else more'})",
                "decay",
            )
        )
    if edge.high_decayed:
        return found
    levels = reading.curve.by_level(reading.curve.logsnr).mean(0)
    profile = (reading.integrated_in_mean(reading.curve.by_level).nats / 2).mean(0)
    # A curve that peaks at its end has no level from which on it should fall: half of the range stands for it.
    peak = min(float(levels[int(profile.abs().argmax())]), (low + high) / 2)
    density, error = edge.high
    floor = max(0.0, abs(density) - 2 * error) * (high - peak) / 2 / scale_of(mean)
    grade = worst(["with caution", weighed(floor)]) if compares == "conditions" else "with caution"
    found.append(
        Finding(
            f"the curve has not decayed at log-SNR {high:.2f}, where it ends at {density:.3f} nats per unit of log-SNR: the number depends "
            f"on where it is cut. {BEYOND[compares][1]}",
            "decay",
            grade,
        )
    )
    return found


def of_few(count: int, noun: str = "pair") -> list[Finding]:
    """That a mean is over few pairs, or over few of something else."""
    if count >= FEW:
        return []
    return [
        Finding(
            f"{count} {noun}{'s' * (count > 1)}: too few to show the tails of their law; the standard error over {noun}s may be far too small",
            "pairs",
        )
    ]


def of_pairs(count: int, mean: Value, compares: str) -> list[Finding]:
    """What the number of pairs and the spread over them leave of the mean."""
    found = of_few(count)
    if compares == "conditions" and mean.value < -2 * mean.stderr:
        found.append(
            Finding(
                f"the mean is {mean.value:.3f} +- {mean.stderr:.3f} nats, and mutual information is not negative: the pairs are not "
                "what the branches were trained on, or the branches are wrong",
                "below 0",
                "don't" if mean.value < -3 * mean.stderr else "with caution",
            )
        )
    elif math.isfinite(mean.stderr) and mean.stderr > scale_of(mean.value) / 2:
        found.append(
            Finding(
                f"the standard error over pairs, {mean.stderr:.3f} nats, is more than half of the answer; measure more pairs",
                "pairs",
            )
        )
    return found


def of_steps(logsnr: Tensor) -> list[Finding]:
    """What the steps of a path of noise, between levels `(L + 1,)`, leave of evidence that is added up along it."""
    step = float(logsnr.diff().max())
    if step <= COARSE:
        return []
    return [
        Finding(
            f"the path's {len(logsnr) - 1} steps are as long as {step:.1f} in log-SNR, within which predictions change, and weigh too much: take "
            f"{math.ceil(2 * float(logsnr[-1] - logsnr[0]))} (levels=), or follow a part of the path (logsnr_range=)",
            "steps",
            "don't" if step > 2 * COARSE else "with caution",
        )
    ]


def of_null(settings: Mapping[str, Any], notes: Sequence[str]) -> list[Finding]:
    """That nothing but its own branches vouches for a number with a network's null branch.

    One that was trained too little satisfies the identities as an ideal one does, since least squares make its errors orthogonal to its
    predictions; so does one that was trained on other data. An audit can tell. A ceiling speaks against numbers above it, and for none
    below: what y tells may be far less than it holds.

    Args:
        settings, notes: of the record.
    """
    audited = any(isinstance(note, Finding) and note.about == "audit" for note in notes)
    if audited or settings.get("base") != NULL_BRANCH:
        return []
    return [
        Finding(
            "nothing but the network's two branches vouches for this number: a null branch that was trained too little, or on other data, "
            "passes all that could be looked at, unless it exceeds what y can hold. Audit the null against candidates",
            "null alone",
        )
    ]


def of_ceiling(excess: Value, most: float) -> list[Finding]:
    """What an excess over the most that y can hold says."""
    if not excess.value > 2 * excess.stderr:
        return []
    return [
        Finding(
            f"the mean is {excess.value:.3f} +- {excess.stderr:.3f} nats above {most:.3f}, the most that y can "
            "hold: it is wrong, the branches are not of one distribution",
            "ceiling",
            "don't",
        )
    ]
