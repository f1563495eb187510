"""Does a model know which word belongs to which object? Captions with words that changed places, under exact Bayes and beside a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.commands.studies.uses.orders import with_error
from mmg_diffusers.commands.studies.uses.shuffles import PLAIN, TAGGED, shuffles
from mmg_diffusers.commands.studies.uses.towers import Towers, Training, trained_towers
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.pairs import CAPTIONS, SWAPS, PairFactors, Pairs, caption_words, reworded, swapped

Ints = NDArray[np.int64]
# In the order of the tables: what is swapped, and how it is said. The last is a choice of one among five, the others among two.
KINDS: Mapping[str, str] = {
    "attribute": "colours change places",
    "noun": "shapes change places",
    "relation": "objects change places",
    "order": "words in four other orders",
}
WAYS = (*TAGGED, *PLAIN)
# Fixed before anything was measured: of what the ceiling gains over chance, and no less than the classifier.
ENOUGH = 0.9
# Pairs that are measured at a time.
TOGETHER = 50
INDEX = {caption: place for place, caption in enumerate(CAPTIONS)}


@dataclass(frozen=True)
class Settings:
    """How much is compared, and how.

    Args:
        pairs: of each variant of the world, whose two objects differ in colour and shape.
        variants: of the world.
        seed: of the pairs and their noise; settings were chosen on another.
        steps, high: of the path, and its clean end.
        draws: paths of each comparison.
        training: of the classifier.
    """

    pairs: int = 300
    variants: tuple[str, ...] = ("soft", "hard")
    seed: int = 51
    steps: int = 24
    high: float = 4.0
    draws: int = 2
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Asked:
    """Pictures `(N, 16, 16, 3)`, their captions' indices and factors, and by kind of swap the false texts, each a list of N."""

    images: NDArray[np.float32]
    caption: Ints
    factors: PairFactors
    false: Mapping[str, list[list[str]]]

    @property
    def true(self) -> list[str]:
        """The captions."""
        return [CAPTIONS[k] for k in self.caption]


def asked(variant: str, count: int, seed: int) -> Asked:
    """Fresh pairs whose objects differ in both, so that every swap says another thing, with their swapped and shuffled captions."""
    sample = Pairs("hard" if variant == "hard" else "soft").sample(8 * count, seed)
    words = caption_words(sample.caption)
    rows = np.flatnonzero((words[:, 0] != words[:, 3]) & (words[:, 1] != words[:, 4]))[:count]
    caption = sample.caption[rows]
    false = {kind: [[CAPTIONS[k] for k in swapped(caption, kind)]] for kind in SWAPS}
    rng = np.random.default_rng(seed)
    orders = [shuffled(int(k), rng) for k in caption]
    false["order"] = [[own[way] for own in orders] for way in WAYS]
    return Asked(sample.images[rows], caption, sample.factors[rows], false)


def shuffled(caption: int, rng: np.random.Generator) -> dict[str, str]:
    """The four orders of a caption's words, none of which says the same."""
    words = CAPTIONS[caption].split(" ")
    tags = [
        "" if word == "a" else "adjective" if word in COLOURS else "noun" if word in NOUNS else "" for word in words
    ]
    alike = CAPTIONS[int(reworded(np.array(caption)))]
    return shuffles(CAPTIONS[caption], tags, rng, lambda text: text == alike)


COLOURS = {caption.split(" ")[1] for caption in CAPTIONS}
NOUNS = {caption.split(" ")[2] for caption in CAPTIONS}


def exact(factors: PairFactors, texts: Sequence[str]) -> Tensor:
    """`(N,)` p(text | picture) of a text each; 0 for what is no caption."""
    posterior = Pairs("soft").posterior(factors)
    return torch.tensor(
        [posterior[row, INDEX[text]] if text in INDEX else 0.0 for row, text in enumerate(texts)], dtype=torch.float64
    )


def right(true: Tensor, false: Tensor) -> Tensor:
    """`(N,)` whether the true text has the highest score, `(N,)` against `(M, N)`; of some that share it, their part of a choice at random."""
    tied = 1 + (false == true).sum(0)
    return torch.where((false > true).any(0), 0.0, 1.0 / tied.double())


# ---- what is measured ----


def binding(pipe: MMGPipeline, stages: Stages, settings: Settings) -> dict[str, Any]:
    """Compare, some pairs at a time, and classify; each is kept."""

    def classified() -> dict[str, Any]:
        towers = trained_towers(settings.training)
        return {variant: scored(towers, asked(variant, settings.pairs, settings.seed)) for variant in settings.variants}

    parts: dict[str, list[dict[str, Any]]] = {variant: [] for variant in settings.variants}
    for variant in settings.variants:
        whole = asked(variant, settings.pairs, settings.seed)
        for start in range(0, settings.pairs, TOGETHER):
            rows = range(start, min(start + TOGETHER, settings.pairs))
            name = f"{variant}-{rows.start:04d}-{rows.stop:04d}"
            parts[variant].append(stages(name, lambda own=whole, rows=rows: compared(pipe, own, rows, settings)))
    towers = stages("classifier", classified)
    return {"compared": parts, "classified": towers, "pairs": settings.pairs, "seed": settings.seed}


