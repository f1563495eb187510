"""Which model a command runs and how it measures: options that all commands share, which import nothing heavy."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmg_diffusers.commands.early import check_arguments
from mmg_diffusers.commands.options import (
    Batch,
    Device,
    Draws,
    Dtype,
    High,
    Levels,
    Model,
    Null,
    Quiet,
    Resize,
    Revision,
    Seed,
    Variant,
)
from mmg_diffusers.commands.signature import HOW, MODEL

if TYPE_CHECKING:
    from mmg_diffusers.pairs.plan import Plan
    from mmg_diffusers.pipelines.pipeline import MMGPipeline


@dataclass(frozen=True)
class Networks:
    """Which model runs, and how.

    Args:
        model: a pipeline folder, an id on the hub, or the name of a model that ships, such as ``shapes``.
        device: the best there is, by default.
        dtype: of the networks, by its name.
        variant, revision: of the weights, on the hub.
        quiet: no progress bar.
        null: what stands for no prompt, if the family has more than one.
    """

    HEADING: ClassVar[str] = MODEL

    model: Model
    device: Device = None
    dtype: Dtype = "float32"
    variant: Variant = None
    revision: Revision = None
    quiet: Quiet = False
    null: Null = None

    @property
    def place(self) -> str | Path:
        """The folder, or the id on the hub."""
        from mmg_diffusers.pipelines.shipped import model_place

        return model_place(self.model)

    @property
    def silent(self) -> bool:
        """Whether bars are not shown: they were not asked for, or nobody would see them move."""
        return self.quiet or not sys.stderr.isatty()

    def loading(self) -> AbstractContextManager[None]:
        """While inside, bars of what is loaded are shown if bars are."""
        from mmg_diffusers.pipelines.progress import calm

        return calm(bars=not self.silent)

    def check(self, source: str | Path | None = None) -> None:
        """Refuse a model or a source that is not there, before anything heavy is imported.

        Raises:
            ValueError, OSError: as `check_arguments` does.
        """
        check_arguments(self.model, source, self.revision)

    def told(self, high: float | None = None) -> tuple[float, float] | None:
        """The log-SNRs that the model's configs tell of, before its weights are read; ``None`` if they do not tell.

        Args:
            high: the cleanest level that is asked for.

        Raises:
            ValueError: for a level, or a null, that the model does not have.
        """
        from mmg_diffusers.pipelines.outline import check_null, outline, range_of

        family = outline(self.place, null=self.null, revision=self.revision)
        check_null(family)
        ends = range_of(family)
        if high is not None and ends is not None:
            check_high(high, ends)
        return ends

    def load(self, high: float | None = None) -> MMGPipeline:
        """The pipeline, on its device.

        Args:
            high: the cleanest level that is asked for, which is refused before weights are read.

        Raises:
            ValueError, OSError: as `told`, `MMGPipeline.from_pretrained` and `MMGPipeline.to` do.
        """
        import torch

        from mmg_diffusers.commands.inputs import best_device
        from mmg_diffusers.pipelines.loading import check_device
        from mmg_diffusers.pipelines.pipeline import MMGPipeline

        device = self.device or best_device()
        check_device(device)
        if high is not None or self.null is not None:
            self.told(high)
        with self.loading():
            pipe = MMGPipeline.from_pretrained(
                self.place,
                torch_dtype=getattr(torch, self.dtype),
                variant=self.variant,
                revision=self.revision,
                null=self.null,
            )
        pipe.set_progress_bar_config(disable=self.silent)
        return pipe.to(device)


@dataclass(frozen=True)
class StudyNetworks(Networks):
    """The same, of studies, which look at the shipped model if they are not told another."""

    model: Model = "shapes"


@dataclass(frozen=True)
class Measuring:
    """How pairs are measured.

    Args:
        levels: of noise, or steps of the path of candidates.
        high: the cleanest log-SNR; by default the model's own.
        draws: of noise.
        seed: names the noise.
        resize: bring images to the model's size.
        batch_size: rows per forward pass.
    """

    HEADING: ClassVar[str] = HOW

    levels: Levels = None
    high: High = None
    draws: Draws = 1
    seed: Seed = 0
    resize: Resize = False
    batch_size: Batch = None

    def plan(self, **more: Any) -> Plan:
        """The plan, checked; its range is the model's own until `within` is told the model.

        Raises:
            ValueError, TypeError: for values that no measurement can have.
        """
        from mmg_diffusers.checks import finite
        from mmg_diffusers.pairs.plan import Plan

        if self.high is not None:
            finite(self.high, "--high")
        common = {name: getattr(self, name) for name in ("levels", "draws", "seed", "batch_size", "resize")}
        return Plan(**{**common, **more})


@dataclass(frozen=True)
class Comparing(Measuring):
    """The same, of two captions: one path of noise alone would leave no standard error."""

    draws: Draws = 2


def within(plan: Plan, high: float | None, pipe: MMGPipeline) -> Plan:
    """A plan that ends at a log-SNR of this model.

    Raises:
        ValueError: for one that the model was not trained on.
    """
    if high is None:
        return plan
    ends = pipe.denoiser.logsnr_range
    check_high(high, ends)
    return replace(plan, logsnr_range=(ends[0], high))


def check_high(high: float, ends: tuple[float, float]) -> None:
    """Refuse a highest level that a model was not trained on.

    Raises:
        ValueError: which says what there is.
    """
    low, top = ends
    if not low < high <= top:
        raise ValueError(
            f"--high is {high:g}; expected a log-SNR above {low:.2f}, and {top:.2f} at most, of this model"
        )
