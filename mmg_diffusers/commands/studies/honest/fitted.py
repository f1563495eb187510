"""Marginals fitted to worlds that a model was not trained on, held against the exact information: ``--stage fitted``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands.studies.honest.unlike import PLAIN, World, worlds
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.marginals import Marginal, NullPrompt
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.bench import Bench
from mmg_diffusers.pipelines.fitting import Fitted, follow
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.shipped import model_place
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.tuning.fitting import Part
from mmg_diffusers.tuning.soft import SoftPrompts

# Seeds of what is fitted to and of what is measured.
FIT, MEASURED = 1100, 2100
# Of the path: fewer steps than by default, from where nothing is told yet up to where posteriors have settled in these worlds.
STEPS, LOW, HIGH, PRUNE = 24, -6.0, 6.0, 1e-5
# Pairs with the null as it stands, which is far off, those with tuned branches, and levels of nulls.
NULLS, FEW, LEVELS = 16, 16, 24
# Pairs of a group whose interval is held against the truth, and groups, where there are twice as many pairs.
GROUP, GROUPS = 64, 50
# Pairs of a file: what is done is kept.
PART = 16
# The marginal that the others are to be.
LAW, STANDS = "the world's own law", "null as it stands"


class Remembered(Denoiser):
    """Answers from memory what it was asked before: marginals are compared at the same noise, and ask mostly the same.

    Args:
        denoiser: whose answers they are, but for rounding in other batches.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.known = denoiser, dict[bytes, Tensor]()
        self.logsnr_range, self.notes = denoiser.logsnr_range, denoiser.notes

    @property
    def has_marginal(self) -> bool:
        return self.denoiser.has_marginal

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.denoiser.snap(logsnr)

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        told = {} if cond is None else cond
        parts = [part.contiguous().cpu().numpy() for part in (z, logsnr, *(told[name] for name in sorted(told)))]
        keys = [
            hashlib.blake2b(b"".join(part[row].tobytes() for part in parts), digest_size=16).digest()
            for row in range(len(z))
        ]
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            index = torch.tensor(list(new.values()))
            some = None if cond is None else {name: value[index] for name, value in cond.items()}
            self.known |= dict(zip(new, self.denoiser(z[index], logsnr[index], some).unbind(), strict=True))
        return torch.stack([self.known[key] for key in keys])


@dataclass(frozen=True)
class Read:
    """What was read of pairs against one marginal.

    Args:
        estimate: gap and orthogonal, with its verdict.
        exact: `(N,)` information of the pairs, nats.
        odds: `(N,)` log p(path | own prompt) - log p(path | mixture), which gap is of in expectation, with less noise and no error of
            steps; none off a path.
        bound: `(N,)` log q of candidates by the world's own law.
    """

    estimate: Estimate
    exact: Tensor
    odds: Tensor | None = None
    bound: Tensor | None = None

    def forms(self) -> dict[str, Tensor]:
        """Readings that may be above the information, `(N,)` nats each."""
        odds = {} if self.odds is None else {"odds": self.odds}
        return {**{form: self.estimate.using(form).nats for form in ("gap", "orthogonal")}, **odds}