def compared(pipe: MMGPipeline, whole: Asked, rows: range, settings: Settings) -> dict[str, Any]:
    """By kind, log p(picture | caption) - log p(picture | false text) of some pairs and its error, `(M, N)`, and the rows that it took."""
    rule = AtLevels.widening(pipe.denoiser.logsnr_range[0], settings.high, settings.steps + 1)
    plan = Plan(levels=rule.levels, draws=settings.draws, seed=settings.seed)
    images, true = list(whole.images[rows.start : rows.stop]), whole.true[rows.start : rows.stop]
    found: dict[str, Any] = {}
    with folded_zeros(pipe.pipe):
        for kind in KINDS:
            told = [
                pipe.compare(images, true, texts[rows.start : rows.stop], plan=plan, pair_ids=list(rows))
                for texts in whole.false[kind]
            ]
            found[kind] = {
                "nats": [own.nats.tolist() for own in told],
                "stderr": [own.stderr.tolist() for own in told],
                "rows": sum(own.evaluations for own in told),
            }
    return found


def scored(towers: Towers, whole: Asked) -> dict[str, Any]:
    """By kind, how much better the classifier takes the caption to fit than the false text, `(M, N)`."""
    true = towers.score(whole.images, whole.true)
    return {
        kind: [(true - towers.score(whole.images, texts)).tolist() for texts in false]
        for kind, false in whole.false.items()
    }


# ---- what it says ----


@dataclass(frozen=True)
class Found:
    """One kind of swap in one variant: whether each way to choose was right, `(N,)`, and the rows a pair.

    `close` is the share of pairs of which a comparison is within two errors of a tie; `alone` the share right of the three, against
    each false text by itself.
    """

    kind: str
    compare: Tensor
    classifier: Tensor
    ceiling: Tensor
    rows: float
    close: float
    alone: tuple[tuple[float, float, float], ...]

    @property
    def chance(self) -> float:
        """How often a choice at random is right."""
        return 1 / (1 + len(WAYS)) if self.kind == "order" else 0.5

    def share(self) -> Value:
        """What `compare` gains over chance, as a share of what the ceiling gains."""

        def gained(rows: Tensor) -> float:
            return float((self.compare[rows].mean() - self.chance) / (self.ceiling[rows].mean() - self.chance))

        return with_error(len(self.compare), gained)

    def lead(self) -> Value:
        """How much oftener `compare` is right than the classifier, pair by pair."""
        return mean_over_pairs(self.compare - self.classifier)


def found(result: Mapping[str, Any], variant: str) -> list[Found]:
    """What `binding` gave for a variant, kind by kind."""
    whole = asked(variant, result["pairs"], result["seed"])
    true = exact(whole.factors, whole.true)
    rows: list[Found] = []
    for kind in KINDS:
        parts = [part[kind] for part in result["compared"][variant]]
        nats, error = (
            torch.cat([torch.tensor(part[name], dtype=torch.float64) for part in parts], 1)
            for name in ("nats", "stderr")
        )
        scores = torch.tensor(result["classified"][variant][kind], dtype=torch.float64)
        false = torch.stack([exact(whole.factors, texts) for texts in whole.false[kind]])
        nothing = torch.zeros(nats.shape[1], dtype=torch.float64)
        rows.append(
            Found(
                kind,
                right(nothing, -nats),
                right(nothing, -scores),
                right(true, false),
                sum(part["rows"] for part in parts) / nats.shape[1],
                float((nats.abs() < 2 * error).any(0).double().mean()),
                tuple(
                    (
                        float(right(nothing, -nats[[k]]).mean()),
                        float(right(nothing, -scores[[k]]).mean()),
                        float(right(true, false[[k]]).mean()),
                    )
                    for k in range(len(false))
                ),
            )
        )
    return rows


def binding_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: how often each is right, and whether the bars are met."""
    met: list[str] = []
    for variant in result["compared"]:
        yield f"{variant.capitalize()} world, {result['pairs']} pairs:"
        yield ""
        yield "| swap | chance | compare | classifier | exact Bayes | of the ceiling's gain | rows a pair | within 2 errors of a tie |"
        yield "|---|--:|--:|--:|--:|--:|--:|--:|"
        rows = found(result, variant)
        for own in rows:
            share, lead = own.share(), own.lead()
            cells = [plus_minus(mean_over_pairs(values)) for values in (own.compare, own.classifier, own.ceiling)]
            yield (
                f"| {KINDS[own.kind]} | {own.chance:.1f} | {' | '.join(cells)} | {plus_minus(share)} | {own.rows:.0f} | {100 * own.close:.0f} % |"
            )
            met.append(
                f"| {variant}: {KINDS[own.kind]} | {plus_minus(share)} | {_yes(share.value >= ENOUGH)} | {plus_minus(lead)} | {_yes(lead.value >= 0)} |"
            )
        yield ""
        yield f"| one order alone, {variant} world | compare | classifier | exact Bayes |"
        yield "|---|--:|--:|--:|"
        for way, shares in zip(WAYS, rows[-1].alone, strict=True):
            yield f"| {way} | {' | '.join(f'{share:.3f}' for share in shares)} |"
        yield ""
    yield f"| bar | of the ceiling's gain | {ENOUGH:.0%} or more | ahead of the classifier | 0 or more |"
    yield "|---|---|---|---|---|"
    yield from met


def _yes(met: bool) -> str:
    return "yes" if met else "no"
