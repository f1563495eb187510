"""What does each word of a prompt say about the image, given the rest, and what do two words share?

    python scripts/word_information.py                       # Shapes pairs, all 48 captions, the shipped model; bars and a table
    python scripts/word_information.py pairs.csv --model FOLDER --marginal candidates.txt
    python scripts/word_information.py pictures/ --model FOLDER --prompt "a red circle" --word red --word circle --marginal null

Among candidates that differ word by word, one comparison holds the information of every word, of every two, and their
redundancy, uniqueness and synergy given the rest (`mmg_diffusers.analysis.words.Decomposition` has the formulas, and what can be
negative). With the null prompt a word is masked (or replaced, --replace-by): of two words there is then what they say
together, and the interaction of the two, without a split into redundancy and synergy, which needs a prior of the words.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import pandas
import typer
from torch import Tensor

from mmg_diffusers import Candidates, MMGPipeline, NullPrompt, shapes_model
from mmg_diffusers.analysis.words import (
    decompose,
    isolate,
    pair_information,
    parts_by_place,
    word_information,
)
from mmg_diffusers.commands.figures import plot_words
from mmg_diffusers.commands.inputs import gather, read_marginal
from mmg_diffusers.measure.estimate import Value, mean_over_pairs
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.pipeline import LEVELS
from mmg_diffusers.worlds.shapes import CAPTIONS, WORD_PLACES, Shapes

Shared = dict[str, dict[str, Value]]


def among_candidates(
    pipe: MMGPipeline,
    images: list[ImageLike],
    prompts: list[str],
    candidates: Candidates,
    names: dict[str, str],
    levels: tuple[float, ...],
    draws: int,
    seed: int,
) -> tuple[dict[str, Tensor], Shared, dict[str, Any]]:
    """Words and pairs of words by name, image by image, what two share, and the record of the comparison."""
    parts = {names.get(place, place): labels for place, labels in parts_by_place(candidates.prompts).items()}
    found = pipe.classify(
        images, candidates.prompts, prior=candidates.prior, levels=levels, draws=draws, prune=1e-6, seed=seed
    )  # fmt: skip
    words = word_information(found, prompts, parts)
    words |= {f"{a} and {b}": nats for (a, b), nats in pair_information(found, prompts, parts).items()}
    shared: Shared = {}
    for one, two in combinations(parts, 2):
        rest = [name for name in parts if name not in (one, two)]
        split = decompose(found, prompts, parts, one, two, given=rest)
        shared[f"{one}, {two}"] = {**split.means(), "interaction": mean_over_pairs(split.interaction)}
    record = {"settings": dict(found.settings), "warnings": list(found.notes), "bound": found.bound(prompts)}
    return words, shared, record


def by_taking_out(
    pipe: MMGPipeline,
    images: list[ImageLike],
    prompts: list[str],
    words: dict[str, Word],
    replace_by: str | None,
    levels: int,
    draws: int,
    seed: int,
) -> tuple[dict[str, Tensor], Shared, dict[str, Any]]:
    """The same from prompts without the words; of two words, their interaction alone.

    In the gap form, which adds up: i(x; a | c) = i(x; a, b | c) - i(x; b | a, c) at the same noise.
    """
    out: dict[str, Tensor] = {}
    record: dict[str, Any] = {"warnings": []}
    for names in (*((name,) for name in words), *combinations(words, 2)):
        asked = isolate([words[name] for name in names], prompts, NullPrompt(), replace_by)
        found = pipe(images, prompts, given=asked.given, integrand="gap", levels=levels, draws=draws, seed=seed)
        out[" and ".join(names)] = found.nats
        record |= {"words": asked.said, "settings": dict(found.settings)}
        record["warnings"] += [f"{' and '.join(names)}: {text}" for text in found.warnings()]
    shared = {
        f"{a}, {b}": {"interaction": mean_over_pairs(out[f"{a} and {b}"] - out[a] - out[b])}
        for a, b in combinations(words, 2)
    }
    return out, shared, record


def main(
    source: Annotated[
        str, typer.Argument(help="An image, a folder or a table of pairs; `shapes` are fresh pairs of that world.")
    ] = "shapes",
    model: Annotated[str | None, typer.Option(help="Folder or id; the shipped model by default.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt of all images.")] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="With the null prompt: a word, or its place such as @2. Else all that differ."),
    ] = None,
    replace_by: Annotated[
        str | None, typer.Option(help="What takes the place of a word (nothing: left out); masked by default.")
    ] = None,
    marginal: Annotated[str | None, typer.Option(help="null, prompts, shapes, or a file of candidates.")] = None,
    pairs: Annotated[int, typer.Option(help="Of the Shapes world.")] = 64,
    levels: Annotated[
        int, typer.Option(help="Noise levels with the null prompt, each with noise of both signs.")
    ] = LEVELS,
    steps: Annotated[int, typer.Option(help="Steps of the candidates' noise path.")] = 26,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 4.0,
    draws: Annotated[int, typer.Option(help="Of noise; candidates' evidence is averaged over them.")] = 1,
    seed: int = 8008,
    output: Annotated[Path, typer.Option(help="Folder for tables and the figure.")] = Path("runs/words"),
) -> None:
    """Measure, then write words.csv (image by image), words.json and words.png."""
    import matplotlib

    matplotlib.use("Agg")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    pipe.set_progress_bar_config(mininterval=1)
    images, prompts = gather(source, prompt, pairs, seed)
    captions = source == "shapes" and prompt is None
    against = read_marginal(marginal or ("shapes" if captions else "null"), prompts)
    kinds = {f"@{place}": kind for kind, place in WORD_PLACES.items()} if captions else {}
    exact: dict[str, float] = {}
    if isinstance(against, Candidates):
        if word or replace_by is not None:
            raise ValueError(
                "among candidates every word that differs is measured; --word and --replace-by are of the null prompt"
            )
        path = AtLevels.widening(pipe.denoiser.logsnr_range[0], high, steps + 1).levels
        words, shared, record = among_candidates(pipe, images, prompts, against, kinds, path, draws, seed)
        if captions and tuple(against.prompts) == CAPTIONS:
            exact = {kind: Shapes("soft").conditional_information(kind) for kind in WORD_PLACES}
    elif isinstance(against, NullPrompt):
        told = word or list(kinds.values())
        if not told:
            raise ValueError("which words? Name each with --word, by its text or its place such as @2")
        places = {kind: place for place, kind in kinds.items()}
        asked = {name: Word.parse(places.get(name, name)) for name in told}
        words, shared, record = by_taking_out(pipe, images, prompts, asked, replace_by, levels, draws, seed)
    else:
        raise ValueError("sampled negatives do not share the rest of the prompt; give null, or candidates")
    means = {name: mean_over_pairs(nats) for name, nats in words.items()}
    output.mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame({"prompt": prompts, **{name: nats.numpy() for name, nats in words.items()}})
    table.to_csv(output / "words.csv", index_label="pair")
    summary = {"given the rest of the prompt": means, "shared by two": shared, "exact": exact, **record}
    (output / "words.json").write_text(json.dumps(summary, indent=1))
    print("| given the rest of the prompt | nats | exact |\n|---|--:|--:|")
    for name, (value, stderr) in means.items():
        print(f"| {name} | {value:.3f} ± {stderr:.3f} | {f'{exact[name]:.3f}' if name in exact else ''} |")
    for name, split in shared.items():
        print(f"{name}: " + ", ".join(f"{part} {value:.3f} ± {stderr:.3f}" for part, (value, stderr) in split.items()))
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    plot_words(means, shared, exact=exact).savefig(output / "words.png", dpi=110)


if __name__ == "__main__":
    typer.run(main)
