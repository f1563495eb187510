"""What a prompt still adds at each noise level: I(A; B | X_tau) against diffusion time, log-SNR or timestep (MINDE, eq. 29).

    python scripts/prompt_influence.py                     # Shapes images and captions, the shipped model
    python scripts/prompt_influence.py --generated         # images that the model draws itself, at guidance 1
    python scripts/prompt_influence.py --word colour --word shape --word size --word side --marginal shapes
    python scripts/prompt_influence.py pictures/ --model FOLDER --prompt "a red circle" --prompt "a blue square"
    python scripts/prompt_influence.py pairs.csv --model ONE --model OTHER --marginal candidates.txt

Models, prompts, words and marginals that are named several times are compared in one figure. A word is told by its text,
or by its place in the prompts, from @0; of Shapes captions also by its kind. Its information is given the rest of the
prompt: with the null prompt against the prompt in which the word is masked (or replaced, --replace-by), with candidates
against those that differ in the word alone. The null prompt is read as gap, orthogonal (which is MINDE-C) and C(sigma);
candidates by the posterior along the noise path (log q).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from safetensors.torch import save_file

from mmg_diffusers import MMGPipeline, NullPrompt, shapes_model
from mmg_diffusers.analysis.influence import AXES, Axis, Influence, influence
from mmg_diffusers.analysis.words import Isolated, isolate
from mmg_diffusers.commands.figures import plot_influence
from mmg_diffusers.commands.options import gather, read_marginal
from mmg_diffusers.measure.estimate import Value
from mmg_diffusers.measure.moments import FORMS, Integrand, OutsideNorm
from mmg_diffusers.measure.quadrature import AtLevels, Simpson, Trapezoid
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.worlds.shapes import WORD_PLACES, Shapes

Rule = Literal["trapezoid", "simpson"]
RULES = {"trapezoid": Trapezoid, "simpson": Simpson}


def reading(told: str) -> Integrand:
    """``gap``, ``orthogonal``, ``auto``, or ``C(1)`` for MINDE-C with that sigma."""
    if told.startswith("C(") and told.endswith(")"):
        return OutsideNorm(float(told[2:-1]))
    for form in FORMS:
        if told == form:
            return form
    raise ValueError(
        f"no reading {told!r}; expected {', '.join(FORMS)}, or C(1) for MINDE-C outside the norm, sigma = 1"
    )


@dataclass
class Comparison:
    """Measures what is asked, and collects curves by label with what has to be said of them."""

    levels: int
    rule: Rule
    steps: int
    high: float
    draws: int
    seed: int
    curves: dict[str, Influence] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        label: list[str],
        pipe: MMGPipeline,
        images: list[ImageLike],
        prompts: list[str],
        asked: Isolated,
        readings: list[str],
        notes: tuple[str, ...],
    ) -> None:
        """Measure one question about these pairs, and read it in every way."""
        convention = pipe.denoiser.convention
        if isinstance(asked.marginal, NullPrompt):
            quadrature = RULES[self.rule](self.levels)
            found = pipe(
                images, prompts, given=asked.given, quadrature=quadrature, draws=self.draws, seed=self.seed
            )  # fmt: skip
            read = {told: found.using(reading(told)) for told in readings}
            made = {told: (influence(one, convention), one.warnings()) for told, one in read.items()}
        else:
            path = AtLevels.widening(pipe.denoiser.logsnr_range[0], self.high, self.steps + 1).levels
            found = pipe.filter(
                images, prompts, asked.marginal, levels=path, draws=self.draws, prune=1e-4, seed=self.seed
            )  # fmt: skip
            made = {"log q": (found.influence(convention), found.warnings())}
        for told, (curve, warnings) in made.items():
            name = ", ".join([*label, told])
            self.curves[name] = curve
            self.records[name] = {
                "word": asked.said,
                "settings": dict(found.settings),
                "warnings": [*notes, *warnings],
            }


def half_of(curve: Influence, axis: Axis) -> Value | None:
    """Where half of the information has arrived; nowhere, when a few pairs have none in the mean."""
    return curve.half(axis) if float(curve.nats[:, 0].mean()) > 0 else None


def write(path: Path, curves: dict[str, Influence]) -> None:
    """One row a level and curve."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["curve", *AXES, "nats", "stderr"])
        for name, curve in curves.items():
            for row in zip(*(curve.on(axis) for axis in AXES), *curve.mean(), strict=True):
                writer.writerow([name, *(f"{float(value):.6g}" for value in row)])


