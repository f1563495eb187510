"""Whether the hub has a model or a data set, asked once and not for long: libraries beneath try again for half a minute."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmg_diffusers.checks import needs, shown

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
    from huggingface_hub.errors import EntryNotFoundError

    absent = f"{nowhere}, none of that name is kept here"
    refuse_offline(absent)
    with refusals("data set", f"the data set {text}", nowhere, absent):
        try:
            _ask(text)
        except EntryNotFoundError:
            return  # a data set without a card


def refuse_offline(absent: str) -> None:
    """Raise a ConnectionError where the hub must not be asked.

    Args:
        absent: what is not kept here, in words.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise ConnectionError(f"{absent}, and HF_HUB_OFFLINE is set; download it first, or give a folder")


@contextmanager
def refusals(kind: str, named: str, nowhere: str, absent: str) -> Iterator[None]:
    """While the hub is asked, say in words why it has none, or does not answer; what lies in a repository that is there is for the caller.

    Args:
        kind: "model" or "data set".
        named: what it is called.
        nowhere: that there is no file or folder of that name.
        absent: that none is kept here either.

    Raises:
        ValueError: when the hub has none of that name, or not for this user.
        ConnectionError: when it does not answer.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{named} is gated on the hub: ask for access on its page, and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{nowhere}, and no {kind} of that name on the hub (or it is private: log in with `hf auth login`)"
        ) from error
    except (EntryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:  # of a network, by whatever the client is built on
        raise ConnectionError(
            f"{absent}, and the hub does not answer ({type(error).__name__}); go on with a network, or give a folder"
        ) from error


@contextmanager
def kept_if_away(text: str) -> Iterator[None]:
    """While inside, a data set that is kept here is read without the hub, if that does not answer.

    It is asked first, since of what is kept `datasets` takes the newest configuration, whichever that is.

    Args:
        text: the id of a data set, as `check_data_set` takes it.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    away = False
    if _kept(text) and not constants.HF_HUB_OFFLINE:
        try:
            _ask(text)
        except EntryNotFoundError:
            pass
        except Exception:  # of a network, or of a hub that has it no more
            away = True
    if not away:
        yield
        return
    needs("datasets", "data")
    from datasets import config

    held = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = held


def _ask(text: str) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(text, "README.md", repo_type="dataset"), timeout=PATIENCE)


def _kept(text: str) -> bool:
    """Whether `datasets` keeps a copy of a data set, or the hub's client does."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    downloaded = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return (prepared / text.replace("/", "___")).is_dir() or (
        downloaded / f"datasets--{text.replace('/', '--')}"
    ).is_dir()
