"""Guidance only where the information arrives, from a measured curve, beside what a sweep of constants and intervals finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmg_diffusers.commands.studies.uses.drawings import KINDS, Choice, Drawings, always, true_factors
from mmg_diffusers.commands.studies.uses.judge import KeptJudge, Training, read_right
from mmg_diffusers.commands.studies.uses.laws import Variant
from mmg_diffusers.commands.studies.uses.schedules import Schedule, scheduled
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.influence import Influence
from mmg_diffusers.measure.influence import influence as influence_of
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.marginals import Negatives
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, read_images

# Of the pairs whose curve is measured; no picture of a protocol has it.
CURVE_SEED = 610_005
# Fixed before anything was measured: how far from the swept optimum, in standard errors, how far below the best constant, and the share
# of the sweep's rows.
NEAR, BELOW, SHARE = 2.0, 0.15, 0.03
# The setting of a GPU.
GPU_SEEDS, GPU_STEPS = 20, 30
NONE = "none"
MEASURED: Mapping[str, str] = {
    "candidates": "measured, among candidates",
    "fine": "measured, along a finer path",
    "null": "measured, null prompt",
}


@dataclass(frozen=True)
class Settings:
    """What is drawn, and which scales of guidance are held against each other.

    Args:
        captions: the first so many of every 48 in an order that mixes them; all of them by default.
        seeds: each names the noise of a picture a caption; an even number of them, since a sweep is chosen on one half and read on the
            other.
        steps: of the sampler.
        constants: scales at all steps.
        strengths: of intervals: scale - 1 in the mean over all steps, so that an interval is as strong as a constant of 1 + strength; that of the model's
            card by default.
        every: steps between the starts and stops of the intervals that are swept.
        scale: inside of the interval that is measured and takes nothing from a sweep, not even its strength.
        share: of the information, central, that arrives inside the measured interval.
        pairs: fresh ones, whose curves are measured.
        levels: of the null prompt.
        others: pairs whose captions are the candidates beside a pair's own.
        path, high: steps and clean end of the candidates' path.
        fine: steps of a finer path, of half of the pairs: between its steps a curve is interpolated, and so is where it begins to arrive.
        randoms: intervals of the measured one's length at other places, for each strength.
        law: of the factors given the caption that pictures are held against: of words as they are, or of the factors that this caption alone fits.
        training: of the judge.
    """

    captions: int = 48
    seeds: tuple[int, ...] = (41, 42, 43, 44)
    steps: int = 8
    constants: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0)
    strengths: tuple[float, ...] = (4.0,)
    every: int = 2
    scale: float = 5.0
    share: float = 0.8
    pairs: int = 256
    levels: int = 8
    others: int = 15
    path: int = 6
    fine: int = 16
    high: float = 3.0
    randoms: int = 3
    law: Variant = "hard"
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if len(self.seeds) % 2 or not self.seeds:
            raise ValueError(
                f"there are {len(self.seeds)} seeds; expected an even number, one half to choose on and one to read"
            )


def guidance(pipe: MMGPipeline, stages: Stages, settings: Settings) -> dict[str, Any]:
    """Measure the curves, then draw a picture a caption under every schedule, a seed at a time; each is kept."""
    judge = KeptJudge(stages, settings.training)
    curves = {
        "candidates": stages(
            "curve-candidates", lambda: curve_among_candidates(pipe, settings, settings.pairs, settings.path)
        ),
        "fine": stages(
            "curve-fine", lambda: curve_among_candidates(pipe, settings, settings.pairs // 2, settings.fine)
        ),
        "null": stages("curve-null", lambda: curve_with_null(pipe, settings)),
    }
    schedules = chosen_schedules(settings, {name: Schedule(tuple(own["scales"])) for name, own in curves.items()})
    parts = [
        stages(f"pictures-{seed}", lambda seed=seed: drawn(pipe, judge, settings, schedules, seed))
        for seed in settings.seeds
    ]
    return {
        "accuracy": judge.accuracy,
        "curves": curves,
        "parts": parts,
        "schedules": {name: list(own.scales) for name, own in schedules.items()},
        "settings": {
            name: getattr(settings, name) for name in ("law", "scale", "strengths", "share", "pairs", "steps")
        },
    }


def curve_among_candidates(pipe: MMGPipeline, settings: Settings, pairs: int, steps: int) -> dict[str, Any]:
    """Where the information of some pairs arrives by the posterior of some captions along paths of so many steps."""
    sample = Shapes("soft").sample(pairs, CURVE_SEED)
    rule = AtLevels.widening(pipe.denoiser.logsnr_range[0], settings.high, steps + 1)
    found = pipe.filter(
        list(sample.images),
        sample.prompts,
        Negatives(settings.others, CURVE_SEED),
        plan=Plan(levels=rule.levels, prune=1e-3, seed=CURVE_SEED),
    )
    return _window(pipe, found.influence(), found.evaluations, settings)


def curve_with_null(pipe: MMGPipeline, settings: Settings) -> dict[str, Any]:
    """Where it arrives by what the prompt adds over the null prompt."""
    sample = Shapes("soft").sample(settings.pairs, CURVE_SEED)
    found = pipe(
        list(sample.images), sample.prompts, plan=Plan(levels=settings.levels, antithetic=False, seed=CURVE_SEED)
    )
    return _window(pipe, influence_of(found), found.evaluations, settings)


def _window(pipe: MMGPipeline, curve: Influence, rows: int, settings: Settings) -> dict[str, Any]:
    guider = curve.guider(settings.scale, steps=pipe.sampler(settings.steps), share=settings.share)
    mean, error = curve.mean()
    return {
        "window": list(curve.window(settings.share)),
        "scales": list(Schedule.of(guider, settings.steps).scales),
        "rows": rows,
        "nats": [float(mean[0]), float(error[0])],
    }


def chosen_schedules(settings: Settings, measured: Mapping[str, Schedule]) -> dict[str, Schedule]:
    """All schedules by name: none, constants, intervals that are swept, those that were measured, and random ones."""
    steps = settings.steps
    found = {NONE: Schedule((1.0,) * steps)}
    found |= {f"constant {scale:g}": Schedule((scale,) * steps) for scale in settings.constants}
    rng = np.random.default_rng(CURVE_SEED)
    for strength in settings.strengths:
        for start in range(0, steps, settings.every):
            for stop in range(start + settings.every, steps + 1, settings.every):
                # The whole of the steps is a constant.
                if stop - start < steps:
                    found[f"swept {start}-{stop} at {strength:g}"] = Schedule.within(steps, start, stop, strength)
        for name, own in measured.items():
            first, last = own.inside
            found[f"{MEASURED[name]} at {strength:g}"] = Schedule.within(steps, first, last, strength)
        first, last = measured["candidates"].inside
        others = [start for start in range(steps - (last - first) + 1) if start != first]
        for start in sorted(rng.choice(others, min(settings.randoms, len(others)), replace=False).tolist()):
            length = last - first
            found[f"random {start}-{start + length} at {strength:g}"] = Schedule.within(
                steps, start, start + length, strength
            )
    return found | {f"{MEASURED[name]}, scale {settings.scale:g}": own for name, own in measured.items()}


def drawn(
    pipe: MMGPipeline, judge: KeptJudge, settings: Settings, schedules: Mapping[str, Schedule], seed: int
) -> dict[str, Any]:
    """A picture a caption under every schedule from the noise of one seed, and what is read from it."""
    captions = (np.arange(settings.captions) * 7) % len(CAPTIONS)
    made = scheduled(pipe, [CAPTIONS[k] for k in captions], list(dict.fromkeys(schedules.values())), seed)
    read: dict[str, Any] = {}
    for name, schedule in schedules.items():
        images = made[schedule]
        factors = read_images(images).factors
        read[name] = {
            "factors": {kind: np.asarray(getattr(factors, kind)).tolist() for kind in KINDS},
            "right": read_right(images, captions).tolist(),
            "judged": (judge.judge.by_caption(images).argmax(1).numpy() == captions).tolist(),
        }
    return {"caption": captions.tolist(), "read": read}


# ---- what it says ----


def guidance_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: what each schedule's pictures are, what the sweep chose, and whether the bars are met."""
    settings, accuracy = result["settings"], result["accuracy"]
    drawings = Drawings.of(result, settings["law"])
    yield (
        f"{len(drawings)} pictures under each of {len(drawings.by_name)} schedules, {settings['steps']} steps. The judge is right about "
        f"{100 * accuracy['judge']:.2f} % of {accuracy['pictures']} fresh rendered pictures, the checker about {100 * accuracy['checker']:.2f} %. "
        f"Distances to the {settings['law']} law; as many pictures of the law itself, read as those that are drawn, are "
        f"{drawings.floor(settings['law']):.3f} off."
    )
    yield ""
    for name, curve in result["curves"].items():
        first, last = Schedule(tuple(curve["scales"])).inside
        yield (
            f"- {MEASURED[name]}: {plus_minus(curve['nats'])} nats, the central {settings['share']:.0%} from log-SNR {curve['window'][0]:.2f} to "
            f"{curve['window'][1]:.2f}, steps {first} to {last - 1} of {settings['steps']}, {curve['rows']} rows"
        )
    yield ""
    yield from _table(drawings, result)
    yield ""
    yield from _bars(drawings, result)


