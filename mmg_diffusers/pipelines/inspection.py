"""What a model is, as far as its configs tell: what can be measured of it, and why the rest can not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmg_diffusers.checks import Brief, reason
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.denoisers.predictions import TARGETS
from mmg_diffusers.pipelines.adapters import Family, family_of, find_family
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES
from mmg_diffusers.pipelines.loading import UNUSED, Where, load_pipeline, read_index

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from typing_extensions import Unpack

MEASURES = ("information by the null prompt", "candidates", "likelihood", "maps")
"""What may be measured of a model."""
# Entries of records that are facts of their own here.
_SAID = ("family", "null", "flow_shift", "told_time", "unconditional_branch", "variable", "frames", "dtype")


@dataclass(frozen=True, repr=False)
class Inspection(Brief):
    """What was found in a model.

    Args:
        facts: by name, in words; what the configs do not tell says so.
        refusal: why it cannot be measured, and what still works; ``None`` if it can.
        measures: those of `MEASURES`, each with the reason why it is not open, or from where on it is, or ``None``.
    """

    facts: Mapping[str, str]
    refusal: str | None
    measures: Mapping[str, str | None]

    def rows(self) -> dict[str, str]:
        """All of it, by name, in words."""
        said = dict(self.facts)
        if self.refusal is not None:
            said["refused"] = self.refusal
        return said | {name: _open(why) for name, why in self.measures.items()}


def _open(why: str | None) -> str:
    return "open" if why is None else why if why.startswith("open, ") else f"not open: {why}"


def inspect_model(
    name_or_path: str | Path,
    *,
    null: str | None = None,
    torch_dtype: torch.dtype | None = None,
    variant: str | None = None,
    **where: Unpack[Where],
) -> Inspection:
    """Inspect a pipeline folder, or one on the hub. No network is run.

    A model that cannot be measured is no error: the inspection says why, and what still works.

    Args:
        name_or_path: a folder in diffusers' format, or an id on the hub.
        null: what is to stand for no prompt, see `MMGPipeline`.
        torch_dtype, variant, where: as in ``MMGPipeline.from_pretrained``.

    Raises:
        TypeError, ValueError, ConnectionError: as ``MMGPipeline.from_pretrained`` does, for what is no pipeline or cannot be read.
    """
    index = read_index(name_or_path, **where)
    try:
        find_family([index["_class_name"]])
    except ValueError as error:
        return _of_index(index, str(error))
    pipe = load_pipeline(name_or_path, torch_dtype=torch_dtype, variant=variant, **where)
    return inspect_pipeline(pipe, null=null)


def _of_index(index: Mapping[str, Any], why: str) -> Inspection:
    """Of a pipeline whose class has no adapter: what its index tells."""
    parts = {name: part[1] for name, part in index.items() if isinstance(part, (list, tuple)) and len(part) == 2}
    facts = {
        "pipeline": str(index["_class_name"]),
        "parts": ", ".join(f"{name} ({kind})" for name, kind in parts.items() if isinstance(kind, str)) or "none",
    }
    return Inspection(facts, why, dict.fromkeys(MEASURES, "refused"))


def inspect_pipeline(pipe: DiffusionPipeline, *, null: str | None = None) -> Inspection:
    """Inspect a pipeline in memory; see `inspect_model`.

    Raises:
        ValueError: for a pipeline of another kind than those that there are adapters for.
    """
    family = family_of(pipe, null)
    refusal = _refusal(family)
    codec = family.codec()
    said: dict[str, Callable[[], object]] = {
        "pipeline": lambda: type(pipe).__name__,
        "family": lambda: family.name,
        "network": lambda: ", ".join(map(_network, family.networks())),
        "prediction": lambda: _prediction(family),
        "levels": lambda: _levels(family.convention()),
        "range": lambda: "log-SNR {:.3f} to {:.3f}".format(*family.convention().logsnr_range),
        "told time": lambda: _told(family),
        "null": lambda: "; ".join(f"{kind}: {words}" for kind, words in _nulls(family).items()) or "none",
        "trained without a prompt": family.null_training,
        "guidance-distilled": lambda: _distillation(family),
        **{name: _entry(codec.describe, name) for name in ("variable", "latent_shape")},
        "scaling": lambda: _scaling(codec.describe()),
        "native size": lambda: "{} x {} pixels".format(*codec.native_size),
        "frames": lambda: codec.describe().get("frames", "a still image"),
        "text encoders": lambda: ", ".join(f"{n} ({kind})" for n, kind in codec.text_encoders().items()) or "none",
        "prompt limit": lambda: _limit(codec.limits()),
        **{name: _entry(lambda: {**family.describe(), **codec.describe()}, name) for name in _further(family)},
        "missing": lambda: _missing(pipe),
        "notes": lambda: "; ".join(family.convention().notes) or "none",
    }
    facts = {name.replace("_", " "): _or_unknown(value) for name, value in said.items()}
    return Inspection(facts, refusal, _measures(family, refusal))


def _further(family: Family) -> list[str]:
    """What records of this family say beside what all say: sizes that are told, instructions before prompts."""
    try:
        said = [*family.describe(), *family.codec().describe()]
    except Exception:
        return []
    return [name for name in said if name not in _SAID and not name.startswith("latent_")]


def _or_unknown(value: Callable[[], object]) -> str:
    # A model that is refused may lack a part or an entry of a config, and errors are of any kind then.
    try:
        return str(value())
    except Exception as error:
        return f"not known ({reason(error)})"


def _refusal(family: Family) -> str | None:
    try:
        family.check()
        family.convention()
    except ValueError as error:
        return str(error)
    except Exception as error:
        return f"its parts do not fit each other ({reason(error)})"
    return None


def _entry(describe: Callable[[], Mapping[str, Any]], name: str) -> Callable[[], object]:
    return lambda: describe()[name]


def _network(network: torch.nn.Module) -> str:
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{type(network).__name__}, {count / 1e6:,.1f} million weights, {getattr(network, 'dtype', 'no dtype')}"


def _prediction(family: Family) -> str:
    name = family.convention().prediction
    learned = "; its second half of channels is a variance, and is left out" if family.learned_variance else ""
    return f"{name}: {TARGETS[name]}{learned}"


def _levels(convention: Convention) -> str:
    levels, shift = getattr(convention, "levels", None), getattr(convention, "shift", 1.0)
    moved = "" if shift == 1 else f", shift {shift:.6g}"
    return f"{'any' if levels is None else len(levels)} ({type(convention).__name__}{moved})"


def _told(family: Family) -> str:
    convention, more = family.convention(), family.describe().get("told_time")
    low, high = convention.c_noise(torch.tensor(convention.logsnr_range, dtype=torch.float64)).tolist()
    said = f"{convention.told_as}: {low:.6g} at the noisy end, {high:.6g} at the clean one"
    return said if more is None else f"{said}; but {more}"


def _nulls(family: Family) -> dict[str, str]:
    """The kinds there are, that which is chosen first."""
    nulls = dict(family.nulls())
    first = family.chosen if family.chosen in nulls else next(iter(nulls), None)
    return {} if first is None else {first: nulls[first], **nulls}


def _distillation(family: Family) -> str:
    why = family.distillation()
    if why is not None:
        return f"yes: {why}"
    scheduler = type(family.pipe.scheduler).__name__
    return f"nothing says so: not its network's config, not its scheduler ({scheduler}), not its name"


def _scaling(said: Mapping[str, Any]) -> str:
    names = {"latent_shift": "shift", "latent_mean": "mean", "latent_std": "deviation", "latent_scaling": "factor"}
    return ", ".join(f"{word} {said[name]}" for name, word in names.items() if name in said) or "none"


def _limit(limits: Mapping[str, int]) -> str:
    return ", ".join(f"{most} tokens ({name})" for name, most in limits.items()) or "none"


def _missing(pipe: Any) -> str:
    there = pipe.components
    return ", ".join(name for name, part in there.items() if part is None and name not in UNUSED) or "nothing"


def _measures(family: Family, refusal: str | None) -> dict[str, str | None]:
    if refusal is not None:
        works = f"refused by MMGPipeline; {CANDIDATES}, on a denoiser made with `Adapted`"
        distilled = _answer(family.distillation)
        return {**dict.fromkeys(MEASURES, "refused"), "candidates": works if distilled else "refused"}
    if not family.conditional:
        alone = "the network is unconditional: there is nothing that a prompt could say to it"
        return {**dict.fromkeys(MEASURES, alone), "likelihood": None}
    if not family.nulls():
        none = "it has no unconditional branch"
        return {
            "information by the null prompt": f"{none}; {CANDIDATES}",
            "candidates": None,
            "likelihood": f"open, given a prompt alone: {none}",
            "maps": f"open, against candidates alone: {none}",
        }
    return dict.fromkeys(MEASURES)


def _answer(question: Callable[[], str | None]) -> str | None:
    """What a family answers to a question; nothing if it lacks a part that is asked about."""
    try:
        return question()
    except Exception:
        return None
