"""Which family a pipeline belongs to, and why some belong to none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from torch import Tensor, nn

from mmg_diffusers.checks import shown, warn
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.pipelines.adapters.base import Codec, Encode, Family, stack

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

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

        def describe(self) -> dict[str, Any]:
            return {}

        def denoiser(self, encode: Encode) -> Adapted:
            return adapter(self.pipe)[0]

    return Function


FamilyType = TypeVar("FamilyType", bound=type[Family])
_FAMILIES: dict[str, type[Family]] = {}
_REFUSED: dict[str, str] = {}


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
        raise TypeError(f"cannot register {shown(family)}; expected a subclass of Family, see CONTRIBUTING.md")
    for name in family.pipelines:
        _FAMILIES[name] = family
    _REFUSED.update(family.refused)
    return family


def refuse(reason: str, *names: str) -> None:
    """Make known why pipeline classes that belong to no family cannot be measured, and what still works."""
    _REFUSED.update(dict.fromkeys(names, reason))


def adapters() -> tuple[str, ...]:
    """Names of the pipeline classes that can be measured."""
    return tuple(sorted(_FAMILIES))


def find_family(names: Sequence[str]) -> type[Family]:
    """The family of the first name that has one.

    Raises:
        ValueError: when none has; the message says why not, or lists those there are.
    """
    for name in names:
        if isinstance(name, str) and name in _FAMILIES:
            return _FAMILIES[name]
        if isinstance(name, str) and name in _REFUSED:
            raise ValueError(f"{name} cannot be measured: {_REFUSED[name]}")
    families = sorted({family.name for family in _FAMILIES.values()})
    raise ValueError(
        f"no adapter for {shown(names[0])}; there are adapters for {', '.join(families)}. Without one, wrap its network as a "
        "denoiser, Adapted(network, convention), and compare candidates by measure_candidates: that needs no codec. Or write a "
        "Family, decorated with @mmg_diffusers.pipelines.adapters.register; see CONTRIBUTING.md."
    )


def family_of(pipe: DiffusionPipeline, null: str | None = None) -> Family:
    """The family of a diffusers pipeline, sharing its weights.

    Args:
        pipe: the pipeline.
        null: what stands for no prompt, if the family has more than one.

    Raises:
        ValueError: when it has none.
    """
    return find_family([cls.__name__ for cls in type(pipe).__mro__])(pipe, null)


def find_adapter(names: Sequence[str]) -> Adapter:
    """The adapter of the first name that has one, as version 0.1 called it: `find_family` takes its place.

    Raises:
        ValueError: as `find_family` does.
    """
    warn("find_adapter is find_family now; the old name goes with version 0.3", DeprecationWarning)
    family = find_family(names)

    def adapter(pipe: Any) -> tuple[Adapted, Codec]:
        held = family(pipe)
        held.check()
        codec = held.codec()
        return held.denoiser(lambda prompts: stack([codec.encode(prompt) for prompt in prompts])), codec

    return adapter


def adapt(pipe: DiffusionPipeline) -> tuple[Adapted, Codec]:
    """The denoiser and codec of a pipeline, as version 0.1 gave them; `MMGPipeline` and `family_of` take its place.

    Raises:
        ValueError: when no family holds it, or its model has no honest unconditional branch.
    """
    return find_adapter([cls.__name__ for cls in type(pipe).__mro__])(pipe)
