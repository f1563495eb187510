"""A marginal fitted to images and prompts of the user's own, beside its pipeline: `MMGPipeline.fit`, and ``marginal=Fitted(folder)``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, of_type, shown, whole
from mmg_diffusers.files.identity import Identity, row_marks
from mmg_diffusers.files.records import pack, read_record, unpack, within
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import CandidateCurve, measure_candidates
from mmg_diffusers.measure.ceiling import ceiling_of
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.known import of_unknown_candidates
from mmg_diffusers.measure.measured import prefixed
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.pairs.classes import as_prompts
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.marginals import Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Masked, Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.adapters.base import stack
from mmg_diffusers.pipelines.bench import Bench
from mmg_diffusers.pipelines.likelihood import LikelihoodModel
from mmg_diffusers.pipelines.tuning import check_tunable, encode, networks_of, picture_marks
from mmg_diffusers.tuning.fitting import FitPlan, Part, check_enough, fit_branches
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.soft import SoftPrompts

if TYPE_CHECKING:
    from mmg_diffusers.pairs.marginals import Bench as MarginalBench

FORMAT = "mmg_diffusers.Fitted/1"
# What is in the folder: all of it, and a copy of the record for people.
ADAPTER, CONFIG = "fitted.safetensors", "config.json"
# The probability of the true prompt in the mixture, which is of the fitted prompts alone.
_NOBODY = 1e-300


class Fitted(Marginal):
    """What stands for no prompt, fitted to other images and prompts of the same law; `MMGPipeline.fit` makes it.

    It is a mixture of a few prompts, those of the other pairs or soft ones, that are compared with the true one along one noise path, or
    the network's own null with low-rank additions in both branches. What it reads, in the orthogonal form above all, is an upper
    estimate as far as the conditional branch is right: a marginal that is not the best one leaves more to be told.

    Args:
        folder: that `save` wrote.
        entropy: H(Y) of what the prompts say, nats, if they are labels of a known law.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder that holds something else, or an entropy that is none.
    """

    filters: ClassVar[bool] = False

    def __init__(self, folder: str | Path, entropy: float | None = None) -> None:
        folder = file_path(folder, "the folder of the fitted marginal")
        body = read_record(folder / ADAPTER, "fitted marginal")
        try:
            tensors, record = unpack(body, FORMAT)
            parts = tuple(Part.unpacked(within(tensors, str(k)), one) for k, one in enumerate(record.pop("parts")))
            del record["format"]
        except (SafetensorError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} holds no complete fitted marginal of this library: {error}") from error
        self._hold(parts, record, entropy)

    @classmethod
    def of(cls, parts: Sequence[Part], record: Mapping[str, Any], entropy: float | None = None) -> Fitted:
        """From what was fitted, and what is known of the model, the data and the plan."""
        made = cls.__new__(cls)
        made._hold(tuple(parts), dict(record), entropy)
        return made

    def _hold(self, parts: tuple[Part, ...], details: dict[str, Any], entropy: float | None) -> None:
        ceiling_of(entropy, 0)
        self.parts, self.details, self.entropy = parts, details, entropy

    def stating(self, entropy: float) -> Fitted:
        return Fitted.of(self.parts, self.details, entropy)

    @property
    def soft(self) -> bool:
        """Whether it is a mixture of prompts, along one noise path; else the network's null, level by level."""
        return self.parts[0].soft is not None

    @property
    def images(self) -> int:
        """How many different images it was fitted to, over all folds."""
        return len(torch.cat([part.rows for part in self.parts]).unique())

    @property
    def candidates(self) -> int | None:
        return max(len(part.soft) for part in self.parts if part.soft) + 1 if self.soft else None

    @cached_property
    def content(self) -> str:
        """A digest of all that was fitted."""
        packed = [part.packed() for part in self.parts]
        return Identity.of([[tensors, record["texts"]] for tensors, record in packed]).digest

    def record(self) -> dict[str, Any]:
        stated = {} if self.entropy is None else {"entropy": self.entropy}
        return {"marginal": self.label, "content": self.content, **stated}

    @property
    def note(self) -> Finding:
        """What a reader should be told."""
        most = max(len(part.soft) for part in self.parts if part.soft) if self.soft else 0
        what = f"a mixture of {most} prompts" if self.soft else "the null branch"
        return Finding(
            f"against {what}, fitted to {self.images} other images: an upper estimate as far as the conditional branch is right. Hold it "
            "against the bound of candidates, which is valid whatever the network (Sandwich)",
            "fitted",
        )

    def check(self, pairs: ImagePairs) -> None:
        if pairs.given is not None:
            raise ValueError("given= belongs to the null prompt; a fitted marginal is of whole prompts")
        if self.soft and any(isinstance(prompt, Masked) for prompt in pairs.prompts):
            raise ValueError("masked prompts are not compared with fitted ones; give whole prompts")
        marks = picture_marks(pairs.digests)
        _ = self._unseen(torch.stack([torch.isin(marks, part.pictures) for part in self.parts]))

    def measure(self, bench: MarginalBench, pairs: ImagePairs, plan: Plan) -> Estimate:
        own = cast(Bench, bench)
        self.check_model(own.weights.digest)
        marks = torch.cat([row_marks(x) for _, x in own.chunks(pairs.images, plan)])
        which = self._unseen(torch.stack([torch.isin(marks, part.rows) for part in self.parts]))
        found: list[Estimate] = []
        said: list[str] = [] if (absent := self._absent(which, pairs)) is None else [absent]
        for number in which.unique().tolist():
            part, places = self.parts[number], (which == number).nonzero()[:, 0].tolist()
            with nullcontext() if part.tuned is None else part.tuned.on(own.weights.networks()):
                found.append(self._against(own, part, pairs.rows(places), plan))
        merged = Estimate.merge(found)
        order = [int((merged.pair_ids == pair).nonzero()) for pair in pairs.ids.tolist()]
        return replace(
            merged,
            curve=merged.curve.rows(order),
            ceiling=ceiling_of(self.entropy, len(pairs)),
            notes=tuple(dict.fromkeys((*merged.notes, *pairs.notes, *said, self.note))),
        )

    def _unseen(self, seen: Tensor) -> Tensor:
        """`(N,)` the first part that each image had no say in, of `(parts, N)` whether it had.

        Raises:
            ValueError: for an image that all parts were fitted to.
        """
        flattered = int(seen.all(0).sum())
        if flattered:
            raise ValueError(
                f"{flattered} of {seen.shape[1]} images are among the {self.images} that the marginal was fitted to, which would flatter it; "
                "measure others, or fit with folds=5, so that each is measured by what was fitted to the others"
            )
        return seen.int().argmin(0)

    def _absent(self, which: Tensor, pairs: ImagePairs) -> Finding | None:
        """What to say of prompts that the other pairs did not have, if these stand for themselves in the mixture."""
        kept = [set(part.soft.texts) if part.soft is not None and part.soft.texts else None for part in self.parts]
        missing = 0
        for number, prompt in zip(which.tolist(), pairs.prompts, strict=True):
            own = kept[number]
            missing += own is not None and str(prompt) not in own
        if not missing:
            return None
        return Finding(
            f"{missing} of {len(pairs)} prompts are not among those that the marginal was fitted to, so that it holds them for impossible, and their "
            "information reads too high: fit to more pairs, or fewer soft prompts than there are different ones",
            "prompts",
        )

    def check_model(self, weights: str | None) -> None:
        """Raise a ValueError for a model with other weights than it was fitted with."""
        theirs = self.details["model"].get("weights")
        if theirs is not None and weights is not None and theirs != weights:
            raise ValueError(
                f"this marginal was fitted with {shown(self.details['model'].get('model'))}, whose weights are not those of this model; expected "
                "the same model in the same dtype, or a new pipe.fit"
            )

    def _against(self, bench: Bench, part: Part, pairs: ImagePairs, plan: Plan) -> Estimate:
        said = {"marginal": self.label, "fitted_to": self.images}
        if part.soft is None:
            told = replace(bench, settings={**bench.settings, "base": "a null branch that was fitted", **said})
            return told.against_null(replace(pairs, notes=()), plan)
        curve = follow(bench, part.soft, pairs, plan)
        assert curve.mixture is not None
        settings = {**bench.path_settings(plan, curve.logsnr), "base": "a mixture of fitted prompts", **said}
        return Estimate(curve.mixture, plan.integrand, settings, notes=of_unknown_candidates(curve))

    # ---- files ----

    def save(self, folder: str | Path) -> Path:
        """Write all of it to a folder, by safetensors, with a copy of the record for people."""
        folder = file_path(folder, "the folder of the fitted marginal")
        folder.mkdir(parents=True, exist_ok=True)
        packed = [part.packed() for part in self.parts]
        tensors = {name: value for k, (held, _) in enumerate(packed) for name, value in prefixed(str(k), held).items()}
        record = {**self.details, "parts": [one for _, one in packed]}
        write_whole(folder / ADAPTER, pack(tensors, {**record, "format": FORMAT}))
        brief = {**self.details, "format": FORMAT, "images": self.images, "content": self.content}
        write_whole(folder / CONFIG, json.dumps(brief, indent=2).encode())
        return folder

    def __repr__(self) -> str:
        return f"Fitted({self})"

    def __str__(self) -> str:
        part = self.parts[0]
        said = []
        if part.soft is not None:
            said.append(f"{len(part.soft)} {'prompts of the data' if part.soft.texts else 'soft prompts'}")
        if part.tuned is not None:
            said.append(str(part.tuned))
        folds = f", in {len(self.parts)} folds" if len(self.parts) > 1 else ""
        return f"{' and '.join(said)}, fitted to {self.images} images{folds}"


