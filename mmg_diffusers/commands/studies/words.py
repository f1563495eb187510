"""What each word of a prompt says about the image, given the rest, and what two words share.

Among candidates that differ word by word each word is held against what else could stand in its place, and two words have
a redundancy, uniqueness and synergy (`analysis.words.Decomposition` has the formulas, and what can be negative). With the
null prompt a word is masked or replaced: of two words there is then their interaction, without the split, which needs a
prior of the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.checks import needs
from mmg_diffusers.commands.answers import Answer, Grid, of_record
from mmg_diffusers.commands.figures import check_plotting, plot_words, save_figure
from mmg_diffusers.commands.inputs import gather
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.studies.settings import (
    StudySettings,
    is_shapes,
    marginal_of,
    warned,
    write_json,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.commands.word_page import word_page
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.pairs.images import ImageLike, read_picture
from mmg_diffusers.pairs.marginals import Candidates, Marginal, NullPrompt
from mmg_diffusers.pairs.prompts import Word
from mmg_diffusers.pairs.videos import read_video
from mmg_diffusers.pipelines.wording import check_words
from mmg_diffusers.worlds.shapes import WORD_PLACES, Shapes

# Pairs of words on screen, those that share most.
SHOWN = 8


@dataclass(frozen=True)
class Question:
    """Whose words.

    Args:
        source, prompt: as `gather` takes them.
        words: by text or place; of Shapes captions also by kind, and all by default.
        replace_by: what takes the place of a word with the null prompt; masked by default.
        marginal: as `read_marginal` takes it.
        vary: words with what else could stand in their place, such as ``red=blue,green``; makes candidates of each prompt.
        together: whether every two words are read as well.
        pairs: of the Shapes world.
    """

    source: str = "shapes"
    prompt: str | None = None
    words: tuple[str, ...] = ()
    replace_by: str | None = None
    marginal: str | None = None
    vary: tuple[str, ...] = ()
    together: bool = True
    pairs: int = 64


def read_variations(texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Words with their alternatives, as a command line gives them: ``red=blue,green``, or ``@1=red,blue,green`` by place.

    Raises:
        ValueError: for text without a word, ``=`` and alternatives, or a word twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        word, sign, others = text.partition("=")
        listed = [other.strip() for other in others.split(",") if other.strip()]
        if not sign or not word.strip() or not listed:
            raise ValueError(
                f"--vary is {text!r:.80}; expected a word and what else could stand in its place, such as red=blue,green"
            )
        if word.strip() in found:
            raise ValueError(f"--vary names {word.strip()!r:.80} twice; give all of its alternatives at once")
        found[word.strip()] = listed
    return found


def varied(prompts: list[str], variations: Mapping[str, list[str]]) -> Marginal | list[Candidates]:
    """Candidates of each prompt: the words that it has, replaced.

    Raises:
        ValueError: for a prompt that has none of the words, and as `Candidates.vary` does.
    """
    made: list[Candidates] = []
    for prompt in prompts:
        own = {word: others for word, others in variations.items() if f" {word} " in f" {prompt} "}
        for word in (name for name in variations if name.startswith("@")):
            # A place has another word in another prompt, which may be one of its alternatives.
            said, _ = Word.parse(word).find(prompt)
            own[word] = [other for other in variations[word] if other != said]
        if not own:
            raise ValueError(f"--vary names {', '.join(variations)}, none of which is in the prompt {prompt!r:.80}")
        made.append(Candidates.vary(prompt, own))
    return made


def measure_words(question: Question, settings: StudySettings, networks: Networks) -> tuple[Words, list[ImageLike]]:
    """Measure all that is asked; returns the images too.

    Raises:
        ValueError, OSError: for options that cannot be read or do not fit the pairs.
    """
    images, prompts = gather(question.source, question.prompt, question.pairs, settings.seed)
    captions = is_shapes(question.source, question.prompt)
    variations = read_variations(question.vary)
    if variations and (question.marginal is not None or question.replace_by is not None):
        raise ValueError("--vary makes candidates of its own; leave --marginal and --replace-by out")
    marginal = (
        varied(prompts, variations)
        if variations
        else marginal_of(question.marginal, question.source, question.prompt, prompts)
    )
    kinds = {kind: f"@{place}" for kind, place in WORD_PLACES.items()} if captions else {}
    if not isinstance(marginal, list | NullPrompt | Candidates):
        raise ValueError("sampled negatives do not share the rest of the prompt; give null, or candidates")
    names = question.words or (tuple(kinds) if isinstance(marginal, NullPrompt) else ())
    asked = [kinds.get(name, name) for name in names] or None
    if isinstance(marginal, list):
        for prompt, own in zip(prompts, marginal, strict=True):
            check_words([prompt], asked, own, question.replace_by)
    else:
        settings.check(marginal)
        check_words(prompts, asked, marginal, question.replace_by)
    pipe = networks.load(settings.how.high)
    plan = settings.with_null(pipe) if isinstance(marginal, NullPrompt) else settings.with_candidates(pipe)
    found = pipe.words(
        images,
        prompts,
        words=asked,
        marginal=marginal,
        mask=question.replace_by,
        together=question.together,
        plan=plan,
    )
    back = {place: kind for kind, place in kinds.items()}
    return replace(found, labels=tuple(back.get(label, label) for label in found.labels)), images


def study(question: Question, settings: StudySettings, networks: Networks, output: Path) -> Answer:
    """Measure, and write words.csv (one row a word of a pair), words.json, words.html, words.png and the record.

    Raises:
        ValueError, OSError, ImportError: before anything is measured.
    """
    check_plotting()
    needs("pandas", "data")
    check_writable(output)
    words, images = measure_words(question, settings, networks)
    shared = {f"{one}, {two}": parts for (one, two), parts in words.shared_means().items()}
    means, settled = words.means(), dict(words.settings)
    known = is_shapes(question.source, question.prompt) and len(means) and set(means) <= set(WORD_PLACES)
    exact = {kind: Shapes("soft").conditional_information(kind) for kind in means} if known else {}
    write_whole(output / "words.csv", words.to_pandas().to_csv(index=False).encode())
    write_json(
        output / "words.json",
        {
            "given the rest of the prompt": means,
            "shared by two": shared,
            "exact": exact,
            "words": words.how,
            "settings": settled,
            "warnings": list(words.warnings()),
        },
    )
    words.save(output / "words.safetensors")
    look = read_video if "frames" in settled else read_picture
    pictures = [look(image, k).pixels.movedim(-3, -1).numpy() for k, image in enumerate(images)]
    write_whole(output / "words.html", word_page(words, pictures, "What each word says").encode())
    known_too = ("exact",) if exact else ()
    curves = {name: words.of(name).influence() for name in means}
    halves = {name: curve.half() for name, curve in curves.items() if curve.arrives}
    rows = [
        (
            name,
            plus_minus(means[name]),
            plus_minus(halves[name], 2) if name in halves else "",
            *(f"{exact[name]:.3f}" if name in exact else "" for _ in known_too),
        )
        for name in sorted(means, key=lambda name: -means[name].value)
    ]
    says: list[object] = [Grid(("given the rest of the prompt", "nats", "half at log-SNR", *known_too), rows)]
    first = sorted(shared.items(), key=lambda item: -abs(next(iter(item[1].values()))[0]))[:SHOWN]
    says += [
        f"{name}: " + ", ".join(f"{part} {plus_minus(value)}" for part, value in parts.items()) for name, parts in first
    ]
    if len(shared) > SHOWN:
        says.append(f"and {len(shared) - SHOWN} more pairs of words, in words.json")
    says += warned(words.verdict.told)
    wrote = [output / f"words.{ending}" for ending in ("csv", "json", "html", "safetensors")]
    wrote.append(save_figure(plot_words(means, shared, exact=exact), output / "words.png"))
    told = {"given the rest of the prompt": means, "half": halves, "shared by two": shared, "exact": exact}
    values = {**of_record(words), **told}
    return Answer(values, says, wrote)
