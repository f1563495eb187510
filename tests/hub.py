"""A hub that answers as a test says."""

from collections.abc import Callable

import huggingface_hub
import pytest


def answering(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[..., None], list[tuple[str, float]]]:
    """What sets the hub's answer, a class or an instance of its errors or None, and the addresses and timeouts it is asked with."""
    asked: list[tuple[str, float]] = []

    def answer(error: Exception | type[Exception] | None) -> None:
        # The hub's own errors are made without the response that they are of.
        raised = error.__new__(error) if isinstance(error, type) else error

        def metadata(url: str, timeout: float) -> None:
            asked.append((url, timeout))
            if raised is not None:
                raise raised

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)

    return answer, asked
