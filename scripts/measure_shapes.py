"""Measure the Shapes model against the exact information of its world; prints what the model card says.

    python scripts/measure_shapes.py                                    # the shipped model, 512 pairs: hours of one core
    python scripts/measure_shapes.py --pairs 32 --steps 16 --draws 1   # a look, in some minutes

Every stage is written to OUTPUT as it is done; a stage that is there already is read back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.words import word_information
from mmg_diffusers.commands.figures import plot_curves, plot_pointwise
from mmg_diffusers.commands.studies.captions import PRUNE, Comparison
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import (
    CAPTIONS,
    WORDS,
    Shapes,
    caption_parts,
    caption_words,
    read_images,
)

# Seeds of pairs that no training saw (training draws seeds above 2**32).
CALIBRATION_SEED, TEST_SEED = 1001, 2002
# Bands of log-SNR that the finer calibration weighs one by one.
BANDS = (-3.0, -1.0, 1.0, 3.0)
MIXED = "mean of the paths' posteriors"


def measured_data(pairs: int, fitted: int) -> dict[str, Any]:
    """The pairs of both worlds, by which a folder of results is known."""
    samples = {
        f"{variant}-{seed}": Shapes(variant).sample(count, seed)
        for variant in ("soft", "hard")
        for count, seed in ((pairs, TEST_SEED), (fitted, CALIBRATION_SEED))
    }
    return {name: [sample.images, sample.prompts] for name, sample in samples.items()}


def candidates(compare: Comparison, variant: str, pairs: int, fitted: int) -> dict[str, Any]:
    """The candidate bound and pointwise information, as they stand and calibrated on other pairs."""
    world = Shapes("hard" if variant == "hard" else "soft")
    other = world.sample(fitted, CALIBRATION_SEED)
    test = world.sample(pairs, TEST_SEED)
    known = compare(f"other-{variant}", other, seed=1)
    fresh = compare(f"fresh-{variant}", test, seed=2)
    exact = torch.from_numpy(world.pointwise(test.factors, test.caption))
    out: dict[str, Any] = {
        "truth": world.mutual_information(),
        "entropy": world.entropy(),
        "sample_truth": float(exact.mean()),
        "evaluations": fresh.curve.evaluations,
        "exact": exact.tolist(),
    }
    readings = {
        "as it stands": fresh.calibration,
        "one temperature": known.calibrate(other.prompts, ()),
        "by band and word": known.calibrate(other.prompts, BANDS, caption_parts()),
    }
    for name, calibration in readings.items():
        read = fresh.calibrated(calibration)
        words = word_information(read, test.prompts, caption_parts())
        out[name] = {
            "trust": calibration.trust,
            "bias": calibration.bias,
            **against(read.pointwise(test.prompts), exact, variant),
            "top1": float(np.mean([a == b for a, b in zip(read.best, test.prompts, strict=True)])),
            "words": {
                kind: [*mean_over_pairs(nats), world.conditional_information(kind)] for kind, nats in words.items()
            },
        }
    out[MIXED] = against(mixed(fresh, test.prompts), exact, variant)
    counts = [2**k for k in range(fresh.curve.score.shape[1].bit_length())]
    out["paths"] = {k: against(first_paths(fresh, k).pointwise(test.prompts), exact, variant) for k in counts}
    return out


def first_paths(found: Classification, count: int) -> Classification:
    """What so many paths alone would have found: later ones do not change earlier ones."""
    curve = found.curve
    kept = {"score": curve.score[:, :count], "error": None if curve.error is None else curve.error[:, :count]}
    return replace(found, curve=replace(curve, **kept))


def against(pointwise: torch.Tensor, exact: torch.Tensor, variant: str) -> dict[str, Any]:
    """Pointwise information of every pair, and how far it is from the exact one."""
    less = pointwise - exact
    return {
        # Captions are equally likely, so that the mean is the candidate bound.
        "bound": mean_over_pairs(pointwise),
        "difference": mean_over_pairs(less),
        "correlation": float(torch.corrcoef(torch.stack([pointwise, exact]))[0, 1]) if variant == "soft" else None,
        "rms": float(less.square().mean().sqrt()),
        "pointwise": pointwise.tolist(),
    }


def mixed(found: Classification, prompts: list[str]) -> torch.Tensor:
    """Pointwise information by the mean of the paths' posteriors: one path that errs cannot outweigh the others."""
    posterior = (found.prior.log() + found.curve.score.sum(2)).softmax(2).mean(1)
    true = [found.candidates.index(prompt) for prompt in prompts]
    return posterior[torch.arange(len(true)), true].log() - found.prior[true].log()


