"""Do the nats of a word foretell what changes when it is replaced, and the picture is drawn again from the same noise?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.words import all_but
from mmg_diffusers.commands.studies.uses.attention import Attention
from mmg_diffusers.commands.studies.uses.orders import spearman, with_error, with_interval
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Word, without
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, SIZE, WORD_PLACES, WORDS, Factors, Shapes, caption_parts, read_images
from mmg_diffusers.worlds.shapes.world import caption_words

KINDS = tuple(WORDS)
TOGETHER = 48
# Fixed before anything was measured: Spearman by picture and by pixel, and the slope of exact on measured nats.
BY_PICTURE, BY_PIXEL, SLOPE = 0.6, 0.5, 0.1
PREDICTORS: Mapping[str, str] = {
    "candidates": "i(x; word given the rest) among candidates",
    "masked": "the word masked, gap",
    "null": "the whole caption, null prompt",
    "attention": "attention to the word",
    "embedding": "distance of the captions' embeddings",
    "exact": "exact i(x; word given the rest)",
}
TRUTHS: Mapping[str, str] = {
    "factor": "change of the factor",
    "inside": "of pixels inside the object",
    "outside": "of pixels outside",
    "recovered": "p(new word) after it",
}


@dataclass(frozen=True)
class Settings:
    """How many words are replaced, and how they are read before.

    Args:
        swaps: of words, the four kinds in turn.
        steps: of the sampler, without guidance.
        path, high, draws: steps, clean end and draws of the candidates' path.
        levels: of the null prompt and the masked word, each with noise of both signs.
        chosen_on: swaps of another seed, on which attention's layers are chosen.
        seed: of captions, words and noise; another one for the layers.
    """

    swaps: int = 128
    steps: int = 8
    path: int = 8
    high: float = 3.0
    draws: int = 2
    levels: int = 6
    chosen_on: int = 48
    seed: int = 31


@dataclass(frozen=True)
class Swaps:
    """Captions `(N,)` before and after a word of `kind` `(N,)` was replaced, and what was drawn from each at the same noise."""

    kind: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    drawn: NDArray[np.floating]
    redrawn: NDArray[np.floating]
    attention: Tensor

    @classmethod
    def of(cls, pipe: MMGPipeline, count: int, steps: int, seed: int) -> Swaps:
        """Draw them; attention `(N, layers, 32, 32)` is seen while the first are drawn."""
        rng = np.random.default_rng(seed)
        kind, before = np.arange(count) % len(KINDS), rng.integers(len(CAPTIONS), size=count)
        words = caption_words(np.arange(len(CAPTIONS)))
        after = np.zeros(count, dtype=np.int64)
        for row in range(count):
            others = words != words[before[row]]
            after[row] = rng.choice(np.flatnonzero(others[:, kind[row]] & (others.sum(1) == 1)))
        drawn: list[NDArray[np.floating]] = []
        redrawn: list[NDArray[np.floating]] = []
        maps: list[Tensor] = []
        for start in range(0, count, TOGETHER):
            rows = range(start, min(start + TOGETHER, count))
            prompts = [CAPTIONS[before[row]] for row in rows]
            with Attention(pipe.family.networks()[0]) as seen:
                drawn.append(draw(pipe, prompts, steps=steps, seed=seed + start).images)
            maps.append(seen.maps([_token(pipe, prompts[k], KINDS[kind[row]]) for k, row in enumerate(rows)], SIZE))
            others = [CAPTIONS[after[row]] for row in rows]
            redrawn.append(draw(pipe, others, steps=steps, seed=seed + start).images)
        return cls(kind, before, after, np.concatenate(drawn), np.concatenate(redrawn), torch.cat(maps))

    def change(self) -> Tensor:
        """`(N, 32, 32)` how far each pixel moved, over its colours."""
        return torch.from_numpy(np.abs(self.drawn - self.redrawn).sum(3)).double()

    def truths(self) -> dict[str, Tensor]:
        """`(N,)` each of `TRUTHS`."""
        old, new = read_images(self.drawn).factors, read_images(self.redrawn).factors
        moved = self.change()
        inside = torch.from_numpy(_object(self.drawn)).double()
        own = torch.stack([_moved(old, new, name) for name in KINDS], 1)
        return {
            "factor": own[torch.arange(len(self.kind)), torch.from_numpy(self.kind)],
            "inside": (moved * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1),
            "outside": (moved * (1 - inside)).sum((1, 2)) / (1 - inside).sum((1, 2)).clamp(min=1),
            "recovered": exact_word(new, self.after, self.kind).exp(),
        }


def _token(pipe: MMGPipeline, prompt: str, kind: str) -> int:
    tokenizer = pipe.pipe.tokenizer
    word = tokenizer(prompt.split()[WORD_PLACES[kind]], add_special_tokens=False).input_ids[0]
    return tokenizer(prompt).input_ids.index(word)


def _object(images: NDArray[np.floating]) -> NDArray[np.bool_]:
    """`(N, 32, 32)` where there is colour: only the object has any."""
    chroma = images.max(-1) - images.min(-1)
    full = np.quantile(chroma.reshape(len(images), -1), 0.985, axis=1).clip(0.05)
    return chroma > 0.5 * full[:, None, None]


def _moved(old: Factors, new: Factors, kind: str) -> Tensor:
    a, b = (np.asarray(own.coordinate(kind), dtype=float) for own in (old, new))
    if kind == "shape":
        return torch.from_numpy((a != b).astype(float))
    off = np.abs(a - b)
    return torch.from_numpy(np.minimum(off, 1 - off) if kind == "colour" else off)


def exact_word(factors: Factors, captions: NDArray[np.int64], kind: NDArray[np.int64]) -> Tensor:
    """`(N,)` exact log p(word | rest, factors) of the word of a kind, at least -12."""
    posterior, words = Shapes("soft").posterior(factors), caption_words(np.arange(len(CAPTIONS)))
    found = np.zeros(len(captions))
    for row, (caption, own) in enumerate(zip(captions, kind, strict=True)):
        # Of captions that share the other words: each word has a probability of its own, whatever the others are.
        column = words[:, own]
        by_word = np.bincount(column, weights=posterior[row])
        found[row] = np.log(max(by_word[words[caption, own]] / by_word.sum(), np.exp(-12.0)))
    return torch.from_numpy(found)


def edits(pipe: MMGPipeline, stages: Stages, settings: Settings) -> dict[str, Any]:
    """Choose attention's layers on other swaps, then read words, replace them, and compare."""
    layers = stages("layers", lambda: chosen_layers(pipe, settings))
    return {"layers": layers, "swaps": stages("swaps", lambda: swapped(pipe, settings, layers))}