def _choices(drawings: Drawings, settings: Mapping[str, Any]) -> dict[str, list[Choice]]:
    """What is compared, each a choice for both halves, or some over which the mean is taken."""
    constants, swept = drawings.named("constant "), drawings.named("swept ")
    found = {NONE: [always(NONE)], "best constant": [drawings.best([NONE, *constants])]}
    found["best of the sweep"] = [drawings.best([NONE, *constants, *swept])]
    for strength in settings["strengths"]:
        at = f" at {strength:g}"
        found[f"best interval, swept{at}"] = [drawings.best([name for name in swept if name.endswith(at)])]
        found |= {name: [always(name)] for name in drawings.named("measured") if name.endswith(at)}
        found[f"random intervals{at}"] = [always(name) for name in drawings.named("random ") if name.endswith(at)]
    return found | {name: [always(name)] for name in drawings.named("measured") if ", scale " in name}


def _table(drawings: Drawings, result: Mapping[str, Any]) -> Iterator[str]:
    settings = result["settings"]
    other: Variant = "soft" if settings["law"] == "hard" else "hard"
    elsewhere = Drawings.of(result, other)
    true = true_factors(drawings.captions, settings["law"])
    yield f"| guidance | strength | rows a picture | Fréchet distance, {settings['law']} law | {other} law | right, by the judge | by the checker | covers |"
    yield "|---" * 8 + "|"
    every = {name: [always(name)] for name in drawings.named("constant ")} | _choices(drawings, settings)
    for name, choices in every.items():
        schedules = [drawings.schedules[own] for choice in choices for own in choice]
        strength = sum(own.strength for own in schedules) / len(schedules)
        rows = sum(own.rows for own in schedules) / len(schedules)
        chosen = sorted(set(choices[0])) if name.startswith("best ") else []
        said = f"{name} ({', '.join(chosen)})" if chosen else name
        cells = [
            *(plus_minus(own.distance(*choices)) for own in (drawings, elsewhere)),
            *(plus_minus(drawings.share(what, *choices)) for what in ("judged", "right")),
            f"{drawings.covers(true, *choices):.3f}",
        ]
        yield f"| {said} | {strength:.2f} | {rows:.1f} | {' | '.join(cells)} |"


