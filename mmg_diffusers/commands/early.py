"""What is refused at once, before anything heavy is imported: swapped arguments, a misspelt model, a hub that cannot be reached."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.options import ShippedName
from mmg_diffusers.files.hub import PATIENCE, check_data_set, refusals, refuse_offline

SHIPPED = get_args(ShippedName)
INDEX = "model_index.json"
# Sources that are no single path: patterns of shards, and fresh pairs of the Shapes world.
_PATTERN = re.compile(r"[{*?\[]")
# Endings of files of two variables.
_FILES = (".npz", ".npy", ".csv", ".tsv", ".parquet")
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_model(text: str) -> bool:
    """Whether this can only be a model: one that ships, or a folder of a pipeline."""
    return text in SHIPPED or (Path(text) / INDEX).is_file()


def check_arguments(model: str, source: str | Path | None = None, revision: str | None = None) -> None:
    """Refuse a model that is not there, and a source that is not there.

    Args:
        model: as it was typed.
        source: as it was typed; ``None`` for a command that has none, ``"shapes"`` for pairs of that world.
        revision: of a model on the hub.

    Raises:
        ValueError: for what is no model, with the nearest that is, or with the arguments the right way round.
        FileNotFoundError: for what is not there.
        ConnectionError: when the hub is needed and cannot be reached.
    """
    path = Path(model)
    if source is not None and not is_model(model) and is_model(str(source)) and (path.exists() or model == "shapes"):
        raise ValueError(f"the model comes first: {source} {model}")
    if not is_model(model):
        if path.exists():
            raise ValueError(
                f"{model} is no model: it has no {INDEX}. Expected a folder of one, an id on the hub, or {', '.join(SHIPPED)}"
                + ("; the model comes before the pictures" if not path.is_dir() or source in (None, "shapes") else "")
            )
        if not _ID.fullmatch(model):
            raise ValueError(_unknown(model, source))
    looked_for = None if source is None or str(source) == "shapes" or _PATTERN.search(str(source)) else Path(source)
    if looked_for is not None and not looked_for.exists():
        raise FileNotFoundError(f"there is no {source}; expected an image, a folder or a table of pairs")
    if not is_model(model):
        check_hub(model, revision)


def check_data(source: str) -> None:
    """Refuse a data set that is neither here nor on the hub.

    Args:
        source: as it was typed: a file, a folder, or an id on the hub.

    Raises:
        FileNotFoundError, ValueError, ConnectionError: as `mmg_diffusers.files.hub.check_data_set` does.
    """
    path = Path(source)
    if path.exists():
        return
    if path.suffix.lower() in _FILES or path.is_absolute() or source.startswith("."):
        raise FileNotFoundError(f"there is no {source}; expected .npz, .npy, .csv, .parquet or an image data set")
    check_data_set(source)


def _unknown(model: str, source: str | Path | None) -> str:
    near = get_close_matches(model, SHIPPED, 1, 0.6)
    hint = (
        f"did you mean {near[0]}?" if near else f"expected a folder, an id such as owner/name, or {', '.join(SHIPPED)}"
    )
    return f"there is no model {shown(model)}: it is no folder, and none of that name ships; {hint}"


def check_hub(model: str, revision: str | None = None) -> None:
    """Refuse a model that is neither kept here nor on the hub, or whose hub cannot be reached.

    Raises:
        ValueError: when the hub has no such model, or no pipeline in it.
        ConnectionError: when it does not answer.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    if isinstance(try_to_load_from_cache(model, INDEX, revision=revision), str):
        return
    kept = f"{model} is not kept here"
    refuse_offline(kept)
    try:
        with refusals("model", model, f"there is no folder {model}", f"{kept}, there is no such folder"):
            get_hf_file_metadata(hf_hub_url(model, INDEX, revision=revision), timeout=PATIENCE)
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{model} has no revision {shown(revision)} on the hub; leave --revision out, or name another"
        ) from error
    except EntryNotFoundError as error:
        raise ValueError(f"{model} on the hub is no pipeline of diffusers: it has no {INDEX}") from error
