"""The best of several drawn pictures, by what can be asked of them, under an exact ceiling."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.path_influence import PathInfluence
from mmg_diffusers.commands.studies.uses.judge import Judge, KeptJudge, Training, covered, read_log_p, read_right
from mmg_diffusers.commands.studies.uses.orders import best_of, spearman, with_error
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, Factors, Shapes, caption_words, read_images

# Of the factors that coverage is of; no picture of a protocol has them.
TRUE_SEED = 610_003
# In the order of the table; what none of them costs is drawing.
NAMES: Mapping[str, str] = {
    "random": "one at random",
    "path": "null prompt along the path",
    "gap": "null prompt at fresh noise, gap",
    "orthogonal": "null prompt at fresh noise, orthogonal",
    "unweighted": "difference of errors, even in timesteps",
    "log q": "log q among captions that differ in a word",
    "judge": "a judge that was trained on pictures",
    "ceiling": "exact log p of the factors that are read",
}
# Fixed before anything was measured: log q takes so much of what the ceiling gains, the null prompt at most so much.
ENOUGH, AT_MOST = 0.8, 0.5
READ_AT = 16
# Pictures that are drawn at a time.
TOGETHER = 48


@dataclass(frozen=True)
class Settings:
    """How much is drawn and how it is scored.

    Args:
        captions: the first so many of every 48 in an order that mixes them; all of them by default.
        n: pictures of each caption and seed.
        seeds: each names the noise of a set of pictures.
        steps: of the sampler, chosen by the checker on the pictures of seed 78.
        guidance: of the sampler; both branches are run at any.
        levels: of the null prompt, each with noise of both signs.
        path, high: steps and clean end of the candidates' path.
        training: of the judge.
    """

    captions: int = 48
    n: int = 16
    seeds: tuple[int, ...] = (11,)
    steps: int = 8
    guidance: float = 1.0
    levels: int = 6
    path: int = 6
    high: float = 1.5
    training: Training = field(default_factory=Training)


def selection(pipe: MMGPipeline, stages: Stages, settings: Settings) -> dict[str, Any]:
    """Draw, score and read, a seed at a time; each is kept."""
    judge = KeptJudge(stages, settings.training)
    parts = [
        stages(f"selection-{seed}", lambda seed=seed: scored(pipe, judge.judge, settings, seed))
        for seed in settings.seeds
    ]
    return {"accuracy": judge.accuracy, "parts": parts, "settings": {"n": settings.n, "steps": settings.steps}}


def scored(pipe: MMGPipeline, judge: Judge, settings: Settings, seed: int) -> dict[str, Any]:
    """The pictures of one seed: what each score says of them, what it costs a picture, and what is true of them."""
    own = (np.arange(settings.captions) * 7) % len(CAPTIONS)
    captions = np.repeat(own, settings.n)
    prompts = [CAPTIONS[k] for k in captions]
    drawn, path = watched(pipe, prompts, settings, seed)
    images = list(drawn)
    null = pipe(images, prompts, plan=Plan(levels=settings.levels, seed=seed))
    log_q, rows = against_neighbours(pipe, images, captions, settings, seed)
    factors = read_images(drawn).factors
    scores = {
        "path": path.nats,
        "gap": null.using("gap").nats,
        "orthogonal": null.using("orthogonal").nats,
        "unweighted": even_in_time(null, pipe.denoiser.convention),
        "log q": log_q,
        "judge": judge.by_caption(drawn)[torch.arange(len(captions)), torch.from_numpy(captions)],
        "ceiling": torch.from_numpy(read_log_p(drawn, captions)),
    }
    each = null.evaluations / len(images)
    return {
        "caption": captions.tolist(),
        "right": read_right(drawn, captions).tolist(),
        "judged": (judge.by_caption(drawn).argmax(1).numpy() == captions).tolist(),
        "factors": {name: np.asarray(getattr(factors, name)).tolist() for name in ("hue", "size", "position", "shape")},
        "scores": {name: values.tolist() for name, values in scores.items()},
        # The path's second branch is a row a step that drawing without guidance does not have.
        "rows": {"path": settings.steps * (settings.guidance == 1), "log q": rows / len(images)}
        | dict.fromkeys(("gap", "orthogonal", "unweighted"), each),
        "drawing": settings.steps * (1 if settings.guidance == 1 else 2),
    }


def watched(
    pipe: MMGPipeline, prompts: list[str], settings: Settings, seed: int
) -> tuple[NDArray[np.floating], PathInfluence]:
    """Pictures `(M, 32, 32, 3)`, and what guidance's branches differed by while they were drawn."""
    # Guidance of 1 leaves the second branch out; a millionth more does not, and moves nothing that is seen.
    guidance = max(settings.guidance, 1 + 1e-6)
    drawn: list[NDArray[np.floating]] = []
    paths: list[PathInfluence] = []
    for part, start in enumerate(range(0, len(prompts), TOGETHER)):
        with warnings.catch_warnings(), pipe.watch() as seen:
            warnings.filterwarnings("ignore", message="images were drawn with guidance")
            some = prompts[start : start + TOGETHER]
            drawn.append(draw(pipe, some, steps=settings.steps, guidance=guidance, seed=1000 * seed + part).images)
        paths.append(seen.read())
    return np.concatenate(drawn), PathInfluence.merge(paths)


