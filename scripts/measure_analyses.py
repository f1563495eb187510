"""Measure what the analyses say about the shipped model against the exact world of Shapes (soft); prints a Markdown table.

    python scripts/measure_analyses.py                                 # 256 fresh pairs: hours of one core
    python scripts/measure_analyses.py --pairs 8 --few 4 --draws 1     # a look, in some minutes
    python scripts/measure_analyses.py --stage maps --stage null       # some stages, e.g. to run two at a time

Every stage, and every part of 64 pairs within it, is written to OUTPUT as it is done, and read back the next time.

Maps compare a caption with the mixture of captions (the posterior filter); a word with the mixture of those that differ in
it alone. They are of the band from log-SNR -1.5 up: about there half of the information has arrived, so that the object's
place is known, and what is left to say is said where it is (below, a map also lights where it could have been). They are
spread over the image linearly between the latent pixels' centres; those of words are averaged over four draws of noise. Thresholds were
fixed before the measurement, band and draws on 24 pairs of another seed (9009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from measure_shapes import PRUNE, Comparison
from torch import Tensor

from mmg_diffusers import Candidates, Estimate, MMGPipeline, shapes_model
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.analysis.maps import auroc, dilate, to_pixels
from mmg_diffusers.analysis.words import all_but, word_information
from mmg_diffusers.commands.figures import plot_influence, plot_map_grid
from mmg_diffusers.measure.estimate import Value, mean_over_pairs
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pipelines.drawing import switch_prompts
from mmg_diffusers.pipelines.pipeline import LEVELS
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, SIZE, WORDS, Shapes, ShapesSample, caption_parts

TEST_SEED = 3003
# Fixed before anything was measured: a pixel is inside where at least half of it is covered; one latent cell is 4 pixels.
COVERED, CELL = 0.5, SIZE // 8
# Of log-SNR.
BAND = (-1.5, math.inf)
CLEAN = (3.0, math.inf)
AGREEMENT_LEVELS = 10
# Readings of the filter that are to agree.
COMPARED = (("entropy", "log q"), ("gap", "log q"), ("gap", "entropy"), ("steadied gap", "log q"))
PARTS = caption_parts()
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """The model, its fresh pairs, and how they are measured."""

    pipe: MMGPipeline
    stages: Stages
    sample: ShapesSample
    steps: int
    high: float
    draws: int
    map_draws: int
    prune: float
    null_levels: int
    few: int
    switched: int
    sampling_steps: int

    def levels(self, high: float | None = None, steps: int | None = None) -> tuple[float, ...]:
        low, top = self.pipe.denoiser.logsnr_range
        return AtLevels.widening(low, min(top, high or self.high), (steps or self.steps) + 1).levels

    def filter(
        self,
        name: str,
        word: str | None = None,
        *,
        count: int | None = None,
        levels: tuple[float, ...] | None = None,
        draws: int = 1,
        prune: float | None = None,
        keep: Any = "pair",
        seed: int = 5,
    ) -> Filtered:
        """The posterior filter over all captions, or over those that differ in a word, kept in parts."""
        among = Candidates(CAPTIONS, groups=None if word is None else all_but(PARTS, word))

        def measure(ids: range) -> Filtered:
            return self.pipe.filter(
                [self.sample.images[i] for i in ids],
                [self.sample.prompts[i] for i in ids],
                among,
                keep=keep,
                levels=levels or self.levels(),
                draws=draws,
                prune=self.prune if prune is None else prune,
                seed=seed,
                pair_ids=ids,
            )

        return Filtered.merge(self.stages.parts(name, count or len(self.sample), measure, Filtered.load))

    def null(self) -> Estimate:
        """The null prompt, with maps at every level, kept in parts."""

        def measure(ids: range) -> Estimate:
            return self.pipe(
                [self.sample.images[i] for i in ids],
                [self.sample.prompts[i] for i in ids],
                levels=self.null_levels,
                keep="level",
                seed=5,
                pair_ids=ids,
            )

        return Estimate.merge(self.stages.parts("null", len(self.sample), measure, Estimate.load))


def posterior(setup: Setup) -> dict[str, Any]:
    """The final posterior over all captions, the evidence averaged over draws: I, and each word given the rest."""
    world, sample = Shapes("soft"), setup.sample
    compare = Comparison(setup.pipe, setup.stages, setup.steps, setup.high, setup.draws, PRUNE)
    found = compare("posterior", sample, seed=4)
    exact = torch.from_numpy(world.pointwise(sample.factors, sample.caption))
    nats = found.pointwise(sample.prompts)
    words = word_information(found, sample.prompts, PARTS)
    return {
        "truth": world.mutual_information(),
        "truth_of_these": mean_over_pairs(exact),
        "nats": found.bound(sample.prompts),
        "less_exact": mean_over_pairs(nats - exact),
        "evaluations": found.curve.evaluations,
        "words": {kind: [*mean_over_pairs(own), world.conditional_information(kind)] for kind, own in words.items()},
    }


def end_of(curve: Curve) -> dict[str, float]:
    """The mean curves at the cleanest level, as shares of their peaks."""
    found = {"logsnr": float(curve.logsnr[0, 0, -1])}
    for form in ("gap", "orthogonal"):
        mean = getattr(curve, form).mean((0, 1))
        spread = float(getattr(curve, form).mean(1)[:, -1].std()) / len(curve) ** 0.5
        found[form] = float(mean[-1] / mean.abs().max())
        found[f"{form}_stderr"] = spread / float(mean.abs().max())
    return found


def along(setup: Setup) -> dict[str, Any]:
    """The filter level by level: three readings that should agree, the decay at the clean end, the whole at tau = T."""
    found = setup.filter("filter", keep="level")
    log_q, entropy = found.by_level[:, :-1], found.entropy_by_level[:, :-1]
    readings = {"log q": log_q, "entropy": entropy}
    readings |= {form: found.integrated_by_level(form) for form in ("gap", "orthogonal")}
    readings["steadied gap"] = found.steadied_by_level
    rows: list[dict[str, Any]] = []
    for level in np.linspace(1, log_q.shape[1] - 1, AGREEMENT_LEVELS).round().astype(int):
        at = {name: own[:, level] for name, own in readings.items()}
        rows.append(
            {
                "logsnr": float(found.logsnr[level]),
                **{name: mean_over_pairs(own) for name, own in at.items()},
                "differences": {f"{a} - {b}": mean_over_pairs(at[a] - at[b]) for a, b in COMPARED},
            }
        )
    exact = torch.from_numpy(Shapes("soft").pointwise(setup.sample.factors, setup.sample.caption))
    over = found.influence(setup.pipe.denoiser.convention)
    compared = influence(found.against_mixture.using("gap"))
    exactly = torch.equal(over.nats[:, 0], found.nats) and torch.equal(
        compared.nats[:, 0], found.against_mixture.using("gap").nats
    )
    return {
        "nats": found.mean(),
        "less_exact": mean_over_pairs(found.nats - exact),
        "entropy": mean_over_pairs(found.entropy_by_level[:, -1]),
        **{form: found.against_mixture.using(form).mean() for form in ("gap", "orthogonal")},
        "below": found.below,
        "settled": found.settled,
        "step_error": found.step_error,
        "levels": rows,
        "end": end_of(found.against_mixture.curve),
        "whole_is_the_estimate": exactly,
        "half": {axis: over.half(axis) for axis in ("tau", "logsnr")},
        "evaluations": found.evaluations,
        "warnings": found.warnings(),
    }


def null(setup: Setup) -> dict[str, Any]:
    """The null prompt, for comparison: it does not decay."""
    found = setup.null()
    over = influence(found, setup.pipe.denoiser.convention)
    return {
        **{form: found.using(form).mean() for form in ("gap", "orthogonal")},
        "end": end_of(found.curve),
        "whole_is_the_estimate": torch.equal(over.nats[:, 0], found.nats),
        "half": {axis: over.half(axis) for axis in ("tau", "logsnr")},
        "map_sums": sums(found),
        "clean": share(found),
        "warnings": found.warnings(),
    }


def sums(found: Estimate) -> float:
    """How far a map's sum, over image pixels, is from the pair's orthogonal value, at most."""
    maps = to_pixels(found.pixel_map("orthogonal")[0], (SIZE, SIZE))
    return float((maps.sum((1, 2)) - found.using("orthogonal").nats).abs().max())


def share(found: Estimate) -> Value:
    """The share of the orthogonal maps that the clean end makes, in the mean over pairs."""
    clean = found.pixel_map("orthogonal", CLEAN)[0].flatten(1).sum(1)
    whole = found.using("orthogonal").nats
    ratio = float(clean.sum() / whole.sum())
    rest = (clean - ratio * whole) / whole.mean()
    return Value(ratio, float(rest.std() / len(rest) ** 0.5) if len(rest) > 1 else float("nan"))


def judge(maps: Tensor, sample: ShapesSample) -> dict[str, Any]:
    """Maps `(N, SIZE, SIZE)` against the objects: area under the curve, the brightest pixel, the grey distractor."""
    mask, distractor = (torch.from_numpy(np.asarray(part)) >= COVERED for part in (sample.mask, sample.distractor))
    near = dilate(mask, CELL)
    other = distractor & ~near
    seen = [k for k in range(len(maps)) if bool(other[k].any())]
    background = [maps[k][~(near[k] | other[k])] for k in seen]
    above = [float(maps[k][other[k]].mean() - own.mean()) for k, own in zip(seen, background, strict=True)]
    limit = [2 * float(own.std()) for own in background]
    brightest = maps.flatten(1).argmax(1)
    return {
        "auroc": mean_over_pairs(auroc(maps, near)),
        "brightest_inside": float(mask.flatten(1).gather(1, brightest[:, None]).double().mean()),
        "distractors": len(seen),
        "distractor_above_background": float(np.mean(above)) if seen else 0.0,
        "two_deviations": float(np.mean(limit)) if seen else 0.0,
        "distractor_below": float(np.mean([a < b for a, b in zip(above, limit, strict=True)])) if seen else 1.0,
        "nats": mean_over_pairs(maps.flatten(1).sum(1)),
    }


def maps(setup: Setup) -> dict[str, Any]:
    """Maps of the whole caption and of each word, judged by the objects' masks."""
    out: dict[str, Any] = {}
    shown: dict[str, Tensor] = {}
    for name in ("caption", *WORDS):
        if name == "caption":
            against = setup.filter("filter", keep="level").against_mixture
        else:
            against = setup.filter(f"maps-{name}", name, draws=setup.map_draws, keep="level", seed=6).against_mixture
        own = to_pixels(against.pixel_map("orthogonal", BAND)[0], (SIZE, SIZE))
        whole = to_pixels(against.pixel_map("orthogonal")[0], (SIZE, SIZE))
        out[name] = {**judge(own, setup.sample), "all levels": judge(whole, setup.sample), "map_sums": sums(against)}
        shown[name] = whole[:6]
    figure = plot_map_grid(
        setup.sample.images[:6], shown, titles=[p.replace(" on ", "\non ") for p in setup.sample.prompts[:6]]
    )
    figure.savefig(setup.stages.folder / "maps.png", dpi=100)
    return out


