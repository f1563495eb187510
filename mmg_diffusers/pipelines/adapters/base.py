"""What a family of pipelines gives: its network and convention as a denoiser, and a codec for images and prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import warn
from mmg_diffusers.denoisers.base import Adapted, Condition
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.pairs.prompts import Masked, Prompt

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
            f"{type(self).__name__} cannot mask a word of {prompt.text!r}; take it out with "
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


class Family(ABC):
    """A family of pipelines: what is its network, its convention, its codec and its null condition, and what it refuses.

    A subclass stands in a file of its own, decorated with `register`. Everything is read from `pipe` when it is asked for, so
    that a part that is replaced or changed after wrapping is the one that is measured.

    Args:
        pipe: the pipeline of diffusers.
    """

    name: ClassVar[str]
    """What records call it."""
    pipelines: ClassVar[tuple[str, ...]]
    """Names of the pipeline classes that belong to it; their subclasses do too."""
    parts: ClassVar[tuple[str, ...]]
    """Components of the pipeline that a measurement needs."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def check(self, released: Sequence[str] = ()) -> None:
        """Find out whether the pipeline can be measured, without running a network.

        Args:
            released: parts that are not there any more, since what they make is kept.

        Raises:
            ValueError: with the reason, and what still works.
        """
        lacking = [name for name in self.parts if getattr(self.pipe, name, None) is None and name not in released]
        if lacking:
            raise ValueError(f"the pipeline has no {lacking[0]}; load it with all of {', '.join(self.parts)}")
        reason = self.refusal()
        if reason is not None:
            raise ValueError(reason)

    def refusal(self) -> str | None:
        """Why this pipeline cannot be measured, and what still works; ``None`` if it can. All of `parts` are there then, but
        those that were released.
        """
        return None

    @abstractmethod
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that denoise, whose weights decide a number."""

    @abstractmethod
    def network(self) -> Callable[..., Tensor]:
        """The denoising network, called as ``network(x, time, **condition)``."""

    @abstractmethod
    def codec(self) -> Codec:
        """Turns images and prompts into what the network takes."""

    @abstractmethod
    def convention(self) -> Convention:
        """What the network is told about noise, and what it predicts; from configs, never from mutable state."""

    def null(self, encode: Callable[[Sequence[Prompt]], Condition]) -> Condition | None:
        """The model's own "no condition", one row; ``None`` for a network that has no unconditional branch.

        Never zeros, unless the model was trained with zeros.

        Args:
            encode: encodes prompts with this family's codec, or finds them in a cache.
        """
        return encode([""])

    def denoiser(self, encode: Callable[[Sequence[Prompt]], Condition]) -> Adapted:
        """The network as a `Denoiser`."""
        return Adapted(self.network(), self.convention(), self.null(encode))


Adapter = Callable[[Any], "tuple[Adapted, Codec]"]
"""How version 0.1 adapted a pipeline."""


def _family_of_function(names: tuple[str, ...], adapter: Adapter) -> type[Family]:
    class Function(Family):
        name, pipelines, parts = names[0], names, ()

        def networks(self) -> tuple[nn.Module, ...]:
            return (adapter(self.pipe)[0],)

        def network(self) -> Callable[..., Tensor]:
            return adapter(self.pipe)[0].network

        def codec(self) -> Codec:
            return adapter(self.pipe)[1]

        def convention(self) -> Convention:
            return adapter(self.pipe)[0].convention

        def denoiser(self, encode: Callable[[Sequence[Prompt]], Condition]) -> Adapted:
            return adapter(self.pipe)[0]

    return Function


FamilyType = TypeVar("FamilyType", bound=type[Family])
_FAMILIES: dict[str, type[Family]] = {}


@overload
def register(family: FamilyType) -> FamilyType: ...
@overload
def register(family: str, *names: str) -> Callable[[Adapter], Adapter]: ...
def register(family: Any, *names: str) -> Any:
    """Make a family known, by the names of its pipeline classes (subclasses included)::

    @register
    class MyFamily(Family):
        pipelines = ("MyPipeline",)
        ...
    """
    if isinstance(family, str):
        warn("register takes a Family now; functions that adapt a pipeline go with version 0.3", DeprecationWarning)
        return lambda adapter: (register(_family_of_function((family, *names), adapter)), adapter)[1]
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise TypeError(f"cannot register {family!r}; expected a subclass of Family, see CONTRIBUTING.md")
    for name in family.pipelines:
        _FAMILIES[name] = family
    return family


def adapters() -> tuple[str, ...]:
    """Names of the pipeline classes that can be measured."""
    return tuple(sorted(_FAMILIES))


def find_family(names: Sequence[str]) -> type[Family]:
    """The family of the first name that has one.

    Raises:
        ValueError: when none has; the message lists those there are.
    """
    for name in names:
        if isinstance(name, str) and name in _FAMILIES:
            return _FAMILIES[name]
    raise ValueError(
        f"no adapter for {names[0]!r}; there are adapters for {', '.join(adapters())}. To add one, write a Family and decorate "
        "it with @mmg_diffusers.pipelines.adapters.register; see CONTRIBUTING.md."
    )


def family_of(pipe: DiffusionPipeline) -> Family:
    """The family of a diffusers pipeline, sharing its weights.

    Raises:
        ValueError: when it has none.
    """
    return find_family([cls.__name__ for cls in type(pipe).__mro__])(pipe)