def against_neighbours(
    pipe: MMGPipeline, images: list[Any], captions: NDArray[np.int64], settings: Settings, seed: int
) -> tuple[Tensor, int]:
    """log q - log p of each picture's caption among those that differ from it in one word at most, and the rows that it took."""
    words = caption_words(np.arange(len(CAPTIONS)))
    rule = AtLevels.widening(pipe.denoiser.logsnr_range[0], settings.high, settings.path + 1)
    plan = Plan(levels=rule.levels, prune=1e-3, seed=seed)
    found, rows = torch.zeros(len(images), dtype=torch.float64), 0
    for caption in np.unique(captions):
        of_it = np.flatnonzero(captions == caption)
        near = [CAPTIONS[k] for k in np.flatnonzero((words != words[caption]).sum(1) <= 1)]
        result = pipe.filter(
            [images[k] for k in of_it],
            [CAPTIONS[caption]] * len(of_it),
            Candidates(near),
            plan=plan,
            pair_ids=of_it.tolist(),
        )
        found[torch.from_numpy(of_it)] = result.nats
        rows += result.evaluations
    return found, rows


def even_in_time(null: Estimate, convention: Convention) -> Tensor:
    """|eps - e_u|^2 - |eps - e_c|^2 in the mean over timesteps, `(N,)`: what training weighs, and no information."""
    curve = null.curve
    time, order = convention.timestep(curve.logsnr).sort(2)
    values = curve.gap.gather(2, order)
    step = time.diff(dim=2)
    whole = (step * (values[..., 1:] + values[..., :-1]) / 2).sum(2) / step.sum(2)
    return whole.mean(1)


# ---- what it says ----


@dataclass(frozen=True)
class Pool:
    """All seeds together: `(G, n)` of everything, a group for each caption and seed."""

    right: Tensor
    judged: Tensor
    scores: Mapping[str, Tensor]
    rows: Mapping[str, float]
    drawing: float
    factors: Factors
    captions: Tensor

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Pool:
        """From what `selection` gave."""
        parts, n = result["parts"], result["settings"]["n"]

        def joined(values: list[list[Any]]) -> Tensor:
            return torch.tensor([value for part in values for value in part], dtype=torch.float64).reshape(-1, n)

        names = parts[0]["scores"]
        held = {
            name: np.concatenate([part["factors"][name] for part in parts])
            for name in ("hue", "size", "position", "shape")
        }
        rows = {name: sum(part["rows"].get(name, 0) for part in parts) / len(parts) for name in names}
        return cls(
            joined([part["right"] for part in parts]),
            joined([part["judged"] for part in parts]),
            {name: joined([part["scores"][name] for part in parts]) for name in names},
            rows,
            parts[0]["drawing"],
            Factors(**held),
            joined([part["caption"] for part in parts])[:, 0].long(),
        )

    def gain(self, name: str, count: int) -> Tensor:
        """`(G,)` how much oftener the best of `count` is right than one at random."""
        return best_of(self.scores[name], self.right, count) - self.right.mean(1)

    def share(self, name: str, count: int) -> Value:
        """What a score gains, as a share of what the ceiling gains."""
        own, most = self.gain(name, count), self.gain("ceiling", count)
        return with_error(len(own), lambda rows: float(own[rows].sum() / most[rows].sum().clamp(min=1e-12)))

    def coverage(self, name: str, count: int, true: Factors) -> float:
        """What the best of the first `count` cover of the true factors; of one at random, the first."""
        groups, n = self.right.shape
        place = torch.arange(groups) * n
        if name != "random":
            place = place + self.scores[name][:, :count].argmax(1)
        return covered(true, self.factors[place.numpy()])


