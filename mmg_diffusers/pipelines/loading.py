"""Pipeline folders of diffusers, loaded with suspicion: safetensors only, whole, and without running any code of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmg_diffusers.checks import file_path, of_type
from mmg_diffusers.pipelines.adapters.base import find_adapter

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CONVERT = (
    " Only safetensors weights are read: convert .bin or .pt weights, where you trust their source, with "
    "save_pretrained(..., safe_serialization=True)."
)
# Components that no measurement uses, with what else their absence asks for.
UNUSED: dict[str, dict[str, Any]] = {
    "safety_checker": {"safety_checker": None, "requires_safety_checker": False},
    "feature_extractor": {"feature_extractor": None},
    "image_encoder": {"image_encoder": None},
}


def load_pipeline(
    name_or_path: str | Path,
    *,
    torch_dtype: torch.dtype | None = None,
    variant: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> DiffusionPipeline:
    """Load a pipeline folder, or one from the hub.

    Args:
        name_or_path: a folder in diffusers' format, or an id on the hub.
        torch_dtype: dtype of the networks, float32 by default.
        variant, revision, cache_dir, local_files_only, token: as in ``DiffusionPipeline.from_pretrained``.

    Raises:
        TypeError: for what is no path, or no floating-point dtype.
        ValueError: when the folder is no pipeline, has no adapter, or has weights that are not safetensors or not whole.
    """
    place, path = file_path(name_or_path, "the model"), str(name_or_path)
    if torch_dtype is not None:
        check_dtype(torch_dtype, "torch_dtype")
    if not path or (place.exists() and not (place / "model_index.json").is_file()):
        raise ValueError(
            f"{path!r} is no pipeline folder: it has no model_index.json. Give the folder that save_pretrained wrote, not "
            "one of its parts; a single-file checkpoint has to be converted first (from_single_file, save_pretrained)."
        )
    if not place.exists() and (place.is_absolute() or len(place.parts) > 2 or path.startswith((".", "~"))):
        raise ValueError(f"cannot find a pipeline at {path!r}: there is no such folder, and it is no id on the hub")

    from diffusers import DiffusionPipeline

    where: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    # A bad file makes the libraries beneath stumble wherever they happen to, over errors of any kind.
    try:
        config: Any = DiffusionPipeline.load_config(path, **where)
    except Exception as error:
        if place.exists():
            raise ValueError(f"cannot read the model_index.json of {path!r} ({error})") from error
        raise ValueError(
            f"cannot find a pipeline at {path!r}: no such folder, nor an id on the hub ({error})"
        ) from error
    if not isinstance(config, dict) or "_class_name" not in config:
        raise ValueError(f"the model_index.json of {path!r} names no pipeline class; it is damaged or of another kind")
    find_adapter([config["_class_name"]])
    extra: dict[str, Any] = {}
    for name, absent in UNUSED.items():
        if name in config:
            extra |= absent
    try:
        pipe = DiffusionPipeline.from_pretrained(
            path, dtype=torch_dtype or torch.float32, variant=variant, use_safetensors=True, **where, **extra
        )
    except Exception as error:
        pickled = "safetensors" in str(error)  # then weights were looked for, and not found in that form
        raise ValueError(f"cannot load {path!r} ({error}).{_CONVERT if pickled else ''}") from error
    lacking = _lacking(pipe)
    if lacking:
        raise ValueError(
            f"the weights in {path!r} lack {lacking[0]} ({len(lacking)} in all), which would stay as they were drawn at "
            "random; the files are incomplete, or of another version: get them again"
        )
    broken = [name for name, weight in _weights(pipe) if not bool(weight.isfinite().all())]
    if broken:
        raise ValueError(
            f"the weights in {path!r} have NaN or infinite values in {broken[0]} ({len(broken)} tensors in all): the training "
            "run diverged, or the dtype is too narrow for them; get others, or load them as torch.float32"
        )
    return pipe


def check_dtype(dtype: torch.dtype, name: str) -> None:
    """Raise a TypeError for what is no floating-point dtype."""
    of_type(dtype, torch.dtype, name, "a dtype of torch, such as torch.float16")
    if not dtype.is_floating_point:
        raise TypeError(f"{name} is {dtype}; expected floating point, such as torch.float16")


def check_device(device: torch.device | str) -> None:
    """Raise a ValueError for a device that is not there."""
    try:
        torch.empty(1, device=device)
    except Exception as error:  # of a kind that depends on the device
        raise ValueError(f"cannot use the device {str(device)!r} ({error}); expected cpu, cuda or mps") from error


def _weights(pipe: DiffusionPipeline) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            for name, weight in module.named_parameters():
                yield f"{part}.{name}", weight


def _lacking(pipe: DiffusionPipeline) -> list[str]:
    """Names of weights that the files of a pipeline that was just loaded did not hold."""
    from transformers import PreTrainedModel

    weights = dict(_weights(pipe))
    # diffusers leaves them without storage; transformers draws them, all of a part as well, and marks those that it did load.
    loaded = {name for name, weight in weights.items() if getattr(weight, "_is_hf_initialized", False)}
    marking = {part for part, module in pipe.components.items() if isinstance(module, PreTrainedModel)}
    return [
        name
        for name, weight in weights.items()
        if weight.is_meta or (name.split(".")[0] in marking and name not in loaded)
    ]
