"""A pipeline's branches tuned to images of the user's own, with their prompts or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.adapters.base import Null
from mmg_diffusers.pipelines.bench import Bench
from mmg_diffusers.pipelines.encoding import one_each
from mmg_diffusers.pipelines.model import PipelineModel
from mmg_diffusers.tuning.branches import Encoded
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.tuned import Tuned
from mmg_diffusers.tuning.tuner import tune

CHECKPOINT = "checkpoint.safetensors"


def tune_pipeline(
    model: PipelineModel,
    images: VideoLike | Sequence[VideoLike],
    prompts: Prompt | Sequence[Prompt] | None = None,
    plan: TunePlan | None = None,
    *,
    folder: str | Path | None = None,
    resize: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Tuned:
    """Tune a pipeline's branches to images, so that they are those of *their* law; the pipeline is as before when it returns.

    The objective by default is what log p is the integral of (arXiv 2302.03792). `carrying` puts the weights on::

        tuned = tune_pipeline(pipe, images, prompts, folder="runs/tuned")
        with carrying(pipe, tuned):
            pipe.log_likelihood(other_images)

    Args:
        model: an `MMGPipeline`, on the device that it is to be tuned on.
        images: what it is tuned to: hundreds, of the law that will be measured, and none that will be measured.
        prompts: one for each, or one for all; ``None`` tunes the unconditional branch alone.
        plan: how. By default low-rank additions, of both branches if there are prompts and an unconditional branch.
        folder: for the weights, see `Tuned.save`, and for a checkpoint that the same call goes on from.
        resize: bring images to the model's own size.
        accelerator: the processes; those of the launch by default.
        progress: whether a bar is shown.

    Raises:
        ValueError: for a guidance-distilled model, branches that the model does not have, too few images, and as a measurement
            does; before the training begins.
    """
    check_tunable(model, prompts is not None)
    plan = _default(model, prompts is not None) if plan is None else plan
    of_type(plan, TunePlan, "plan", "TunePlan(...)")
    if prompts is None and plan.branches != "marginal":
        raise ValueError(f"branches is {shown(plan.branches)} without prompts; give these, or tune 'marginal' alone")
    if plan.branches != "conditional" and not (model.family.nulls() or not model.family.conditional):
        raise ValueError(
            f"branches is {shown(plan.branches)}, and this {model.family.name} has no unconditional branch; expected 'conditional'"
        )
    with model.ready() as bench:
        told = prompts if plan.branches != "marginal" else None
        data, *_ = encode(bench, images, told, resize)
        checkpoint = None if folder is None else Path(folder) / CHECKPOINT
        tuned = tune(
            model.denoiser,
            networks_of(model),
            data,
            plan,
            model={"pipeline": type(model.pipe).__name__, "weights": model.fingerprint()},
            checkpoint=checkpoint,
            accelerator=accelerator,
            progress=progress,
        )
    if folder is not None:
        tuned.save(folder)
    return tuned


def check_tunable(model: PipelineModel, told: bool) -> None:
    """Find out whether a model goes on from its training, with prompts if it is told some.

    Raises:
        ValueError: if it is guidance-distilled, or is told none.
    """
    sign = model.family.distillation()
    if sign is not None:
        raise ValueError(
            f"the model is guidance-distilled ({sign}): it does not denoise what it was trained on, so that no objective of "
            "denoising goes on from it; tune the model that it was distilled from"
        )
    if told and not model.family.conditional:
        raise ValueError(f"got prompts, and this {model.family.name} is told none; leave them out")


def encode(
    bench: Bench,
    images: VideoLike | Sequence[VideoLike],
    prompts: Prompt | Sequence[Prompt] | None,
    resize: bool,
    check: Callable[[int], None] = lambda _: None,
) -> tuple[Encoded, list[str], Tensor]:
    """Images, and prompts if there are any, as the networks see them, with the different prompts, and `(N,)` marks of the pictures.

    Args:
        bench: of the model.
        images, prompts, resize: as in `tune_pipeline`.
        check: called with the number of different pictures, before a network runs.

    Raises:
        ValueError: as a measurement does.
    """
    pictures = bench.encoder.check_images(images, resize)
    check(len(set(pictures.digests)))
    texts: list[Prompt] | None = None
    if prompts is not None:
        texts = one_each(prompts, len(pictures), "prompts", bench.encoder.codec.medium.noun)
        bench.encoder.check_prompts(texts)
    x = torch.cat([part.cpu() for _, part in bench.encoder.images(list(pictures), resize)]).clone()
    marks = picture_marks(pictures.digests)
    if texts is None:
        return Encoded(x), [], marks
    different = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(different)}
    asked: list[Prompt | Null] = list(different)
    conditions = {key: value.clone() for key, value in bench.encoder.condition(asked).items()}
    which = torch.tensor([place[text] for text in texts])
    return Encoded(x, conditions, which), [str(text) for text in different], marks


def picture_marks(digests: Sequence[str]) -> Tensor:
    """`(N,)` int64: the first 8 bytes of the digests of pictures."""
    marks = [int.from_bytes(bytes.fromhex(digest[:16]), "little", signed=True) for digest in digests]
    return torch.tensor(marks, dtype=torch.int64)


@contextmanager
def carrying(model: PipelineModel, tuned: Tuned) -> Iterator[PipelineModel]:
    """Let a pipeline's networks carry tuned weights; afterwards they are as before.

    Raises:
        ValueError: for weights that were tuned from other ones than the pipeline has.
    """
    of_type(tuned, Tuned, "tuned", "what tune_pipeline returned, or Tuned.load(folder)")
    theirs, ours = tuned.record["model"].get("weights"), model.fingerprint()
    if theirs is not None and ours is not None and theirs != ours:
        raise ValueError(
            "these weights were tuned from another model, or from this one before it was changed; expected the weights that it "
            "was tuned from"
        )
    with tuned.on(networks_of(model)):
        yield model


def networks_of(model: PipelineModel) -> dict[str, nn.Module]:
    """The networks that denoise, by what the pipeline calls them."""
    return model.family.named_networks()


def encoded(model: PipelineModel, images: VideoLike | Sequence[VideoLike], resize: bool = False) -> Tensor:
    """Images as the network sees them, `(N, *event)`; for `Tuned.check_unseen`."""
    with model.ready() as bench:
        pictures = bench.encoder.check_images(images, resize)
        return torch.cat([part.cpu() for _, part in bench.encoder.images(list(pictures), resize)])


def _default(model: PipelineModel, told: bool) -> TunePlan:
    has_null = bool(model.family.nulls())
    return TunePlan(branches=("both" if has_null else "conditional") if told else "marginal")
