"""Whether the hub has a data set, asked once and not for long: libraries beneath try again for half a minute."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmg_diffusers.checks import shown

# Seconds that the hub may take to answer.
PATIENCE = 2.0
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def check_data_set(text: str) -> None:
    """Refuse what is no data set on the hub, unless one of that name is kept here.

    Args:
        text: what is no file and no folder.

    Raises:
        FileNotFoundError: for what is no id.
        ValueError: when the hub has none of that name, or not for this user.
        ConnectionError: when it does not answer.
    """
    nowhere = f"there is no file or folder {shown(text)}"
    if not _ID.fullmatch(text):
        raise FileNotFoundError(f"{nowhere}, and it is no id of a data set on the hub, which is OWNER/NAME")
    if _kept(text):
        return
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise ConnectionError(
            f"{nowhere}, none of that name is kept here, and HF_HUB_OFFLINE is set; download it first, or give a folder"
        )
    try:
        get_hf_file_metadata(hf_hub_url(text, "README.md", repo_type="dataset"), timeout=PATIENCE)
    except EntryNotFoundError:
        return  # a data set without a card
    except GatedRepoError as error:
        raise ValueError(
            f"the data set {text} is gated on the hub: ask for access on its page, and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{nowhere}, and no data set of that name on the hub (or it is private: log in with `hf auth login`)"
        ) from error
    except Exception as error:  # of a network, by whatever the client is built on
        raise ConnectionError(
            f"{nowhere}, none of that name is kept here, and the hub does not answer ({type(error).__name__}); go on with a network, "
            "or give a folder"
        ) from error


def _kept(text: str) -> bool:
    """Whether `datasets` keeps a copy of a data set, or the hub's client does."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    downloaded = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return (prepared / text.replace("/", "___")).is_dir() or (
        downloaded / f"datasets--{text.replace('/', '--')}"
    ).is_dir()
