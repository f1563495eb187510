"""A model as its configs alone tell of it, before its weights are read: its noise levels, and what may stand for no prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.registry import find_family
from mmg_diffusers.pipelines.loading import Where, read_index

if TYPE_CHECKING:
    from typing_extensions import Unpack

# What parts call their configs.
_CONFIGS = ("config.json", "scheduler_config.json")


def outline(name_or_path: str | Path, *, null: str | None = None, **where: Unpack[Where]) -> Family | None:
    """A family around configs alone: it knows `convention` and `nulls`, as far as they are a matter of configs, and no network.

    Args:
        name_or_path: a folder in diffusers' format, or an id on the hub.
        null: what is to stand for no prompt.
        where: as ``MMGPipeline.from_pretrained`` takes it.

    Returns:
        the family; ``None`` for a class that has none, or whose scheduler is not one of diffusers.

    Raises:
        TypeError, ValueError, ConnectionError: as `read_index` does.
    """
    from diffusers.configuration_utils import FrozenDict

    index = read_index(name_or_path, **where)
    try:
        family = find_family([index["_class_name"]])
        named = {name: part for name, part in index.items() if isinstance(part, (list, tuple)) and len(part) == 2}
        parts = {
            name: _part(name_or_path, where, name, part[1]) for name, part in named.items() if isinstance(part[1], str)
        }
        pipe = SimpleNamespace(config=FrozenDict(index), components=parts, **{name: None for name in named} | parts)
        return family(pipe, null)
    except Exception:  # of configs of other kinds, which whoever loads the model stumbles over, and says so
        return None


def check_null(family: Family | None) -> None:
    """Refuse what is to stand for no prompt, as far as configs tell.

    Raises:
        ValueError: for a null that the family does not have.
    """
    if family is None or family.chosen is None:
        return
    try:
        nulls = family.nulls()
    except Exception:  # of a family that asks its networks
        return
    family.check_chosen(nulls)


def range_of(family: Family | None) -> tuple[float, float] | None:
    """The log-SNRs that a model was trained on; ``None`` if configs alone do not tell."""
    try:
        # A shift by the number of tokens may follow a size that is no entry of a config, but a default of the pipeline's class.
        moved = family is None or family.pipe.scheduler.config.get("use_dynamic_shifting")
        return None if moved or family is None else family.convention().logsnr_range
    except Exception:  # of a family that asks its networks, or of configs that say nothing it knows
        return None


def _part(place: str | Path, where: Where, name: str, kind: str) -> Any:
    """A component that has its config, and nothing else; a scheduler is made, since its defaults are those of its class."""
    found = _read(place, where, name)
    import diffusers
    from diffusers.configuration_utils import FrozenDict

    if name != "scheduler":
        return SimpleNamespace(config=FrozenDict(found))

    return getattr(diffusers, kind).from_config(dict(found))


def _read(place: str | Path, where: Where, name: str) -> Mapping[str, Any]:
    """The config of a part; nothing of one that has none, such as a tokenizer."""
    for file in _CONFIGS:
        path = Path(place) / name / file if Path(place).is_dir() else _kept(str(place), f"{name}/{file}", where)
        if path is not None and path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _kept(model: str, file: str, where: Where) -> Path | None:
    """A small file of a model on the hub; ``None`` if it has none, or does not answer."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, file, **where))
    except Exception:  # of a network, by whatever the client is built on
        return None
