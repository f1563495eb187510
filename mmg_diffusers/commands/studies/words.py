"""What each word of a prompt says about the image, given the rest, and what two words share.

Among candidates that differ word by word, one comparison holds the information of every word, of every two, and their
redundancy, uniqueness and synergy given the rest (`analysis.words.Decomposition` has the formulas, and what can be
negative). With the null prompt a word is masked or replaced: of two words there is then what they say together, and the
interaction of the two, without a split into redundancy and synergy, which needs a prior of the words.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from torch import Tensor

from mmg_diffusers.analysis.words import (
    decompose,
    isolate,
    pair_information,
    parts_by_place,
    word_information,
)
from mmg_diffusers.commands.figures import check_plotting, plot_words, save_figure
from mmg_diffusers.commands.inputs import gather
from mmg_diffusers.commands.studies.settings import (
    StudySettings,
    is_shapes,
    load_model,
    marginal_of,
    print_warnings,
    write_json,
    write_text,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.files.whole import check_writable
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.marginals import Candidates, NullPrompt
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.worlds.shapes import CAPTIONS, WORD_PLACES, Shapes


@dataclass(frozen=True)
class Question:
    """Whose words.

    Args:
        source, prompt: as `gather` takes them.
        model: folder or id; ``None`` is the one that ships.
        words: with the null prompt, by text or place; of Shapes captions also by kind, and all by default.
        replace_by: what takes the place of a word; masked by default.
        marginal: as `read_marginal` takes it.
        pairs: of the Shapes world.
    """

    source: str = "shapes"
    prompt: str | None = None
    model: str | None = None
    words: tuple[str, ...] = ()
    replace_by: str | None = None
    marginal: str | None = None
    pairs: int = 64


@dataclass(frozen=True)
class Words:
    """Information of words and pairs of words by name, `(N,)` nats each, and what two share.

    `exact` holds what is known of words; `record` the settings and warnings of the comparison.
    """

    prompts: list[str]
    nats: Mapping[str, Tensor]
    shared: Mapping[str, Mapping[str, Value]]
    record: Mapping[str, Any]
    exact: Mapping[str, float]

    @property
    def means(self) -> dict[str, Value]:
        """Over images."""
        return {name: mean_over_pairs(nats) for name, nats in self.nats.items()}

    def table(self) -> io.StringIO:
        """One row an image, as CSV."""
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["pair", "prompt", *self.nats])
        rows = zip(self.prompts, *(nats.tolist() for nats in self.nats.values()), strict=True)
        writer.writerows([k, *row] for k, row in enumerate(rows))
        return table


def among_candidates(
    pipe: MMGPipeline,
    images: list[ImageLike],
    prompts: list[str],
    candidates: Candidates,
    settings: StudySettings,
    names: Mapping[str, str] | None = None,
) -> Words:
    """Every word that differs among candidates, every two, and what they share.

    Args:
        pipe, images, prompts: what is measured.
        candidates: that differ word by word.
        settings: how; draws are averaged as evidence.
        names: of places such as ``@2``.

    Raises:
        ValueError: when candidates do not differ word by word.
    """
    names = names or {}
    parts = {names.get(place, place): labels for place, labels in parts_by_place(candidates.prompts).items()}
    result = pipe.classify(
        images,
        candidates.prompts,
        prior=candidates.prior,
        plan=settings.with_candidates(pipe),
    )
    words = word_information(result, prompts, parts)
    words |= {f"{a} and {b}": nats for (a, b), nats in pair_information(result, prompts, parts).items()}
    shared: dict[str, dict[str, Value]] = {}
    for one, two in combinations(parts, 2):
        rest = [name for name in parts if name not in (one, two)]
        split = decompose(result, prompts, parts, one, two, given=rest)
        shared[f"{one}, {two}"] = {**split.means(), "interaction": mean_over_pairs(split.interaction)}
    record = {"settings": dict(result.settings), "warnings": list(result.notes), "bound": result.bound(prompts)}
    known = names and tuple(candidates.prompts) == CAPTIONS
    exact = {kind: Shapes("soft").conditional_information(kind) for kind in WORD_PLACES} if known else {}
    return Words(prompts, words, shared, record, exact)


def by_taking_out(
    pipe: MMGPipeline,
    images: list[ImageLike],
    prompts: list[str],
    words: Mapping[str, Word],
    settings: StudySettings,
    replace_by: str | None = None,
) -> Words:
    """The same from prompts without the words; of two words, their interaction alone.

    In the gap form, which adds up: i(x; a | c) = i(x; a, b | c) - i(x; b | a, c) at the same noise.

    Raises:
        ValueError: when a prompt does not hold a word, or holds it twice.
    """
    groups = [*((name,) for name in words), *combinations(words, 2)]
    questions = {names: isolate([words[name] for name in names], prompts, NullPrompt(), replace_by) for names in groups}
    nats: dict[str, Tensor] = {}
    record: dict[str, Any] = {"warnings": []}
    for names, asked in questions.items():
        estimate = pipe(
            images,
            prompts,
            given=asked.given,
            integrand="gap",
            levels=settings.levels,
            draws=settings.draws,
            seed=settings.seed,
        )
        nats[" and ".join(names)] = estimate.nats
        record |= {"words": asked.said, "settings": dict(estimate.settings)}
        record["warnings"] += [f"{' and '.join(names)}: {text}" for text in estimate.warnings()]
    shared = {
        f"{a}, {b}": {"interaction": mean_over_pairs(nats[f"{a} and {b}"] - nats[a] - nats[b])}
        for a, b in combinations(words, 2)
    }
    return Words(prompts, nats, shared, record, {})


def measure_words(question: Question, settings: StudySettings) -> Words:
    """Measure all that is asked.

    Raises:
        ValueError, OSError: for options that cannot be read or do not fit the pairs.
    """
    pipe = load_model(question.model)
    images, prompts = gather(question.source, question.prompt, question.pairs, settings.seed)
    captions = is_shapes(question.source, question.prompt)
    marginal = marginal_of(question.marginal, question.source, question.prompt, prompts)
    kinds = {f"@{place}": kind for kind, place in WORD_PLACES.items()} if captions else {}
    if isinstance(marginal, Candidates):
        if question.words or question.replace_by is not None:
            raise ValueError(
                "among candidates every word that differs is measured; --word and --replace-by are of the null prompt"
            )
        return among_candidates(pipe, images, prompts, marginal, settings, kinds)
    if not isinstance(marginal, NullPrompt):
        raise ValueError("sampled negatives do not share the rest of the prompt; give null, or candidates")
    texts = question.words or tuple(kinds.values())
    if not texts:
        raise ValueError("which words? Name each with --word, by its text or its place such as @2")
    places = {kind: place for place, kind in kinds.items()}
    words = {name: Word.parse(places.get(name, name)) for name in texts}
    return by_taking_out(pipe, images, prompts, words, settings, question.replace_by)


def study(question: Question, settings: StudySettings, output: Path) -> None:
    """Measure, print a table, and write words.csv (image by image), words.json and words.png.

    Raises:
        ValueError, OSError, ImportError: before anything is measured, unless a picture cannot be read.
    """
    check_plotting()
    check_writable(output)
    words = measure_words(question, settings)
    means, exact = words.means, words.exact
    write_text(output / "words.csv", words.table())
    write_json(
        output / "words.json",
        {"given the rest of the prompt": means, "shared by two": words.shared, "exact": exact, **words.record},
    )
    print("| given the rest of the prompt | nats | exact |\n|---|--:|--:|")
    for name, value in means.items():
        print(f"| {name} | {plus_minus(value)} | {f'{exact[name]:.3f}' if name in exact else ''} |")
    for name, split in words.shared.items():
        print(f"{name}: " + ", ".join(f"{part} {plus_minus(value)}" for part, value in split.items()))
    print_warnings(words.record["warnings"])
    save_figure(plot_words(means, words.shared, exact=exact), output / "words.png")