def follow(bench: Bench, soft: SoftPrompts, pairs: ImagePairs, plan: Plan) -> CandidateCurve:
    """Follow the true prompt of every image, slot 0, and the fitted ones, in whose mixture it has no part, along one noise path.

    Raises:
        ValueError: for a plan that does not fit the model or so many prompts.
    """
    count, path, parts = len(soft), plan.path(), list[CandidateCurve]()
    with bench.bar(len(pairs) * (path.quadrature.nodes - 1) * path.draws, "fitted") as bar:
        for rows, x in bench.chunks(pairs.images, plan):
            own = torch.arange(len(x))[:, None]
            slots = torch.cat([own, (len(x) + torch.arange(count)).expand(len(x), -1)], 1)
            prior = torch.cat([torch.full((1,), _NOBODY, dtype=torch.float64), soft.probability])
            parts.append(
                measure_candidates(
                    bench.denoiser,
                    Pairs.of(x, pairs.ids[rows]),
                    _told(bench, list(pairs.prompts[rows]), soft),
                    path,
                    slots=slots,
                    truth=torch.zeros(len(x), dtype=torch.int64),
                    prior=prior.expand(len(x), -1),
                    seed=plan.seed,
                    batch_size=plan.batch_size,
                    keep=plan.keep,
                    progress=bar.update,
                )
            )
    return CandidateCurve.merge(parts)