def _bars(drawings: Drawings, result: Mapping[str, Any]) -> Iterator[str]:
    settings = result["settings"]
    choices = _choices(drawings, settings)
    best, constant = choices["best of the sweep"][0], choices["best constant"][0]
    swept = [NONE, *drawings.named("constant "), *drawings.named("swept ")]
    rows = sum(drawings.schedules[name].rows for name in swept) * len(drawings)
    count = sum(drawings.schedules[name].rows for name in swept) * GPU_SEEDS * len(set(drawings.captions.tolist()))
    large = count * GPU_STEPS // settings["steps"]
    yield f"| bar | at most {NEAR:g} standard errors above the swept optimum | {BELOW:.0%} below the best constant | at most {SHARE:.0%} of the sweep's {rows} rows ({large} with {GPU_SEEDS} seeds and {GPU_STEPS} steps) |"
    yield "|---" * 4 + "|"
    for name in drawings.named("measured"):
        own = always(name)
        near, below = drawings.further(own, best), drawings.ratio(own, constant)
        took = next(result["curves"][key]["rows"] for key, said in MEASURED.items() if name.startswith(said))
        z = near.value / near.stderr if near.stderr > 0 else 0.0
        yield (
            f"| {name} | {plus_minus(near)}: {_met(z <= NEAR)} | {100 * below.value:.1f} ± {100 * below.stderr:.1f} %: "
            f"{_met(below.value <= -BELOW)} | {100 * took / rows:.1f} %: {_met(took <= SHARE * rows)} ({100 * took / large:.1f} %: "
            f"{_met(took <= SHARE * large)}) |"
        )


def _met(met: bool) -> str:
    return "yes" if met else "no"