def null_branch(pipe: MMGPipeline, variant: str, pairs: int, levels: int, path: Path) -> dict[str, Any]:
    """MMG with the null prompt: both forms, the certificate and the flags."""
    sample = Shapes("hard" if variant == "hard" else "soft").sample(pairs, TEST_SEED)
    estimate = pipe(list(sample.images), sample.prompts, levels=levels, seed=3)
    estimate.save(path)
    return {
        **{form: estimate.using(form).mean() for form in ("gap", "orthogonal", "auto")},
        "gap_share": estimate.gap_share,
        "certificate": estimate.certificate,
        "warnings": list(estimate.warnings()),
        "evaluations": estimate.evaluations,
    }


def drawings(plain: Any, count: int, steps: int, guidance: float) -> dict[str, Any]:
    """Share of a diffusers pipeline's images that show what the caption says; the checker knows the renderer."""
    plain.set_progress_bar_config(disable=True)
    captions = [CAPTIONS[i % len(CAPTIONS)] for i in range(count)]
    images: list[np.ndarray] = []
    for start in range(0, count, 48):
        part = captions[start : start + 48]
        generator = torch.Generator().manual_seed(start)
        made = plain(part, num_inference_steps=steps, guidance_scale=guidance, generator=generator, output_type="np")
        images.append(made.images)
    reading = read_images(np.concatenate(images).clip(0, 1))
    words = caption_words(np.arange(count) % len(CAPTIONS))
    right = {
        kind: np.array([r == WORDS[kind][w] for r, w in zip(reading.words(kind), words[:, k], strict=True)])
        for k, kind in enumerate(WORDS)
    }
    out: dict[str, Any] = {kind: float(ok.mean()) for kind, ok in right.items()}
    out["shape, colour and side"] = float((right["shape"] & right["colour"] & right["side"]).mean())
    return out


