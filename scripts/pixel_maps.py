"""Where does a caption speak, and each of its words? Maps of Shapes images against the objects' masks.

    python scripts/pixel_maps.py                   # 256 images of the Shapes world, the shipped model
    python scripts/pixel_maps.py --pairs 8         # a look

For the whole caption and for each word, the prompt is compared with the mixture of the captions that differ from it in that
part (the posterior filter), so that no null prompt is needed; whole captions against the null prompt stand beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from mmg_diffusers import Candidates, MMGPipeline, shapes_model
from mmg_diffusers.maps import auroc, dilate, to_pixels
from mmg_diffusers.plotting import plot_map_grid
from mmg_diffusers.shapes import CAPTIONS, SIZE, Shapes, caption_parts
from mmg_diffusers.words import all_but

# Fixed before anything was measured: a pixel is inside where at least half of it is covered.
COVERED = 0.5
CELL = SIZE // 8
PARTS = caption_parts()


def judge(maps: Tensor, mask: Tensor, distractor: Tensor) -> dict[str, float]:
    """A map against the object: area under the curve, the brightest pixel, and what falls on the grey distractor."""
    near = dilate(mask, CELL)
    other = distractor & ~near
    values = maps.flatten(1)
    brightest = values.argmax(1)
    background = [own[~(n | o)] for own, n, o in zip(maps, near, other, strict=True)]
    limit = torch.stack([b.mean() + 2 * b.std() for b in background])
    seen = other.flatten(1).any(1)
    on_other = torch.stack(
        [own[o].mean() if bool(o.any()) else own.new_zeros(()) for own, o in zip(maps, other, strict=True)]
    )
    score = auroc(maps, near)
    return {
        "auroc": float(score.mean()),
        "auroc_stderr": float(score.std() / len(score) ** 0.5),
        "brightest_inside": float(mask.flatten(1).gather(1, brightest[:, None]).double().mean()),
        "distractor_below": float((on_other < limit)[seen].double().mean()),
        "nats": float(values.sum(1).mean()),
    }


def main(
    model: Annotated[Path | None, typer.Option(help="Pipeline folder; the shipped model by default.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for maps, numbers and the figure.")] = Path("runs/maps"),
    pairs: int = 256,
    levels: int = 40,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the path.")] = 3.0,
    seed: int = 5005,
    shown: Annotated[int, typer.Option(help="Images in the figure.")] = 6,
) -> None:
    """Measure the maps, judge them, and write OUTPUT."""
    output.mkdir(parents=True, exist_ok=True)
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    sample = Shapes("soft").sample(pairs, seed)
    images = list(sample.images)
    mask, distractor = (torch.from_numpy(np.asarray(part)) >= COVERED for part in (sample.mask, sample.distractor))
    path = (pipe.denoiser.logsnr_range[0], high)
    maps: dict[str, Tensor] = {}
    for name, groups in {"caption": None, **{kind: all_but(PARTS, kind) for kind in PARTS}}.items():
        found = pipe.filter(
            images,
            sample.prompts,
            Candidates(CAPTIONS, groups=groups),
            keep="pixel",
            levels=levels,
            prune=1e-6,
            seed=1,
            logsnr_range=path,
        )
        maps[name] = found.against_mixture.pixel_map("orthogonal")[0]
        maps[f"{name}, gap"] = found.against_mixture.pixel_map("gap")[0]
    null = pipe(images, sample.prompts, keep="pixel", levels=levels, seed=1)
    maps["caption, null prompt"] = null.pixel_map("orthogonal")[0]
    spread = {name: to_pixels(values, (SIZE, SIZE)) for name, values in maps.items()}
    save_file({name: values.contiguous() for name, values in spread.items()}, output / "maps.safetensors")
    judged = {name: judge(values, mask, distractor) for name, values in spread.items()}
    (output / "maps.json").write_text(json.dumps({"pairs": pairs, "seed": seed, "levels": levels, **judged}, indent=1))
    print("| map | nats | AUROC | brightest inside | distractor below |\n|---|--:|--:|--:|--:|")
    for name, row in judged.items():
        print(
            f"| {name} | {row['nats']:.3f} | {row['auroc']:.3f} ± {row['auroc_stderr']:.3f} | {row['brightest_inside']:.1%} "
            f"| {row['distractor_below']:.1%} |"
        )
    few = min(shown, pairs)
    rows = ["caption, null prompt", "caption", *PARTS]
    figure = plot_map_grid(
        sample.images[:few],
        {name: maps[name][:few] for name in rows},
        titles=[p.replace(" on", "\non") for p in sample.prompts[:few]],
    )
    figure.savefig(output / "maps.png", dpi=100)


if __name__ == "__main__":
    typer.run(main)
