"""What an adapter gives: a denoiser, and a codec for images and prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.pairs.prompts import Masked

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Origin(NamedTuple):
    """What encodings are a function of, beside what is encoded.

    `settings` holds everything that a change of would change them, as JSON can hold it: the networks' configs, and switches.
    """

    networks: tuple[nn.Module, ...]
    tokenizers: tuple[Any, ...]
    settings: Mapping[str, Any]


class Codec(ABC):
    """Turns images and prompts into what the denoiser takes."""

    @property
    def device(self) -> torch.device:
        """Where encodings are made, and wanted."""
        return torch.device("cpu")

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        """What encodings of a kind depend on, so that they can be kept; by default not known, and nothing is kept."""
        return None

    @property
    @abstractmethod
    def native_size(self) -> tuple[int, int]:
        """Height and width in pixels that the model was trained on."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Heights and widths have to be multiples of this."""

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Images `(N, 3, H, W)` in [0, 1] to the variable that is denoised, `(N, *event)` float32. Deterministic."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Prompts to a condition with one row each."""

    def check_masked(self, prompt: Masked) -> None:
        """Find out whether `encode_masked` can mask the word, without running the text encoder.

        Raises:
            ValueError: where it cannot. Families that override `encode_masked` override this.
        """
        raise ValueError(
            f"{type(self).__name__} cannot mask a word of {shown(prompt.text)}; take it out with "
            "mmg_diffusers.pairs.prompts.replace_word, which moves the tokens after it"
        )

    def encode_masked(self, prompt: Masked) -> dict[str, Tensor]:
        """A prompt whose word is masked, to a condition of one row.

        Raises:
            ValueError: as `check_masked` does.
        """
        self.check_masked(prompt)
        raise NotImplementedError(f"{type(self).__name__} overrides check_masked and not encode_masked")

    @abstractmethod
    def truncated(self, prompt: str) -> str | None:
        """The part of a prompt that the text encoder will not see, or ``None``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What belongs into a record: networks, dtypes, what the information speaks of."""


Adapter = Callable[[Any], "tuple[Adapted, Codec]"]
_ADAPTERS: dict[str, Adapter] = {}


def register(*names: str) -> Callable[[Adapter], Adapter]:
    """Make an adapter known for pipelines of these class names (subclasses included)::

    @register("MyPipeline")
    def adapt_mine(pipe): ...
        return denoiser, codec
    """

    def add(adapter: Adapter) -> Adapter:
        for name in names:
            _ADAPTERS[name] = adapter
        return adapter

    return add


def adapters() -> tuple[str, ...]:
    """Names of the pipeline classes that have an adapter."""
    return tuple(sorted(_ADAPTERS))


def find_adapter(names: Sequence[str]) -> Adapter:
    """The adapter of the first name that has one.

    Raises:
        ValueError: when none has; the message lists those there are.
    """
    for name in names:
        if isinstance(name, str) and name in _ADAPTERS:
            return _ADAPTERS[name]
    raise ValueError(
        f"no adapter for {shown(names[0])}; there are adapters for {', '.join(adapters())}. To add one, write a function "
        f"pipe -> (Denoiser, Codec) and decorate it with @mmg_diffusers.pipelines.adapters.register({shown(names[0])}); see "
        "CONTRIBUTING.md."
    )


def adapt(pipe: DiffusionPipeline) -> tuple[Adapted, Codec]:
    """The denoiser and codec of a diffusers pipeline, sharing its weights.

    Raises:
        ValueError: when no adapter is registered for it, or its model has no honest unconditional branch.
    """
    return find_adapter([cls.__name__ for cls in type(pipe).__mro__])(pipe)