def figure(pipe: MMGPipeline, null_path: Path, soft: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from mmg_diffusers import Estimate

    fig = plt.figure(figsize=(12, 4), layout="constrained")
    left, middle, right = np.asarray(fig.subfigures(1, 3, width_ratios=[0.9, 1.2, 1]))
    sample = Shapes("soft").sample(6, TEST_SEED)
    exact = Shapes("soft").pointwise(sample.factors, sample.caption)
    for k, ax in enumerate(left.subplots(3, 2).flat):
        ax.imshow(sample.images[k])
        words = [WORDS[kind][w] for kind, w in zip(WORDS, caption_words(sample.caption[k]), strict=True)]
        ax.set_title(f"{' '.join(words)}\n{exact[k]:.2f} nats", fontsize=7)
        ax.axis("off")
    plot_curves(Estimate.load(null_path), ax=middle.subplots(), title="null branch against caption (soft)")
    plot_pointwise(
        torch.tensor(soft["by band and word"]["pointwise"]),
        torch.tensor(soft["exact"]),
        ax=right.subplots(),
        title="candidate posterior, 48 captions",
    )
    fig.savefig(path, dpi=90)


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown of the stages that are there, a column for each variant of the world."""
    variants = [v for v in ("soft", "hard") if {f"candidates-{v}", f"null-{v}"} & results.keys()]
    rows = [f"| | {' | '.join(variants)} |", "|---" * (len(variants) + 1) + "|"] if variants else []

    def add(name: str, stage: str, cell: Callable[[dict[str, Any]], str]) -> None:
        found = [results.get(f"{stage}-{variant}") for variant in variants]
        if any(found):
            rows.append(f"| {name} | {' | '.join('-' if one is None else cell(one) for one in found)} |")

    def shown(pair: list[float] | tuple[float, float]) -> str:
        return f"{pair[0]:.3f} ± {pair[1]:.3f}"

    def against_truth(name: str, of: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        add(f"candidate bound, {name}", "candidates", lambda r: shown(of(r)["bound"]))
        add("- less the exact i(x; y), pair by pair", "candidates", lambda r: shown(of(r)["difference"]))
        add("- off from it, root mean square", "candidates", lambda r: f"{of(r)['rms']:.3f}")
        add(
            "- correlation with it",
            "candidates",
            lambda r: "-" if of(r)["correlation"] is None else f"{of(r)['correlation']:.3f}",
        )

    add("exact I(X; Y), ceiling H(Y)", "candidates", lambda r: f"{r['truth']:.3f}, {r['entropy']:.3f}")
    add("exact mean of i(x; y) on these pairs", "candidates", lambda r: f"{r['sample_truth']:.3f}")
    for name in ("as it stands", "one temperature", "by band and word", MIXED):
        against_truth(name, lambda r, n=name: r[n])
    found = [r for name, r in results.items() if name.startswith("candidates")]
    for count in sorted({int(count) for r in found for count in r["paths"]}):
        against_truth(f"the first {count} of the paths", lambda r, n=str(count): r["paths"][n])
    for kind in WORDS if found else ():
        add(
            f"{kind} given the other words, as it stands (exact)",
            "candidates",
            lambda r, k=kind: f"{shown(r['as it stands']['words'][k])} ({r['as it stands']['words'][k][2]:.3f})",
        )
    add("evaluations", "candidates", lambda r: f"{r['evaluations']:,}")
    for form in ("gap", "orthogonal", "auto"):
        add(f"null prompt, {form}", "null", lambda r, f=form: shown(r[f]))
    add("null prompt, certificate (gap - orthogonal)", "null", lambda r: shown(r["certificate"]))
    if "drawings" in results:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in results["drawings"].items())
        rows += ["", f"drawn as the caption says: {shares}"]
    return "\n".join(rows)


def main(
    model: Annotated[Path | None, typer.Option(help="Pipeline folder; the shipped model by default.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/measure"),
    pairs: int = 512,
    fitted: Annotated[int, typer.Option(help="Other pairs, on which the calibration is fitted.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of the candidates' noise path.")] = 30,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 6.0,
    draws: Annotated[int, typer.Option(help="Paths per pair.")] = 8,
    prune: Annotated[float, typer.Option(help="Captions below this posterior are not followed further.")] = PRUNE,
    null_levels: int = 32,
    generated: int = 240,
    sampling_steps: int = 50,
    guidance: float = 5.0,
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages, e.g. to run two at a time.")] = None,
) -> None:
    """Run the stages that are missing in OUTPUT, then print the table."""
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    pipe.set_progress_bar_config(mininterval=10)
    settings = {
        "model": pipe.describe()["model"],
        "weights": pipe.fingerprint(),
        **{"pairs": pairs, "fitted": fitted, "steps": steps, "high": high, "draws": draws, "prune": prune},
        **{"null_levels": null_levels, "generated": generated, "sampling_steps": sampling_steps, "guidance": guidance},
    }
    stages = Stages(output, settings, measured_data(pairs, fitted))
    compare = Comparison(pipe, stages, steps, high, draws, prune)
    plan: dict[str, Callable[[], dict[str, Any]]] = {
        "drawings": lambda: drawings(pipe.pipe, generated, sampling_steps, guidance),
        "null-soft": lambda: null_branch(pipe, "soft", pairs, null_levels, output / "null-soft.safetensors"),
        "null-hard": lambda: null_branch(pipe, "hard", pairs, null_levels, output / "null-hard.safetensors"),
        "candidates-soft": lambda: candidates(compare, "soft", pairs, fitted),
        "candidates-hard": lambda: candidates(compare, "hard", pairs, fitted),
    }
    unknown = set(stage or []) - set(plan)
    if unknown:
        raise typer.BadParameter(f"{sorted(unknown)} not among {list(plan)}")
    with folded_zeros(pipe.pipe):
        for name in stage or plan:
            stages(name, plan[name])
    results = {name: stages.read(name) for name in plan if stages.has(name)}
    text = table(results)
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    if {"null-soft", "candidates-soft"} <= results.keys():
        figure(pipe, output / "null-soft.safetensors", results["candidates-soft"], output / "figure.png")


if __name__ == "__main__":
    typer.run(main)