@dataclass(frozen=True)
class Course:
    """One model on the pairs of one world, at one noise for all marginals.

    Args:
        world: whose pairs they are.
        stages: keeps what is done.
        pipe, bench: the model.
        pairs: that are measured.
        exact: `(N,)` their information, nats.
    """

    world: World
    stages: Stages
    pipe: MMGPipeline
    bench: Bench
    pairs: ImagePairs
    exact: Tensor
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        low = max(LOW, self.bench.denoiser.logsnr_range[0])
        object.__setattr__(self, "plan", Plan(levels=STEPS, logsnr_range=(low, HIGH), prune=PRUNE))

    def all(self) -> dict[str, Read]:
        """Against every marginal, by name."""
        law = self.world.prompts()
        curve = self.followed(LAW, law, self.bench)
        bound = self._bound(curve, law)
        found = {STANDS: self._by_null(STANDS, NullPrompt(), NULLS), LAW: self._of(curve, law, (), bound)}
        for name in self.world.ways:
            found |= self._against(name, bound)
        return found

    def _by_null(self, name: str, marginal: Marginal, count: int) -> Read:
        """Against a network's null, of the first so many pairs."""
        count = min(count, len(self.pairs))

        def measure(rows: range) -> Estimate:
            some = self.pairs.rows(rows)
            ids = some.ids.tolist()
            out = self.pipe(list(some.images), list(some.prompts), marginal=marginal, levels=LEVELS, pair_ids=ids)
            assert isinstance(out, Estimate)
            return out

        parts = self.stages.parts(f"{self.world.name}, {name}", count, measure, Estimate.load, PART)
        return Read(Estimate.merge(parts), self.exact[:count])

    def followed(self, name: str, soft: SoftPrompts, bench: Bench, count: int | None = None) -> CandidateCurve:
        """The true prompt, slot 0, against a mixture of others, of the first so many pairs."""

        def measure(rows: range) -> CandidateCurve:
            return follow(bench, soft, self.pairs.rows(rows), self.plan)

        path = f"{self.world.name}, {name}"
        return CandidateCurve.merge(
            self.stages.parts(path, count or len(self.pairs), measure, CandidateCurve.load, PART)
        )

    def _fitted(self, name: str) -> Fitted:
        """Read back, or fitted to other pairs and kept; of a few prompts, which are counted alone, no image is looked at."""
        folder = self.stages.folder / f"{self.world.name}, {name}"
        count, plan = self.world.ways[name]
        if plan == PLAIN:
            return Fitted.of([Part(torch.arange(count), self.world.counted(count, FIT))], {})
        if not folder.exists():
            sample = self.world.draw(count, FIT)
            self.pipe.fit(list(sample.images), sample.prompts, plan=plan, progress=False, folder=folder)
        return Fitted(folder)

    def _against(self, name: str, bound: Tensor) -> dict[str, Read]:
        """A marginal that was fitted; of branches that were tuned, their own null beside the mixture."""
        fitted = self._fitted(name)
        fitted.check(self.pairs)
        part = fitted.parts[0]
        assert part.soft is not None
        if part.tuned is None:
            return {name: self._of(self.followed(name, part.soft, self.bench), part.soft, (fitted.note,), bound)}
        count = min(FEW, len(self.pairs))
        with part.tuned.on(self.bench.weights.networks()):
            # What is remembered is of the networks as they were.
            bench = replace(self.bench, make=lambda: self.pipe.denoiser)
            curve = self.followed(name, part.soft, bench, count)
        own = Fitted.of([replace(part, soft=None)], fitted.details)
        return {
            name: self._of(curve, part.soft, (fitted.note,), bound),
            f"{name}, their null": self._by_null(f"{name}, null", own, count),
        }

    def _of(self, curve: CandidateCurve, soft: SoftPrompts, notes: tuple[str, ...], bound: Tensor) -> Read:
        """What a path says of the true prompt, slot 0, against the others."""
        assert curve.mixture is not None
        score, count = curve.score.mean(1).sum(1), len(curve.score)
        odds = score[:, 0] - torch.logsumexp(soft.probability.log() + score[:, 1:], 1)
        return Read(Estimate(curve.mixture, "auto", notes=notes), self.exact[:count], odds, bound[:count])

    def _bound(self, curve: CandidateCurve, law: SoftPrompts) -> Tensor:
        """log q of candidates by the world's own law, along the same path, evidence believed as far as other pairs say."""
        truth = torch.tensor([law.texts.index(str(prompt)) for prompt in self.pairs.prompts])
        slots = torch.arange(len(law)).expand(len(truth), -1).contiguous()
        prior = law.probability.expand(len(truth), -1).contiguous()
        evidence = CandidateCurve(curve.score[..., 1:].contiguous(), curve.logsnr, curve.pair_ids, curve.evaluations)
        return Filtered(evidence, Mixture(law.texts, slots, prior, truth)).in_mean().nats