def _told(bench: Bench, true: list[Prompt], soft: SoftPrompts) -> dict[str, Tensor]:
    """What the network is told at the true prompts, then at the fitted ones."""
    if soft.vectors is None:
        texts = (
            list(soft.texts) if bench.encoder.codec.classes is None else as_prompts([int(text) for text in soft.texts])
        )
        return bench.encoder.condition([*true, *texts])
    own = bench.encoder.condition(true)
    there = {key: value.to(own[key].device) for key, value in soft.vectors.items()}
    rows = [
        {key: value[k : k + 1] for key, value in one.items()}
        for one in (own, there)
        for k in range(len(next(iter(one.values()))))
    ]
    return stack(rows)


class FittingModel(LikelihoodModel):
    """A pipeline whose marginal can be fitted to data."""

    def fit(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt] | None = None,
        *,
        plan: FitPlan | None = None,
        folds: int | None = None,
        folder: str | Path | None = None,
        resize: bool = False,
        progress: bool = True,
    ) -> Fitted:
        """Fit what stands for no prompt to data of the user's own, so that it is *their* marginal; the pipeline stays as it is.

        ``pipe(other_images, other_prompts, marginal=pipe.fit(images, prompts))``.

        Args:
            images: hundreds, of the law that will be measured, and none that will be measured unless there are folds.
            prompts: one for each; ``None`` tunes the network's own null to the images alone, by low-rank additions.
            plan: how, see `FitPlan`.
            folds: of the plan: with 5, say, each image may be measured, by what was fitted to the four other fifths.
            folder: to save to.
            resize: bring images to the model's own size.
            progress: whether bars are shown.

        Raises:
            ValueError: for a guidance-distilled model, too few images, prompts that are all the same, and as a measurement does.
            OSError: for a folder that cannot be written to, before anything is fitted.
        """
        check_tunable(self, prompts is not None)
        chosen = _default(self, prompts is not None) if plan is None else plan
        of_type(chosen, FitPlan, "plan", "FitPlan(...)")
        if folds is not None:
            chosen = replace(chosen, folds=whole(folds, "folds", 1))
        if folder is not None:
            check_writable(file_path(folder, "the folder of the fitted marginal"))
        with self.ready() as bench:
            data, texts, pictures = encode(
                bench, images, prompts, resize, lambda different: check_enough(different, chosen)
            )
            described = self.describe()
            model = {name: described.get(name) for name in ("model", "revision", "pipeline")}
            parts = fit_branches(
                self.denoiser,
                networks_of(self),
                data,
                texts,
                chosen,
                model={**model, "weights": self.fingerprint()},
                progress=progress,
            )
        record = {
            "model": {**model, "weights": self.fingerprint()},
            "data": str(data.identity()),
            "prompts": len(texts),
            "plan": chosen.record(),
        }
        known = [replace(part, pictures=pictures[torch.isin(data.marks, part.rows)].unique()) for part in parts]
        made = Fitted.of(known, record)
        if folder is not None:
            made.save(folder)
        return made


def _default(model: LikelihoodModel, told: bool) -> FitPlan:
    return FitPlan() if told else FitPlan(soft=None, branches=TunePlan(branches="marginal"))