def clean_end(setup: Setup) -> dict[str, Any]:
    """The clean end's share of a map with the filter's marginal, followed to the model's own clean end."""
    top = setup.pipe.denoiser.logsnr_range[1]
    found = setup.filter(
        "clean", count=setup.few, levels=setup.levels(top, setup.steps + max(4, setup.steps // 3)), keep="level", seed=7
    )
    return {"clean": share(found.against_mixture), "end": end_of(found.against_mixture.curve), "pairs": setup.few}


def switching(setup: Setup) -> dict[str, Any]:
    """The tau at which the first prompt wins half of the time, beside that at which half of the information has arrived."""
    first, second = "a large red circle on the left", "a large blue circle on the right"
    found = switch_prompts(
        setup.pipe,
        first,
        second,
        list(np.linspace(0, 1, 11)),
        count=setup.switched,
        steps=setup.sampling_steps,
        levels=setup.levels(),
        seed=8,
    )
    images, prompts = [*found.images[-1], *found.images[0]], [first] * setup.switched + [second] * setup.switched
    over = setup.pipe.filter(images, prompts, Candidates((first, second)), levels=setup.levels(), seed=8).influence(
        found.convention
    )
    arrived = {axis: over.half(axis) if float(over.nats[:, 0].mean()) > 0 else None for axis in ("tau", "logsnr")}
    return {
        "prompts": [first, second],
        "tau": found.tau.tolist(),
        "share": [list(row) for row in zip(*(part.tolist() for part in found.share()), strict=True)],
        "wins": {axis: found.half(axis) for axis in ("tau", "logsnr")},
        "arrived": arrived,
    }


def pruning(setup: Setup) -> dict[str, Any]:
    """Evaluations saved by pruning, at the threshold and at a tenth of it, and what it changes; on a few pairs."""
    whole = setup.filter("prune-0", count=setup.few, prune=0.0, seed=9)
    out: dict[str, Any] = {"pairs": setup.few, "evaluations": whole.evaluations}
    for prune in (setup.prune, setup.prune / 10):
        pruned = setup.filter(f"prune-{prune:g}", count=setup.few, prune=prune, seed=9)
        out[f"{prune:g}"] = {
            "evaluations": pruned.evaluations,
            "log q": mean_over_pairs(pruned.nats - whole.nats),
            "entropy": mean_over_pairs(pruned.entropy_by_level[:, -1] - whole.entropy_by_level[:, -1]),
            "gap": mean_over_pairs(pruned.against_mixture.using("gap").nats - whole.against_mixture.using("gap").nats),
        }
    return out


def step(setup: Setup) -> dict[str, Any]:
    """How log q depends on the number of steps; on a few pairs, at noise of their own."""
    out: dict[str, Any] = {"pairs": setup.few}
    for steps in (max(2, setup.steps // 2), setup.steps, 2 * setup.steps):
        found = setup.filter(f"steps-{steps}", count=setup.few, levels=setup.levels(steps=steps), seed=10)
        out[str(steps)] = {
            "nats": found.mean(),
            "entropy": mean_over_pairs(found.entropy_by_level[:, -1]),
            "gap": found.against_mixture.using("gap").mean(),
            "evaluations": found.evaluations,
        }
    return out


# ---- the table ----


def plus_minus(pair: Any, digits: int = 3) -> str:
    return "none" if pair is None else f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


Row = tuple[str, str, str, bool | None]
"""What is measured, what was found, the bar, and whether it is met (nothing where there is none)."""


def arrival(found: Result) -> Iterator[Row]:
    """Of information over time: whether all of it is the number of the run, and where half of it has arrived."""
    whole, half = found["whole_is_the_estimate"], found["half"]
    yield "- influence at tau = T is the MI of the run", str(whole), "exactly", whole
    yield "- half has arrived at tau; log-SNR", f"{plus_minus(half['tau'])}; {plus_minus(half['logsnr'], 2)}", "", None


def rows_of(name: str, found: Result) -> Iterator[Row]:
    """The rows of one stage."""
    if name == "posterior":
        nats, less = found["nats"][0], found["less_exact"]
        off = abs(less[0]) / found["truth_of_these"][0]
        yield (
            "exact I; exact mean of these pairs",
            f"{found['truth']:.3f}; {plus_minus(found['truth_of_these'])}",
            "",
            None,
        )
        yield "final posterior, I", plus_minus(found["nats"]), "", None
        yield "- against the exact mean of these pairs", f"{plus_minus(less)}, {off:.1%}", "within 5 %", off < 0.05
        far = abs(nats / found["truth"] - 1)
        yield "- against the exact I", f"{far:.1%}", "within 5 %", far < 0.05
        for kind, (own, stderr, truth) in found["words"].items():
            far = abs(own / truth - 1)
            told = f"{own:.3f} ± {stderr:.3f}, exact {truth:.3f}, {far:.1%}"
            yield f"- {kind} given the rest", told, "within 10 %", far < 0.1
    elif name == "filter":
        said = {form: plus_minus(found[form]) for form in ("nats", "entropy", "gap", "orthogonal")}
        told = f"log q {said['nats']}, entropy {said['entropy']}, gap {said['gap']}, orthogonal {said['orthogonal']}"
        yield "filter, one path", told, "", None
        yield "- log q less the exact i(x; y), pair by pair", plus_minus(found["less_exact"]), "", None
        yield (
            "- settled from, below the path",
            f"log-SNR {found['settled']:.2f}, {plus_minus(found['below'])}",
            "",
            None,
        )
        for name in (f"{a} - {b}" for a, b in COMPARED):
            worst = max(abs(row["differences"][name][0]) / row["differences"][name][1] for row in found["levels"])
            where = f"- {name}, worst of {len(found['levels'])} levels"
            yield where, f"{worst:.1f} standard errors", "within 3", worst <= 3
        yield "- error of the step", plus_minus(found["step_error"]), "", None
        end = found["end"]
        told = f"{end['gap']:.2%} ± {end['gap_stderr']:.2%} of the peak, at log-SNR {end['logsnr']:.2f}"
        yield "- gap curve at the cleanest level", told, "below 1 %", abs(end["gap"]) < 0.01
        yield "- orthogonal curve there", f"{end['orthogonal']:.2%} ± {end['orthogonal_stderr']:.2%}", "", None
        yield from arrival(found)
    elif name == "null":
        yield (
            "null prompt, gap and orthogonal",
            f"{plus_minus(found['gap'])}, {plus_minus(found['orthogonal'])}",
            "",
            None,
        )
        end = found["end"]
        told = f"{end['gap']:.1%} ± {end['gap_stderr']:.1%} of the peak, at log-SNR {end['logsnr']:.2f}"
        yield "- gap curve at the cleanest level", told, "not below 1 %", abs(end["gap"]) >= 0.01
        yield from arrival(found)
        yield "- share of a map from log-SNR 3 up", f"{found['clean'][0]:.1%} ± {found['clean'][1]:.1%}", "", None
        yield (
            "- a map's sum less the orthogonal value, at most",
            f"{found['map_sums']:.1e}",
            "1e-6",
            found["map_sums"] < 1e-6,
        )
    elif name == "clean-end":
        told = f"{found['clean'][0]:.1%} ± {found['clean'][1]:.1%}"
        yield (
            f"filter to the model's clean end, {found['pairs']} pairs: share of a map from log-SNR 3 up",
            told,
            "",
            None,
        )
    elif name == "maps":
        far = max(own["map_sums"] for own in found.values() if isinstance(own, dict))
        yield "maps: sum less the orthogonal value, at most", f"{far:.1e}", "1e-6", far < 1e-6
        for kind in ("caption", *WORDS):
            own = found[kind]
            bar = {"caption": 0.95, "colour": 0.97}.get(kind)
            met = None if bar is None else own["auroc"][0] >= bar
            told = f"{plus_minus(own['auroc'])} (all levels {own['all levels']['auroc'][0]:.3f})"
            yield f"- {kind}: AUROC", told, "" if bar is None else f"{bar} or more", met
            if kind == "colour":
                inside = own["brightest_inside"]
                yield f"- {kind}: brightest pixel inside", f"{inside:.1%}", "95 % or more", inside >= 0.95
            if kind in ("caption", "colour"):
                above, limit = own["distractor_above_background"], own["two_deviations"]
                told = (
                    f"{above:.5f}, 2 sd {limit:.5f}; below it in {own['distractor_below']:.1%} of {own['distractors']}"
                )
                yield f"- {kind}: distractor's mean less the background's", told, "below 2 sd", above < limit
    elif name == "switching":
        wins, arrived = (found[key] for key in ("wins", "arrived"))
        yield (
            "switching: the first prompt wins half of the time at tau; log-SNR",
            f"{plus_minus(wins['tau'])}; {plus_minus(wins['logsnr'], 2)}",
            "",
            None,
        )
        yield (
            "- half of the information has arrived at",
            f"{plus_minus(arrived['tau'])}; {plus_minus(arrived['logsnr'], 2)}",
            "",
            None,
        )
    elif name == "pruning":
        for prune, own in found.items():
            if isinstance(own, dict):
                saved = 1 - own["evaluations"] / found["evaluations"]
                told = f"{saved:.1%} of {found['evaluations']}"
                yield f"pruning at {prune}, {found['pairs']} pairs: evaluations saved", told, "", None
                yield "- change of log q", plus_minus(own["log q"], 5), "below 0.001", abs(own["log q"][0]) < 0.001
                told = f"{plus_minus(own['entropy'], 5)}, {plus_minus(own['gap'], 5)}"
                yield "- change of the entropy, of the gap to the mixture", told, "", None
    elif name == "steps":
        for steps, own in found.items():
            if isinstance(own, dict):
                told = f"log q {plus_minus(own['nats'])}, entropy {plus_minus(own['entropy'])}, gap {plus_minus(own['gap'])}"
                yield f"{steps} steps, {found['pairs']} pairs", f"{told}, {own['evaluations']} evaluations", "", None


def table(results: Mapping[str, Result]) -> str:
    lines = ["| | found | bar | met |", "|---|---|---|---|"]
    for name, found in results.items():
        for what, told, bar, met in rows_of(name, found):
            lines.append(f"| {what} | {told} | {bar} | {'' if met is None else 'yes' if met else 'no'} |")
    return "\n".join(lines)


def levels_table(found: Result) -> str:
    readings = ("log q", "entropy", "gap", "orthogonal")
    differences = list(found["levels"][0]["differences"])
    lines = [
        f"| log-SNR | {' | '.join([*readings, *differences])} |",
        "|--:" * (1 + len(readings) + len(differences)) + "|",
    ]
    for row in found["levels"]:
        cells = [plus_minus(row[name]) for name in readings]
        cells += [plus_minus(row["differences"][name]) for name in differences]
        lines.append(f"| {row['logsnr']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


STAGES: Mapping[str, Callable[[Setup], dict[str, Any]]] = {
    "posterior": posterior,
    "filter": along,
    "null": null,
    "clean-end": clean_end,
    "maps": maps,
    "switching": switching,
    "pruning": pruning,
    "steps": step,
}


def main(
    model: Annotated[Path | None, typer.Option(help="Pipeline folder; the shipped model by default.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/analyses"),
    pairs: Annotated[int, typer.Option(min=2, help="Fresh pairs.")] = 256,
    few: Annotated[int, typer.Option(min=2, help="Pairs for pruning, steps and the clean end.")] = 32,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the candidates' noise path.")] = 30,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 6.0,
    draws: Annotated[int, typer.Option(min=1, help="Paths per pair for the final posterior.")] = 8,
    map_draws: Annotated[int, typer.Option(min=1, help="Paths per pair for maps.")] = 4,
    prune: Annotated[float, typer.Option(help="Captions below this posterior are not followed further.")] = 1e-4,
    null_levels: Annotated[
        int, typer.Option(min=3, help="Noise levels with the null prompt, each with noise of both signs.")
    ] = LEVELS,
    switched: Annotated[int, typer.Option(min=2, help="Images at each switching time.")] = 32,
    sampling_steps: Annotated[int, typer.Option(min=1, help="Of switched images.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the pairs.")] = TEST_SEED,
    stage: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(STAGES)}.")] = None,
) -> None:
    """Run the stages that are missing in OUTPUT, then print the table of those that are there."""
    import matplotlib

    matplotlib.use("Agg")
    unknown = set(stage or []) - set(STAGES)
    if unknown:
        raise typer.BadParameter(f"{sorted(unknown)} not among {list(STAGES)}")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    pipe.set_progress_bar_config(mininterval=10)
    few = min(few, pairs)
    settings = {
        "model": str(model or "shipped"),
        **{"pairs": pairs, "few": few, "steps": steps, "high": high, "draws": draws, "map_draws": map_draws},
        **{
            "prune": prune,
            "posterior_prune": PRUNE,
            "null_levels": null_levels,
            "switched": switched,
            "sampling_steps": sampling_steps,
        },
        "seed": seed,
    }
    stages = Stages(output, settings)
    setup = Setup(
        pipe,
        stages,
        Shapes("soft").sample(pairs, seed),
        steps,
        high,
        draws,
        map_draws,
        prune,
        null_levels,
        few,
        switched,
        sampling_steps,
    )
    for name in stage or STAGES:
        stages(name, lambda made=STAGES[name]: made(setup))
    results = {name: stages.read(name) for name in STAGES if stages.has(name)}
    text = table(results)
    if "filter" in results:
        text += "\n\n" + levels_table(results["filter"])
        found = setup.filter("filter", keep="level")
        curves = {"posterior filter, log q": found.influence(pipe.denoiser.convention)}
        if "null" in results:
            curves["null prompt, gap"] = influence(setup.null().using("gap"), pipe.denoiser.convention)
        figure = plot_influence(curves, axis="tau", ceiling=Shapes("soft").mutual_information())
        figure.savefig(output / "influence.png", dpi=110)
    (output / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    typer.run(main)
