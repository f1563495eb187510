"""Where in an image does a prompt speak, and each of its words? Maps in nats per pixel, whose sum is the image's value.

    python scripts/pixel_maps.py                                       # a few images of the Shapes world, the shipped model
    python scripts/pixel_maps.py --word colour --word shape --word size --word side --no-whole --no-gap
    python scripts/pixel_maps.py pictures/ --model FOLDER --prompt "a red circle" --word red
    python scripts/pixel_maps.py pairs.csv --model FOLDER --marginal candidates.txt --band -5:-1 --band -1:3
    python scripts/pixel_maps.py --together colour,shape               # redundancy, uniqueness and synergy as maps

A word is told by its text, or by its place in the prompts, from @0; of Shapes captions also by its kind. Its map is given
the rest of the prompt: with the null prompt against the prompt in which the word is masked (or replaced, --replace-by),
with candidates against the mixture of those that differ in the word alone. Orthogonal maps are nowhere negative, gap maps
are signed; bands are of log-SNR. scripts/measure_analyses.py judges the maps of the shipped model by the objects' masks.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from safetensors.torch import save_file
from torch import Tensor

from mmg_diffusers import Candidates, Estimate, MMGPipeline, NullPrompt, shapes_model
from mmg_diffusers.analysis.maps import to_pixels
from mmg_diffusers.analysis.words import Isolated, decompose_maps, isolate, pair_surprise
from mmg_diffusers.commands.figures import plot_map_grid
from mmg_diffusers.commands.inputs import gather, read_marginal
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.images import ImageLike, load_image
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.pipeline import LEVELS
from mmg_diffusers.worlds.shapes import WORD_PLACES

FORMS = ("orthogonal", "gap")


@dataclass(frozen=True)
class Measurement:
    """These pairs, and how they are measured."""

    pipe: MMGPipeline
    images: list[ImageLike]
    prompts: list[str]
    levels: int
    path: tuple[float, ...]
    draws: int
    seed: int

    def __call__(self, asked: Isolated) -> Estimate:
        """What is asked, with maps at every level."""
        if isinstance(asked.marginal, NullPrompt):
            return self.pipe(
                self.images,
                self.prompts,
                given=asked.given,
                levels=self.levels,
                draws=self.draws,
                keep="level",
                seed=self.seed,
            )
        return self.pipe.filter(
            self.images,
            self.prompts,
            asked.marginal,
            levels=self.path,
            draws=self.draws,
            prune=1e-4,
            keep="level",
            seed=self.seed,
        ).against_mixture


def bands_of(told: list[str], low: float, high: float) -> dict[str, tuple[float, float]]:
    """``-1:3`` is the band of log-SNR from -1 to 3, ``-1:`` all that is measured from -1 on; it ends at `low` and `high`."""
    found: dict[str, tuple[float, float]] = {}
    for text in told:
        begin, colon, end = text.partition(":")
        try:
            band = (float(begin or "-inf"), float(end or "inf"))
        except ValueError:
            band = (math.inf, -math.inf)
        if not colon or not band[0] < band[1] or low > band[0] > -math.inf or high < band[1] < math.inf:
            raise ValueError(
                f"the band is {text!r}; expected rising log-SNRs between {low:.2f} and {high:.2f}, such as -1:3"
            )
        found[text] = band
    return found


def main(
    source: Annotated[
        str, typer.Argument(help="An image, a folder or a table of pairs; `shapes` are fresh pairs of that world.")
    ] = "shapes",
    model: Annotated[str | None, typer.Option(help="Folder or id; the shipped model by default.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="A word, or its place such as @2.")] = None,
    together: Annotated[
        list[str] | None, typer.Option(help="Two words, such as red,circle: what they share. Needs candidates.")
    ] = None,
    whole: Annotated[bool, typer.Option(help="Maps of whole prompts.")] = True,
    gap: Annotated[bool, typer.Option(help="Gap maps, signed, beside the orthogonal ones.")] = True,
    replace_by: Annotated[
        str | None, typer.Option(help="What takes the place of a word (nothing: left out); masked by default.")
    ] = None,
    marginal: Annotated[
        str | None, typer.Option(help="null, prompts, negatives:15, shapes, or a file of candidates.")
    ] = None,
    band: Annotated[list[str] | None, typer.Option(help="Of log-SNR, such as -1:3.")] = None,
    pairs: Annotated[int, typer.Option(help="Of the Shapes world.")] = 6,
    levels: Annotated[
        int, typer.Option(help="Noise levels with the null prompt, each with noise of both signs.")
    ] = LEVELS,
    steps: Annotated[int, typer.Option(help="Steps of the candidates' noise path.")] = 26,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 4.0,
    draws: int = 1,
    shown: Annotated[int, typer.Option(help="Images in the figure.")] = 6,
    npz: Annotated[bool, typer.Option("--npz", help="Write maps.npz as well.")] = False,
    seed: int = 5005,
    output: Annotated[Path, typer.Option(help="Folder for maps, numbers and the figure.")] = Path("runs/maps"),
) -> None:
    """Measure, then write maps.safetensors, maps.json and maps.png."""
    import matplotlib

    matplotlib.use("Agg")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    pipe.set_progress_bar_config(mininterval=1)
    images, prompts = gather(source, prompt, pairs, seed)
    against = read_marginal(marginal or ("shapes" if source == "shapes" and prompt is None else "null"), prompts)
    low, top = pipe.denoiser.logsnr_range
    path = AtLevels.widening(low, high, steps + 1).levels
    # Candidates are compared at every level of the path but the last.
    bands = bands_of(band or [], low, top if isinstance(against, NullPrompt) else path[-2])

    def find(told: str) -> Word:
        kind = WORD_PLACES.get(told) if source == "shapes" else None
        return Word.parse(told) if kind is None else Word(place=kind)

    # Everything that is asked, before anything is measured.
    asked = {"prompt": Isolated(None, against, "whole prompts")} if whole else {}
    asked |= {told: isolate([find(told)], prompts, against, replace_by) for told in word or []}
    pairs_of_words: dict[str, tuple[Word, Word]] = {}
    for told in together or []:
        both = [find(part.strip()) for part in told.split(",")]
        if len(both) != 2 or not isinstance(against, Candidates):
            raise ValueError(
                f"got {told!r} and {type(against).__name__}; expected two words, such as red,circle, and candidates"
            )
        pairs_of_words[told] = (both[0], both[1])
    if not asked and not pairs_of_words:
        raise ValueError("nothing was asked for; leave --no-whole out, or name a --word")
    measure = Measurement(pipe, images, prompts, levels, path, draws, seed)
    maps: dict[str, Tensor] = {}
    record: dict[str, Any] = {}
    first = load_image(images[0])
    size = (first.shape[1], first.shape[2])
    for name, question in asked.items():
        found = measure(question)
        for form in FORMS if gap else FORMS[:1]:
            for text, own in {"": None, **bands}.items():
                label = ", ".join([name, *([form] if form != "orthogonal" else []), *([text] if text else [])])
                nats, stderr = found.pixel_map(form, own)
                maps[label], maps[f"{label}/stderr"] = to_pixels(nats, size), to_pixels(stderr, size)
        record[name] = {"word": question.said, "settings": dict(found.settings), "warnings": found.warnings()}
    for name, (one, two) in pairs_of_words.items():
        joint, first_left, second_left = (
            measure(isolate(some, prompts, against)).pixel_map("gap")[0] for some in ([one, two], [one], [two])
        )
        assert isinstance(against, Candidates)
        parts = decompose_maps(pair_surprise(against, prompts, one, two), joint, first_left, second_left)
        for part in ("redundancy", "unique_1", "unique_2", "synergy", "interaction"):
            maps[f"{name}, {part}"] = to_pixels(getattr(parts, part), size)
        record[name] = {"word": "replaced by what other candidates say in its place", "gap maps": True}
    output.mkdir(parents=True, exist_ok=True)
    save_file({name: values.contiguous() for name, values in maps.items()}, output / "maps.safetensors")
    if npz:
        np.savez(output / "maps.npz", **{name: values.numpy() for name, values in maps.items()})  # pyright: ignore[reportArgumentType]
    sums = {name: values.flatten(1).sum(1) for name, values in maps.items() if not name.endswith("/stderr")}
    (output / "maps.json").write_text(
        json.dumps(
            {"prompts": prompts, "nats": {name: values.tolist() for name, values in sums.items()}, "measured": record},
            indent=1,
        )
    )
    print("| map | nats, mean over images |\n|---|--:|")
    for name, nats in sums.items():
        error = f" ± {float(nats.std()) / len(nats) ** 0.5:.3f}" if len(nats) > 1 else ""
        print(f"| {name} | {float(nats.mean()):.3f}{error} |")
    for name, row in record.items():
        print(f"{name}: {row['word']}")
    for warning in dict.fromkeys(text for row in record.values() for text in row.get("warnings", ())):
        print(f"warning: {warning}")
    few = min(shown, len(images))
    pictures = np.stack([load_image(image, k).permute(1, 2, 0).numpy() for k, image in enumerate(images[:few])])
    figure = plot_map_grid(
        pictures,
        {name: maps[name][:few] for name in sums},
        titles=[text.replace(" on ", "\non ") for text in prompts[:few]],
    )
    figure.savefig(output / "maps.png", dpi=100)


if __name__ == "__main__":
    typer.run(main)
