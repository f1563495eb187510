"""What a prompt still adds at each noise level: I(A; B | X_tau) against log-SNR, timestep and tau (MINDE, eq. 29).

    python scripts/prompt_influence.py                     # Shapes images and captions, the shipped model
    python scripts/prompt_influence.py --generated         # images that the model draws itself, at guidance 1
    python scripts/prompt_influence.py --model FOLDER --images pictures/ --prompt "a red circle"

Three readings of the null prompt (gap, orthogonal, MINDE-C(1)); for Shapes captions the posterior filter beside them.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.influence import Influence, influence
from mmg_diffusers.plotting import plot_influence
from mmg_diffusers.result import Outside, Value
from mmg_diffusers.shapes import CAPTIONS, Shapes
from mmg_diffusers.tables import read_pairs


def generate(pipe: MMGPipeline, prompts: list[str], steps: int, seed: int) -> list[np.ndarray]:
    """Draw an image for each prompt at guidance 1, which samples the model's own p(x | y)."""
    plain: Any = pipe.pipe
    images: list[np.ndarray] = []
    for start in range(0, len(prompts), 48):
        made = plain(
            prompts[start : start + 48],
            num_inference_steps=steps,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(seed + start),
            output_type="np",
        )
        images += list(made.images.clip(0, 1))
    return images


def half_of(curve: Influence) -> Value | None:
    """Where half of the information has arrived; nowhere, when a few pairs have none in the mean."""
    return curve.half() if float(curve.nats[:, 0].mean()) > 0 else None


def write(path: Path, pipe: MMGPipeline, curves: dict[str, Influence]) -> None:
    """One row a level and reading."""
    convention = pipe.denoiser.convention
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["reading", "logsnr", "timestep", "tau", "nats", "stderr"])
        for name, curve in curves.items():
            mean, stderr = curve.mean()
            times = convention.c_noise(curve.logsnr)
            tau = times / float(convention.c_noise(torch.tensor([pipe.denoiser.logsnr_range[0]]).double()))
            for row in zip(curve.logsnr, times, tau, mean, stderr, strict=True):
                writer.writerow([name, *(f"{float(value):.6g}" for value in row)])


def main(
    model: Annotated[str | None, typer.Option(help="Pipeline folder or id; the shipped model by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="Image, folder or table; Shapes images by default.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images.")] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="Draw the images with the model, at guidance 1.")
    ] = False,
    pairs: int = 64,
    levels: int = 64,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the filter's path.")] = 4.0,
    steps: Annotated[int, typer.Option(help="Sampling steps of generated images.")] = 100,
    seed: int = 6006,
    output: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path("runs/influence"),
) -> None:
    """Measure, then write influence.csv, influence.json and influence.png."""
    import matplotlib

    matplotlib.use("Agg")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    world = Shapes("soft")
    exact = None
    if images is not None:
        read = read_pairs(images, prompt)
        pictures, prompts = list(read.images), read.prompts
    else:
        sample = world.sample(pairs, seed)
        pictures, prompts = list(sample.images), sample.prompts if prompt is None else [prompt] * pairs
        exact = world.mutual_information() if prompt is None else None
        if generated:
            pictures = generate(pipe, prompts, steps, seed)
    estimate = pipe(pictures, prompts, levels=levels, seed=seed)
    curves = {
        "gap": influence(estimate.using("gap")),
        "orthogonal": influence(estimate.using("orthogonal")),
        "MINDE-C(1)": influence(estimate.using(Outside(1.0))),
    }
    if set(prompts) <= set(CAPTIONS):
        path = (pipe.denoiser.logsnr_range[0], high)
        filtered = pipe.filter(pictures, prompts, CAPTIONS, levels=levels, prune=1e-6, seed=seed, logsnr_range=path)
        curves["posterior filter"] = filtered.influence()
    output.mkdir(parents=True, exist_ok=True)
    write(output / "influence.csv", pipe, curves)
    summary = {
        name: {"nats": [float(v[0]) for v in curve.mean()], "half_arrived_at_logsnr": half_of(curve)}
        for name, curve in curves.items()
    }
    (output / "influence.json").write_text(
        json.dumps({**summary, "exact": exact, "settings": dict(estimate.settings)}, indent=1)
    )
    print("| reading | nats | half has arrived at log-SNR |\n|---|--:|--:|")
    for name, row in summary.items():
        (nats, stderr), half = row["nats"], row["half_arrived_at_logsnr"]
        said = "none: no information" if half is None else f"{half.value:.2f} ± {half.stderr:.2f}"
        print(f"| {name} | {nats:.3f} ± {stderr:.3f} | {said} |")
    plot_influence(curves, ceiling=exact).savefig(output / "influence.png", dpi=110)


if __name__ == "__main__":
    typer.run(main)