def chosen_layers(pipe: MMGPipeline, settings: Settings) -> dict[str, Any]:
    """The layer whose attention foretells the change of the factor best, and the one that foretells where."""
    swaps = Swaps.of(pipe, settings.chosen_on, settings.steps, settings.seed + 7919)
    maps, kind = swaps.attention, torch.from_numpy(swaps.kind)
    truth, moved = swaps.truths()["factor"], swaps.change().flatten(1)
    whole = [within_kinds(maps[:, k].mean((1, 2)), truth, kind) for k in range(maps.shape[1])]
    where = [float(spearman(maps[:, k].flatten(1), moved).mean()) for k in range(maps.shape[1])]
    return {"picture": int(np.argmax(whole)), "pixel": int(np.argmax(where)), "by_picture": whole, "by_pixel": where}


def swapped(pipe: MMGPipeline, settings: Settings, layers: Mapping[str, Any]) -> dict[str, Any]:
    """Every predictor and every truth of every swap."""
    swaps = Swaps.of(pipe, settings.swaps, settings.steps, settings.seed)
    images, prompts = list(swaps.drawn), [CAPTIONS[k] for k in swaps.before]
    plan = Plan(levels=settings.levels, keep="pixel", seed=settings.seed)
    null = pipe(images, prompts, plan=plan)
    words = [Word(place=WORD_PLACES[KINDS[k]]) for k in swaps.kind]
    masked = pipe(images, prompts, given=[without(p, [w]) for p, w in zip(prompts, words, strict=True)], plan=plan)
    nats, errors, maps, rows = among_candidates(pipe, swaps, settings)
    factors = read_images(swaps.drawn).factors
    count = torch.tensor([len(WORDS[KINDS[k]]) for k in swaps.kind], dtype=torch.float64)
    predictors = {
        "candidates": nats,
        "masked": masked.using("gap").nats,
        "null": null.using("gap").nats,
        "attention": swaps.attention[:, layers["picture"]].mean((1, 2)),
        "embedding": embedding_distance(pipe, swaps),
        "exact": exact_word(factors, swaps.before, swaps.kind) + count.log(),
    }
    moved = swaps.change().flatten(1)
    where = {
        "candidates": maps,
        "masked": pipe.spread(masked.pixel_map("orthogonal")[0], images),
        "null": pipe.spread(null.pixel_map("orthogonal")[0], images),
        "attention": swaps.attention[:, layers["pixel"]],
        "the object itself": torch.from_numpy(_object(swaps.drawn)).double(),
    }
    return {
        "kind": swaps.kind.tolist(),
        "predictors": {name: values.tolist() for name, values in predictors.items()},
        "truths": {name: values.tolist() for name, values in swaps.truths().items()},
        "by_pixel": {name: spearman(own.double().flatten(1), moved).tolist() for name, own in where.items()},
        "stderr": errors.tolist(),
        "rows": {
            "candidates": rows / len(images),
            "masked": masked.evaluations / len(images),
            "null": null.evaluations / len(images),
        },
    }