def true_factors(pool: Pool) -> Factors:
    """Factors of the law itself for the captions of the pool, four for each group."""
    captions, factors = Shapes("soft").sample_factors(64 * len(CAPTIONS), TRUE_SEED)
    chosen: list[int] = []
    for caption in sorted(set(pool.captions.tolist())):
        times = 4 * int((pool.captions == caption).sum())
        chosen += np.flatnonzero(captions == caption)[:times].tolist()
    return factors[np.array(chosen)]


def selection_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: what each score takes, and whether the bars are met."""
    pool = Pool.of(result)
    groups, n = pool.right.shape
    accuracy = result["accuracy"]
    yield (
        f"{groups} groups of {n} pictures (sampler of {result['settings']['steps']} steps). The judge is right about {100 * accuracy['judge']:.2f} % of "
        f"{accuracy['pictures']} fresh rendered pictures, the checker about {100 * accuracy['checker']:.2f} %; they agree about "
        f"{100 * float((pool.right == pool.judged).double().mean()):.1f} % of those drawn."
    )
    yield ""
    counts = [count for count in (2, 4, 8, 16) if count <= n]
    true = true_factors(pool)
    read = min(READ_AT, n)
    head = [f"best of {count}" for count in counts]
    yield f"| score | rows a picture | order in a group | {' | '.join(head)} | by the judge | covers | of the ceiling's gain |"
    yield "|---" * (len(head) + 6) + "|"
    for name, said in NAMES.items():
        chance = mean_over_pairs(pool.right.mean(1))
        if name == "random":
            cells = ["", *[plus_minus(chance)] * len(counts), f"{float(pool.judged.mean()):.3f}"]
            yield f"| {said} | {pool.drawing:g} | {' | '.join(cells)} | {pool.coverage(name, read, true):.3f} | 0 |"
            continue
        score = pool.scores[name]
        order = mean_over_pairs(spearman(score, pool.scores["ceiling"]))
        found = [plus_minus(mean_over_pairs(best_of(score, pool.right, count))) for count in counts]
        judged = f"{float(best_of(score, pool.judged, read).mean()):.3f}"
        cells = [plus_minus(order, 2), *found, judged, f"{pool.coverage(name, read, true):.3f}"]
        yield f"| {said} | {pool.drawing + pool.rows[name]:.0f} | {' | '.join(cells)} | {plus_minus(pool.share(name, read), 2)} |"
    yield ""
    yield from equal_rows(pool)
    yield ""
    yield from bars(pool, read)


def equal_rows(pool: Pool) -> Iterator[str]:
    """Markdown: how often the chosen picture is right where drawing and scoring together may take so many rows a caption."""
    n = pool.right.shape[1]
    budgets = [round(pool.drawing * times) for times in (2, 4, 8, 16) if times <= n]
    yield f"| at equal rows a caption | {' | '.join(f'{budget} rows' for budget in budgets)} |"
    yield "|---" * (len(budgets) + 1) + "|"
    for name, said in NAMES.items():
        if name not in pool.rows:
            continue
        cells = []
        for budget in budgets:
            count = min(n, int(budget / (pool.drawing + pool.rows[name])))
            if count < 2:
                cells.append("one picture")
                continue
            cells.append(f"{plus_minus(mean_over_pairs(best_of(pool.scores[name], pool.right, count)))} (of {count})")
        yield f"| {said} | {' | '.join(cells)} |"


def bars(pool: Pool, read: int) -> Iterator[str]:
    """Markdown: the bars, and whether they are met."""
    yield "| bar | found | met |"
    yield "|---|---|---|"
    own = pool.share("log q", read)
    yield f"| log q takes {ENOUGH:.0%} of the ceiling's gain | {plus_minus(own, 2)} | {'yes' if own.value >= ENOUGH else 'no'} |"
    for name in ("path", "gap", "orthogonal"):
        own = pool.share(name, read)
        yield f"| {NAMES[name]}: {AT_MOST:.0%} at most | {plus_minus(own, 2)} | {'yes' if own.value <= AT_MOST else 'no'} |"
