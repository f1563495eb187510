"""Pipeline folders of diffusers, loaded with suspicion: safetensors only, whole, and without running any code of theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from mmg_diffusers.checks import file_path, of_type, reason, shown
from mmg_diffusers.internals import came_from_file
from mmg_diffusers.pipelines.adapters.registry import find_family
from mmg_diffusers.pipelines.shipped import SHIPPED

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from typing_extensions import Unpack

_INDEX = "model_index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# What tells the parts of weights that are split into several files, before or after a variant.
_VARIANT = re.compile(r"-\d{5}-of-\d{5}")
# Tokens that a tokenizer of transformers has of itself, beside special ones: a space.
_FEWEST = 2
# Components that no measurement uses, with what else their absence asks for.
UNUSED: dict[str, dict[str, Any]] = {
    "safety_checker": {"safety_checker": None, "requires_safety_checker": False},
    "feature_extractor": {"feature_extractor": None},
    "image_encoder": {"image_encoder": None},
}


class Where(TypedDict, total=False):
    """Where on the hub, and for whom, as in ``DiffusionPipeline.from_pretrained``."""

    revision: str | None
    cache_dir: str | Path | None
    local_files_only: bool
    token: str | None


def read_index(name_or_path: str | Path, **where: Unpack[Where]) -> dict[str, Any]:
    """Read the ``model_index.json`` of a pipeline folder, or of one on the hub: its class and its parts.

    Raises:
        TypeError, ValueError, ConnectionError: as `load_pipeline` does, but for what may be wrong with parts and weights.
    """
    place, path = file_path(name_or_path, "the model"), str(name_or_path)
    there = os.path.exists(path)  # False, too, for what can be no path
    if not path or (there and not (place / _INDEX).is_file()):
        raise ValueError(
            f"{shown(path)} is no pipeline folder: it has no model_index.json. Give the folder that save_pretrained wrote, not "
            "one of its parts; a single-file checkpoint has to be converted first (from_single_file, save_pretrained)."
        )
    if not there:
        _check_id(place, path)

    from diffusers import DiffusionPipeline

    if not there:
        _check_hub(path, where)
    # A bad file makes the libraries beneath stumble wherever they happen to, over errors of any kind.
    try:
        config: Any = DiffusionPipeline.load_config(path, **where)
    except Exception as error:
        raise ValueError(f"cannot read the {_INDEX} of {shown(path)} ({reason(error)})") from error
    if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
        raise ValueError(f"the {_INDEX} of {shown(path)} names no pipeline class; it is damaged or of another kind")
    return config


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
        TypeError: for anything but a path, or a floating-point dtype.
        ValueError: when the folder is no pipeline, has no adapter, or has weights that are not safetensors or not whole; when
            there is no such folder, nor such an id on the hub.
        ConnectionError: when the hub cannot be reached, and the pipeline is not in the cache.
    """
    path = str(name_or_path)
    if torch_dtype is not None:
        check_dtype(torch_dtype, "torch_dtype")

    from diffusers import DiffusionPipeline

    where: Where = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    config = read_index(name_or_path, **where)
    find_family([config["_class_name"]])
    folder = Path(path) if os.path.exists(path) else None
    # Of parts that a folder says it has none of, diffusers asks for some all the same, unless it is given None.
    extra: dict[str, Any] = {name: None for name, part in config.items() if part == [None, None]}
    for name, absent in UNUSED.items():
        if name in config:
            extra |= absent
    if folder is not None:
        _check_parts(folder, config, extra)
    try:
        pipe = DiffusionPipeline.from_pretrained(
            path, dtype=torch_dtype or torch.float32, variant=variant, use_safetensors=True, **where, **extra
        )
    except Exception as error:
        raise ValueError(
            f"cannot load {shown(path)} ({reason(error)}).{_about_files(folder, variant, error)}"
        ) from error
    wordless = [name for name, part in pipe.components.items() if _wordless(part)]
    if wordless:
        raise ValueError(
            f"the {wordless[0]} in {shown(path)} knows no words: the files of its vocabulary are missing, and every prompt would read "
            "the same; get them again"
        )
    lacking = _lacking(pipe)
    if lacking:
        raise ValueError(
            f"the weights in {shown(path)} lack {lacking[0]} ({len(lacking)} in all), which would stay as they were drawn at "
            "random; the files are incomplete, or of another version: get them again"
        )
    broken = [name for name, weight in _weights(pipe) if not bool(weight.isfinite().all())]
    if broken:
        raise ValueError(
            f"the weights in {shown(path)} have NaN or infinite values in {broken[0]} ({len(broken)} tensors in all): the training "
            "run diverged, or the dtype is too narrow for them; get others, or load them as torch.float32"
        )
    return pipe