def among_candidates(pipe: MMGPipeline, swaps: Swaps, settings: Settings) -> tuple[Tensor, Tensor, Tensor, int]:
    """i(x; word | rest) of the word that is to be replaced, its standard error, its map, and the rows that all took."""
    low = pipe.denoiser.logsnr_range[0]
    rule = AtLevels.widening(low, settings.high, settings.path + 1)
    plan = Plan(levels=rule.levels, draws=settings.draws, keep="pixel", seed=settings.seed)
    count = len(swaps.kind)
    nats, errors = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    maps, rows = torch.zeros(count, SIZE, SIZE, dtype=torch.float64), 0
    for place, kind in enumerate(KINDS):
        own = np.flatnonzero(swaps.kind == place)
        if not len(own):
            continue
        images = [swaps.drawn[k] for k in own]
        among = Candidates(CAPTIONS, groups=all_but(caption_parts(), kind))
        found = pipe.filter(images, [CAPTIONS[k] for k in swaps.before[own]], among, plan=plan, pair_ids=own.tolist())
        at = torch.from_numpy(own)
        nats[at], errors[at] = found.nats, found.stderr
        maps[at] = pipe.spread(found.against_mixture.pixel_map("orthogonal")[0], images).double()
        rows += found.evaluations
    return nats, errors, maps, rows


@torch.no_grad()
def embedding_distance(pipe: MMGPipeline, swaps: Swaps) -> Tensor:
    """`(N,)` how far the text encoder's outputs of the two captions are apart."""
    told = pipe.encoder.condition(list(CAPTIONS))["encoder_hidden_states"].double().flatten(1)
    return (told[torch.from_numpy(swaps.before)] - told[torch.from_numpy(swaps.after)]).norm(dim=1)


# ---- what it says ----


def within_kinds(one: Tensor, other: Tensor, kind: Tensor) -> float:
    """Spearman among swaps of one kind of word, in the mean over kinds: kinds differ in what a change of them is."""
    found = [float(spearman(one[kind == k], other[kind == k])) for k in kind.unique().tolist()]
    return sum(found) / len(found)


def edits_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: how well each predictor foretells each change, by picture and by pixel."""
    found = result["swaps"]
    kind = torch.tensor(found["kind"])
    predictors = {name: torch.tensor(values, dtype=torch.float64) for name, values in found["predictors"].items()}
    truths = {name: torch.tensor(values, dtype=torch.float64) for name, values in found["truths"].items()}
    count = len(kind)
    yield (
        f"{count} words replaced. Rows a picture: {', '.join(f'{name} {rows:.0f}' for name, rows in found['rows'].items())}; attention is seen while "
        "drawing."
    )
    yield ""
    yield f"| Spearman among words of a kind | {' | '.join(TRUTHS.values())} | where (by pixel) |"
    yield "|---" * (len(TRUTHS) + 2) + "|"

    def correlated(name: str, truth: str) -> Value:
        return with_error(count, lambda rows: within_kinds(predictors[name][rows], truths[truth][rows], kind[rows]))

    pixels = {name: torch.tensor(values, dtype=torch.float64) for name, values in found["by_pixel"].items()}
    for name, said in PREDICTORS.items():
        cells = [plus_minus(correlated(name, truth), 2) for truth in TRUTHS]
        where = plus_minus(mean_over_pairs(pixels[name]), 2) if name in pixels else ""
        yield f"| {said} | {' | '.join(cells)} | {where} |"
    yield f"| the object itself | {' | '.join([''] * len(TRUTHS))} | {plus_minus(mean_over_pairs(pixels['the object itself']), 2)} |"
    yield ""
    yield "| bar | found | met |"
    yield "|---|---|---|"
    own = correlated("candidates", "factor")
    yield f"| Spearman of candidates by picture {BY_PICTURE:g} | {plus_minus(own, 2)} | {_met(own.value >= BY_PICTURE)} |"
    where = mean_over_pairs(pixels["candidates"])
    yield f"| by pixel {BY_PIXEL:g} | {plus_minus(where, 2)} | {_met(where.value >= BY_PIXEL)} |"

    def less(rows: Tensor) -> float:
        own, other = (
            within_kinds(predictors[name][rows], truths["factor"][rows], kind[rows])
            for name in ("candidates", "attention")
        )
        return own - other

    value, low, high = with_interval(count, less)
    yield f"| less attention, by picture: 95 % interval off 0 | {value:.2f} ({low:.2f} to {high:.2f}) | {_met(low > 0)} |"
    value, low, high = with_interval(
        count, lambda rows: float((pixels["candidates"] - pixels["attention"])[rows].mean())
    )
    yield f"| less attention, by pixel | {value:.2f} ({low:.2f} to {high:.2f}) | {_met(low > 0)} |"
    slope = with_error(count, lambda rows: _slope(predictors["candidates"][rows], predictors["exact"][rows]))
    yield f"| slope of exact on measured nats 1 ± {SLOPE:g} | {plus_minus(slope, 2)} | {_met(abs(slope.value - 1) <= SLOPE)} |"


def _slope(measured: Tensor, exact: Tensor) -> float:
    off = measured - measured.mean()
    return float((off * exact).sum() / off.square().sum())


def _met(met: bool) -> str:
    return "yes" if met else "no"