def main(
    source: Annotated[
        str, typer.Argument(help="An image, a folder or a table of pairs; `shapes` are fresh pairs of that world.")
    ] = "shapes",
    model: Annotated[list[str] | None, typer.Option(help="Folder or id; the shipped model by default.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Prompt of all images.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="A word, or its place such as @2; else whole prompts.")] = None,
    replace_by: Annotated[
        str | None, typer.Option(help="What takes the place of a word (nothing: left out); masked by default.")
    ] = None,
    marginal: Annotated[
        list[str] | None, typer.Option(help="null, prompts, negatives:15, shapes, or a file of candidates.")
    ] = None,
    read: Annotated[
        list[str] | None, typer.Option(help="Of the null prompt: gap, orthogonal (MINDE-C), auto, C(1).")
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="Draw the images with the model.")] = False,
    guidance: Annotated[float, typer.Option(help="Of generated images; above 1 they do not sample p(x | y).")] = 1.0,
    sampling_steps: Annotated[int, typer.Option(help="Of generated images.")] = 100,
    pairs: Annotated[int, typer.Option(help="Of the Shapes world.")] = 64,
    levels: Annotated[int, typer.Option(help="Noise levels with the null prompt, each with noise of both signs.")] = 33,
    rule: Annotated[Rule, typer.Option(help="On the model's own levels, with the null prompt.")] = "trapezoid",
    steps: Annotated[int, typer.Option(help="Steps of the candidates' noise path.")] = 26,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 4.0,
    draws: int = 1,
    axis: Annotated[Axis, typer.Option(help="Of the figure.")] = "tau",
    at: Annotated[list[float] | None, typer.Option(help="Diffusion times, 0 to 1, to tell the influence at.")] = None,
    each: Annotated[int, typer.Option(help="Images that get a figure of their own.")] = 0,
    seed: int = 6006,
    output: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("runs/influence"),
) -> None:
    """Measure, then write influence.csv, influence.json, pairs.safetensors (image by image) and influence.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models, prompts, words = model or [str(shapes_model())], prompt or [None], word or [None]
    marginals = marginal or (["null", "shapes"] if source == "shapes" and prompt is None else ["null"])
    single = len(models) * len(prompts) * len(words) == 1
    readings = read or (["gap", "orthogonal", "C(1)"] if single else ["auto"])
    for told in readings:
        reading(told)
    compared = Comparison(levels, rule, steps, high, draws, seed)
    for name in models:
        pipe = MMGPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(mininterval=1)
        pipe.denoiser.convention.at_tau(torch.tensor(at or []))
        for text in prompts:
            images, texts = gather(source, text, pairs, seed)
            notes: tuple[str, ...] = ()
            if generated:
                drawn = draw(pipe, texts, steps=sampling_steps, guidance=guidance, seed=seed)
                images, notes = list(drawn.images), drawn.notes
            for told_word in words:
                for told in marginals:
                    asked = Isolated(None, read_marginal(told, texts), "whole prompts")
                    if told_word is not None:
                        place = WORD_PLACES.get(told_word) if source == "shapes" else None
                        found = Word.parse(told_word) if place is None else Word(place=place)
                        by = replace_by if isinstance(asked.marginal, NullPrompt) else None
                        asked = isolate([found], texts, asked.marginal, by)
                    label = [
                        *([Path(name).name] if len(models) > 1 else []),
                        *([text] if text is not None and len(prompts) > 1 else []),
                        *([told_word] if told_word is not None else []),
                        *([told] if told_word is not None or len(marginals) > 1 else []),
                    ]
                    compared.add(label, pipe, images, texts, asked, readings, notes)
    curves = compared.curves
    output.mkdir(parents=True, exist_ok=True)
    write(output / "influence.csv", curves)
    save_file({name: curve.nats.contiguous() for name, curve in curves.items()}, output / "pairs.safetensors")
    whole_captions = source == "shapes" and prompt is None and word is None and not generated
    exact = Shapes("soft").mutual_information() if whole_captions else None
    summary = {
        name: {
            "nats": [float(v[0]) for v in curve.mean()],
            "half_arrived_at": {one: half_of(curve, one) for one in AXES},
            "nats_at_tau": {f"{tau:g}": curve.at(tau, "tau") for tau in at or []},
            **compared.records[name],
        }
        for name, curve in curves.items()
    }
    (output / "influence.json").write_text(json.dumps({"curves": summary, "exact": exact}, indent=1))
    print("| curve | nats | half has arrived at tau | at log-SNR | at timestep |\n|---|--:|--:|--:|--:|")
    for name, row in summary.items():
        half = row["half_arrived_at"]
        said = ["none" if half[one] is None else f"{half[one].value:.3g} ± {half[one].stderr:.2g}" for one in AXES]
        print(f"| {name} | {row['nats'][0]:.3f} ± {row['nats'][1]:.3f} | {said[2]} | {said[0]} | {said[1]} |")
    for name, row in summary.items():
        for tau, value in row["nats_at_tau"].items():
            print(f"{name}: {value.value:.3f} ± {value.stderr:.3f} nats are still to come at tau {tau}")
    for warning in dict.fromkeys(text for row in summary.values() for text in row["warnings"]):
        print(f"warning: {warning}")
    plot_influence(curves, axis=axis, ceiling=exact).savefig(output / "influence.png", dpi=110)
    for k in range(min(each, min(len(curve) for curve in curves.values()))):
        figure = plot_influence({name: curve[k : k + 1] for name, curve in curves.items()}, axis=axis)
        figure.savefig(output / f"influence-{k:03d}.png", dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