def _check_parts(folder: Path, index: Mapping[str, Any], passed: Mapping[str, Any]) -> None:
    """Refuse a folder without a part that its index names: the libraries beneath make some of them, tokenizers above all, of nothing.

    Raises:
        ValueError: says which.
    """
    named = [name for name, part in index.items() if isinstance(part, (list, tuple)) and len(part) == 2]
    absent = [name for name in named if isinstance(index[name][1], str) and name not in passed]
    absent = [name for name in absent if not (folder / name).is_dir()]
    if absent:
        raise ValueError(
            f"{shown(str(folder))} has no folder {', '.join(absent)}, which its {_INDEX} names: the copy is not whole; get it again, or "
            f"name the part [null, null] there if the model works without it"
        )


def _wordless(part: object) -> bool:
    """Whether a component is a tokenizer that knows none but special tokens, as one is that was made without its files."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(part, PreTrainedTokenizerBase):
        return False
    tokenizer: Any = part
    known = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() - set(tokenizer.all_special_tokens)
    return len(known) <= _FEWEST


def _check_id(place: Path, path: str) -> None:
    """Refuse what can be no id on the hub, before anybody waits for the hub to say so.

    Raises:
        ValueError: says which names are near.
    """
    if place.is_absolute() or len(place.parts) > 2 or path.startswith((".", "~")):
        raise ValueError(
            f"cannot find a pipeline at {shown(path)}: there is no such folder, and it is no id on the hub"
        )
    if len(place.parts) < 2:
        near = get_close_matches(path.lower(), SHIPPED, 1)
        hint = (
            f"; did you mean {shown(near[0])}, a model that ships with the package (mmg_diffusers.shapes_model({shown(near[0])}))?"
            if near
            else ""
        )
        raise ValueError(
            f"cannot find a pipeline at {shown(path)}: there is no such folder, and an id on the hub is OWNER/NAME{hint}"
        )


def _check_hub(path: str, where: Where) -> None:
    """Ask the hub once for a pipeline that is in no folder, and say what it answers; one that is in the cache needs no hub.

    Raises:
        ValueError: for an id, revision or file that it does not have, or not for this user.
        ConnectionError: when it cannot be reached.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    start = f"cannot find a pipeline at {shown(path)}: there is no such folder, and"
    revision, cache_dir, token = where.get("revision"), where.get("cache_dir"), where.get("token")
    try:
        if isinstance(try_to_load_from_cache(path, _INDEX, cache_dir, revision), str):
            return
        if where.get("local_files_only"):
            raise ValueError(f"{start} none of this id in the cache, with local_files_only=True")
        get_hf_file_metadata(hf_hub_url(path, _INDEX, revision=revision), token=token)
    except hub.HFValidationError as error:
        raise ValueError(f"{start} it is no id on the hub ({reason(error)})") from error
    except hub.GatedRepoError as error:
        raise ValueError(
            f"{start} on the hub it is gated: ask for access on its page, and log in or pass token= ({reason(error)})"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise ValueError(f"{start} the hub has none that it shows this user ({reason(error)})") from error
    except hub.RevisionNotFoundError as error:
        raise ValueError(f"{start} on the hub it has no revision {shown(revision)} ({reason(error)})") from error
    except hub.EntryNotFoundError as error:
        raise ValueError(f"{start} on the hub it has no {_INDEX}, so that it is no pipeline of diffusers") from error
    except hub.OfflineModeIsEnabled as error:
        raise ConnectionError(f"{start} none of this id in the cache, while HF_HUB_OFFLINE is set") from error
    except hub.HfHubHTTPError as error:
        raise ConnectionError(f"{start} the hub gave no file of it ({reason(error)})") from error
    except ValueError:
        raise
    except Exception as error:  # of the library beneath that makes connections, which has changed
        raise ConnectionError(
            f"{start} none of this id in the cache, while the hub cannot be reached ({reason(error)})"
        ) from error


def _about_files(folder: Path | None, variant: str | None, error: Exception) -> str:
    """What the files of a folder say of the error: that its weights are of a variant alone, or pickled."""
    return _about_variants(folder, variant) or _about_pickles(folder, error)


def _about_variants(folder: Path | None, variant: str | None) -> str:
    """That a part's weights are there under the name of a variant alone, such as fp16, and how to ask for it."""
    if folder is None:
        return ""
    if variant is not None:
        there = {_VARIANT.sub("", path.name.removesuffix(".safetensors")) for path in folder.glob("*/*.safetensors")}
        kinds = sorted({name.partition(".")[2] for name in there if "." in name})
        if there and variant not in kinds:
            others = f"variants are {', '.join(kinds)}" if kinds else "its weights are of no variant"
            return (
                f" There is no variant {shown(variant)} in it, {others}: leave variant= out, or give one that is there."
            )
    for part in sorted({path.parent for path in folder.glob("*/*.safetensors")}):
        names = [path.name.removesuffix(".safetensors") for path in part.glob("*.safetensors")]
        kinds = {_VARIANT.sub("", name).partition(".")[2] for name in names}
        if variant is None and "" not in kinds:
            there = sorted(kinds)[0]
            return (
                f" {part.name} has weights of the variant {shown(there)} alone: load it with variant={shown(there)} (--variant {there} on "
                "the command line)."
            )
    return ""


def _about_pickles(folder: Path | None, error: Exception) -> str:
    """That a pipeline's weights are pickled: if the files are there, and not if they might be."""
    if folder is None:
        pickled = [word for part in str(error).split() if (word := part.strip("'\"`{},[]()")).endswith(_PICKLED)]
    else:
        there = [path for path in sorted(folder.glob("*/*")) if path.suffix in _PICKLED]
        pickled = [str(path.relative_to(folder)) for path in there if not list(path.parent.glob("*.safetensors"))]
    if not pickled:
        return ""
    return (
        f" Only safetensors weights are read, and {pickled[0]} is none: convert it, if you trust its source, with "
        "save_pretrained(..., safe_serialization=True)."
    )


def check_dtype(dtype: torch.dtype, name: str) -> None:
    """Refuse anything but a floating-point dtype.

    Raises:
        TypeError: which says what was passed.
    """
    of_type(dtype, torch.dtype, name, "a dtype of torch, such as torch.float16")
    if not dtype.is_floating_point:
        raise TypeError(f"{name} is {dtype}; expected floating point, such as torch.float16")


def check_device(device: torch.device | str) -> None:
    """Refuse a device that is not there.

    Raises:
        ValueError: with the reason.
    """
    try:
        torch.empty(1, device=device)
    except Exception as error:  # of a kind that depends on the device
        raise ValueError(
            f"cannot use the device {shown(str(device))} ({reason(error)}); expected cpu, cuda or mps"
        ) from error


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
    loaded = {name for name, weight in weights.items() if came_from_file(weight)}
    marking = {part for part, module in pipe.components.items() if isinstance(module, PreTrainedModel)}
    return [
        name
        for name, weight in weights.items()
        if weight.is_meta or (name.split(".")[0] in marking and name not in loaded)
    ]
