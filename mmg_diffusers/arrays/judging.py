"""What a fit is worth beside the cheap readings: whether it has missed something, and the error of its number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mmg_diffusers.arrays.fitted import FittedModel
from mmg_diffusers.arrays.fitting import Fit, FitSettings
from mmg_diffusers.arrays.floors import GAUSSIAN, NEAR, NEIGHBOURS, Floors
from mmg_diffusers.arrays.folds import FOLDS, MANY
from mmg_diffusers.arrays.rows import Rows
from mmg_diffusers.measure.allowance import DEPENDENT, Allowance
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.value import Value
from mmg_diffusers.measure.verdict import Finding

READINGS = "readings"
# Pairs to fit to from which a network sees what bends in as many columns as neighbours tell little of; so many are left of `MANY`.
TO_FIT = 1800
# Of so few pairs of so many columns: the share of what is found that may be unseen beside it, and the most that bends may be.
UNSEEN, MOST_BENT = 0.1, 0.7
# Steps of a first look at data that are Gaussian as far as all readings of few dimensions tell.
LOOK = 60
# Frequencies for a pair of columns, the coordinates up to which there are any, and the decay that goes with them.
WAVES, WAVY, WAVES_DECAY = 48, 6, 0.3


def amiss(floors: Floors, value: Value) -> float:
    """By how many nats a value disagrees with the readings, beyond the errors of both; 0 if it does not."""
    missed = floors.missed(value)
    return floors.above(value) if missed is None else missed[1]


def first(settings: FitSettings, floors: Floors, coordinates: int) -> FitSettings:
    """How to fit at first: a short look is enough if no reading sees more than the Gaussian part, and nothing bends.

    Of many columns, of which neighbours tell little, what bends has to have been looked at.
    """
    if floors.gaussian is None or floors.bends > 0 or (coordinates > NEAR and not floors.bends_read):
        return settings
    return replace(settings, pilot=min(settings.pilot, LOOK))


def again(settings: FitSettings, floors: Floors, coordinates: int) -> FitSettings:
    """How to fit once more what a first fit has missed: waves for few coordinates, and no end before the floor is met."""
    least = floors.least
    nats = 0.0 if least is None else least.value.value
    if coordinates > WAVY:
        return replace(settings, least=nats)
    return replace(settings, least=nats, waves=WAVES, weight_decay=max(settings.weight_decay, WAVES_DECAY))


def told_in_closed_form(floors: Floors, fitted: Fit, settings: FitSettings) -> Value | None:
    """The Gaussian part in closed form if training found nothing beyond it, and no reading does; else ``None``.

    It has the correlations of all pairs and no plug-in bias, where a network that starts from those of its training part
    carries their errors.
    """
    reading = floors.told
    found = fitted.gained >= settings.least_gain or fitted.turned
    return reading.value if reading is not None and not found else None


def judge(
    estimate: Estimate,
    model: FittedModel,
    floors: Floors,
    rows: Rows,
    closed: bool,
    more: Mapping[str, float] | None = None,
) -> Estimate:
    """Give an estimate its whole error, and say what is wrong with it.

    The error over pairs knows nothing of what was not learned. In quadrature with it are taken: half of the certificate, the
    last round's gain (or the least that would have led to another), and what a reading sees above the fit; and, if rows
    depend on each other, what the error over blocks is larger.

    Args:
        estimate, model: of the measured pairs, and the fit.
        floors: the cheap readings; they are kept in the settings.
        rows: what the measured pairs are to each other.
        closed: whether a closed form may stand in place of the measured mean.
        more: errors that are known besides, by name.
    """
    fitted, settings = model.fitted, FitSettings(**model.settings["fit"])
    measured = estimate.mean()
    errors: dict[str, float] = dict(more or {})
    if rows.blocks is not None and len(np.unique(rows.blocks)) > 1:
        blocks = estimate.mean(rows.blocks.tolist()).stderr
        errors[DEPENDENT] = math.sqrt(max(blocks**2 - measured.stderr**2, 0.0))
        # What independent variables show by chance in so few rows that are worth one, as the log of a determinant does.
        worth = model.settings["pairs_fitted"] / rows.memory
        errors["chance in few rows"] = math.sqrt(math.prod(s[0] for s in model.network.shapes.values()) / 2) / worth
    instead = told_in_closed_form(floors, fitted, settings) if closed else None
    settled = {**estimate.settings, "readings": floors.record()}
    said: list[str] = []
    coordinates = sum(math.prod(shape) for shape in model.network.shapes.values())
    pairs = int(model.settings["pairs_fitted"])
    unseen = unseen_of(floors, coordinates, pairs, (instead or measured).value, told=instead is not None)
    if unseen is not None:
        errors["unseen among many columns"] = unseen[0]
        said.append(unseen[1])
    if instead is not None:
        errors.pop(FOLDS, None)  # nothing that was trained enters
        errors["training"] = settings.least_gain
        settled["told"] = "nothing was learnt beyond the Gaussian part, which is given in closed form"
    else:
        errors["certificate"] = abs(estimate.certificate.value) / 2
        errors["training"] = max(fitted.last_gain, settings.least_gain)
        apart = amiss(floors, measured)
        if apart > 0:
            errors[READINGS] = apart
            said += disagreements(floors, measured)
            missed = floors.missed(measured)
            if missed is not None and closed:
                # The whole holds no less than a part, so that the reading is nearer to it than the fit.
                instead = missed[0].value
                settled["told"] = f"the fit found less than {missed[0].name}, whose reading stands in its place"
        elif coordinates < NEAR and pairs < TO_FIT:
            short = hardly_found(floors, measured)
            if short is not None:
                errors["bends hardly found"] = short[0]
                said.append(short[1])
    known = {name: round(error, 6) for name, error in errors.items() if error > 0}
    return replace(estimate, settings=settled, notes=(*said, *estimate.notes), allowance=Allowance(known, instead))


def unseen_of(floors: Floors, coordinates: int, pairs: int, nats: float, told: bool) -> tuple[float, str] | None:
    """What few pairs of many columns may hide, in nats, and what to say of it; ``None`` if little can be hidden.

    A share of what is found, and what powers show to bend. The share was chosen on the spirals of two seeds at 500 and 1,000 pairs.

    Args:
        floors: the cheap readings.
        coordinates: columns of both variables.
        pairs: that were fitted to.
        nats: what was found.
        told: whether this is the Gaussian part, since nothing else was learned.
    """
    few = bool(floors.readings) and coordinates >= NEAR and pairs < TO_FIT
    if not few and not (told and floors.bends > 0):
        return None
    allowed = UNSEEN * abs(nats) + min(floors.bends, MOST_BENT * abs(nats))
    if floors.bends > 0:
        return allowed, Finding(
            f"what the Gaussian part leaves still depends, by about {floors.bends:.2f} nats in second and third powers, and {pairs} pairs of "
            f"{coordinates} columns are few to learn it: the number is likely too small; pass {max(MANY, 2 * pairs)} pairs or more",
            "few pairs",
        )
    if not told:
        return None
    return allowed, Finding(
        f"this is the Gaussian part: a relation of {coordinates} columns that bends would be seen neither by what is fitted to {pairs} pairs nor "
        f"by nearest neighbours; pass {MANY} pairs or more to look for one",
        "few pairs",
    )


def hardly_found(floors: Floors, value: Value) -> tuple[float, str] | None:
    """What a fit of few pairs may have left of what powers show to bend, in nats, and what to say of it.

    ``None`` if nothing bends, or if it has found more than nearest neighbours, which see little of what bends in several columns and of few
    pairs: then it has learnt. Powers show about as much as there is, and more of long tails: half of what was not found is allowed.
    """
    near = [r.value for r in floors.readings if r.name == NEIGHBOURS]
    straight = [r.value.value for r in floors.readings if r.name == GAUSSIAN]
    if floors.bends <= 0 or not near or not straight or value.value > near[0].value + near[0].stderr:
        return None
    beyond = value.value - straight[0]
    if beyond >= floors.bends:
        return None
    return (floors.bends - beyond) / 2, Finding(
        f"second and third powers show about {floors.bends:.2f} nats beyond the Gaussian part, of which {beyond:.2f} were found, no more than nearest "
        f"neighbours see: the number is likely too small; pass {MANY} pairs or more",
        "few pairs",
    )


def disagreements(floors: Floors, value: Value) -> list[str]:
    """Say which reading a value disagrees with, and by how much."""
    missed = floors.missed(value)
    if missed is not None:
        reading, lack = missed
        return [
            f"the fit has missed {lack:.3f} nats: {reading.name} read {reading.value.value:.3f} +- {reading.value.stderr:.3f} and the "
            f"whole cannot hold less than a part, but {value.value:.3f} were found; fit longer (settings=FitSettings(steps=...)), or "
            "add pairs"
        ]
    for reading in floors.readings:
        if reading.both_ways:
            return [
                f"the fit is {value.value - reading.value.value:.3f} nats above what {reading.name} read, {reading.value.value:.3f} +- "
                f"{reading.value.stderr:.3f}: it may have found what is not there; add pairs"
            ]
    return []


def disagreement(estimate: Estimate) -> float:
    """By how many nats a judged estimate disagrees with the readings, beyond the errors of both."""
    return 0.0 if estimate.allowance is None else estimate.allowance.errors.get(READINGS, 0.0)