def measure_world(world: World, stages: Stages) -> dict[str, Read]:
    """What every marginal reads of a world's pairs: the null as it stands, the world's own law, those that were fitted.

    Args:
        world: which.
        stages: keeps what is done.
    """
    pipe = MMGPipeline.from_pretrained(model_place(world.model))
    pipe.set_progress_bar_config(disable=True)
    fresh = world.draw(world.pairs, MEASURED)
    exact = torch.from_numpy(world.shapes.pointwise(fresh.factors, fresh.caption))
    with pipe.ready() as bench:
        remembered = Remembered(bench.denoiser)
        bench = replace(bench, make=lambda: remembered)
        pairs = bench.pairs(list(fresh.images), fresh.prompts, None, None, Plan(), NullPrompt())
        return Course(world, stages, pipe, bench, pairs, exact).all()


def fitted_lines(world: World, found: Mapping[str, Read]) -> Iterator[str]:
    """A table of one world: what each marginal reads, by how much it is off, and how far it is from the world's own law."""
    law = found[LAW]
    yield (
        f"{world.name}: exact {plus_minus(mean_over_pairs(law.exact))} over {len(law.exact)} pairs, {world.information():.3f} in the world; captions "
        f"hold {world.shapes.entropy():.3f}; bound {plus_minus(mean_over_pairs(_given(law.bound)))}, {_off(_given(law.bound), law.exact)}"
    )
    yield ""
    yield (
        "| marginal | pairs | gap | orthogonal | certificate | gap off | log odds off | orthogonal off | middle off | log odds beyond the law's | "
        "evaluations a pair | verdict |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    for name, read in found.items():
        forms, count = read.forms(), len(read.exact)
        cells = [str(count), *(plus_minus(mean_over_pairs(forms[form])) for form in ("gap", "orthogonal"))]
        cells.append(plus_minus(read.estimate.certificate))
        cells += [_off(forms[form], read.exact) if form in forms else "" for form in ("gap", "odds", "orthogonal")]
        if read.odds is None or read.bound is None:
            cells += ["", ""]
        else:
            cells.append(_off((read.odds + read.bound) / 2, read.exact))
            cells.append(plus_minus(mean_over_pairs(read.odds - _given(law.odds)[:count])))
        yield f"| {' | '.join([name, *cells, format(read.estimate.evaluations / count, '.0f'), str(read.estimate.verdict)])} |"
    for name in world.ways:
        if len(found[name].exact) >= 2 * GROUP:
            held = coverage(found[name], world.information())
            yield ""
            yield (
                f"Sandwich of {name}, {GROUPS} groups of {GROUP} of these pairs: holds the world's information in {held['world']:.0%}, too low in "
                f"{held['below']:.0%}, too high in {held['above']:.0%}; {held['width']:.2f} nats wide"
            )


def coverage(read: Read, information: float, seed: int = 0) -> dict[str, float]:
    """How often the interval from the bound to the larger form, as in `Sandwich`, two standard errors added at either end, holds what is true.

    Groups of pairs are drawn from those that were measured, without the same one twice in a group.

    Returns:
        shares: of groups whose interval holds the world's information (``world``), and that lie too high or too low for it (``above``,
        ``below``); and the mean width.
    """
    generator, forms, bound = np.random.default_rng(seed), read.forms(), _given(read.bound)
    held = {"world": 0.0, "above": 0.0, "below": 0.0, "width": 0.0}
    for _ in range(GROUPS):
        rows = torch.from_numpy(generator.choice(len(bound), GROUP, replace=False))
        low, *others = (mean_over_pairs(values[rows]) for values in (bound, forms["gap"], forms["orthogonal"]))
        high = max(others)
        least, most = low.value - 2 * low.stderr, high.value + 2 * high.stderr
        found = {"world": least <= information <= most, "above": least > information, "below": most < information}
        for name, value in {**found, "width": high.value - low.value}.items():
            held[name] += value / GROUPS
    return held


def _given(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


def _off(values: Tensor, exact: Tensor) -> str:
    difference = mean_over_pairs(values - exact)
    share, error = (100 * part / float(exact.mean()) for part in difference)
    return f"{share:+.1f} ± {error:.1f} %"


def fitted_tables(stages: Stages) -> Iterator[str]:
    """Measure what is missing, each marginal of each world by itself, and tell the lines of every world."""
    for world in worlds():
        yield from ("", *fitted_lines(world, measure_world(world, stages)))
