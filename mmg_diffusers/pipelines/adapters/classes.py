"""What the codecs of networks share that are told a class in place of text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmg_diffusers.checks import shown
from mmg_diffusers.pairs.classes import ClassNumber
from mmg_diffusers.pipelines.adapters.base import Origin
from mmg_diffusers.pipelines.adapters.codecs import PipelineCodec


@dataclass(frozen=True)
class Classes:
    """The classes that a network is told.

    Args:
        count: how many there are.
        names: their numbers by name; a class may have several, or none.
    """

    count: int
    names: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def named(cls, count: int, known: Mapping[Any, Any]) -> Classes:
        """Of names by number, as `id2label` of a config has them: names of one class stand between commas."""
        each = {name.strip(): int(number) for number, names in known.items() for name in str(names).split(",")}
        return cls(count, {name: number for name, number in each.items() if number < count})

    def number(self, prompt: str) -> int:
        """The number of the class that a prompt is: by one of its names or all of them, or by its number.

        Raises:
            ValueError: for a name or a number that there is not, and for a number that a data set calls otherwise than the
                model does.
        """
        called = prompt.name if isinstance(prompt, ClassNumber) else None
        found = None if isinstance(prompt, ClassNumber) else self._by_name(prompt)
        if found is None and prompt.strip().isdecimal():
            found = int(prompt)
        if found is None or found >= self.count:
            raise ValueError(
                f"{shown(str(prompt))} is no class of this model; expected a number from 0 to {self.count - 1}{self._names()}"
            )
        if called is not None and self.names and self._by_name(called) != found:
            own = ", ".join(name for name, number in self.names.items() if number == found)
            raise ValueError(
                f"the data set calls its class {found} {shown(called)}, and this model {f'calls its own {shown(own)}' if own else 'has no name for its own'}: they "
                "are classes of different lists. Map them to the model's names or numbers; if they are the model's after all, "
                'dataset.cast_column("label", Value("int64")) leaves the names away'
            )
        return found

    def _by_name(self, text: str) -> int | None:
        if text.strip() in self.names:
            return self.names[text.strip()]
        # All names of one class, as data sets have them: "tench, Tinca tinca".
        numbers = {self.names.get(part.strip()) for part in text.split(",")}
        return numbers.pop() if len(numbers) == 1 else None

    def _names(self) -> str:
        if not self.names:
            return "; it has no names (id2label)"
        return f", or one of {len(self.names)} names ({', '.join(list(self.names)[:4])}, ...)"


class ClassCodec(PipelineCodec):
    """A prompt is a class: a number, as such or as text ("207"), or one of its names. Stands before `LatentCodec` or `PixelCodec`
    among the bases.
    """

    encoders: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def classes(self) -> Classes | None:
        """The classes that there are; ``None`` for an unconditional network."""

    def label(self, prompt: str) -> int:
        """The number of the class that a prompt is.

        Raises:
            ValueError: for a prompt that is none, and for an unconditional network.
        """
        if self.classes is None:
            raise ValueError(
                f"got the prompt {shown(str(prompt))}, and this network is unconditional: there is nothing that a prompt could say to "
                "it. Its denoiser works without one: MMGPipeline(pipe).denoiser(z, logsnr)."
            )
        return self.classes.number(prompt)

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        if kind == "image":
            return super().origin(kind)
        known = self.classes
        return Origin((), (), {} if known is None else {"classes": known.count, "names": dict(known.names)})

    def check_prompt(self, prompt: str) -> None:
        self.label(prompt)

    def check_different(self, prompts: Sequence[str]) -> None:
        first: dict[int, str] = {}
        for prompt in prompts:
            other = first.setdefault(self.label(prompt), prompt)
            if other != prompt:
                raise ValueError(
                    f"{shown(str(other))} and {shown(str(prompt))} are one class of this model, which cannot be compared with itself; "
                    "call it the same everywhere"
                )

    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"class_labels": torch.tensor([self.label(prompt) for prompt in prompts], device=self.device)}

    def text_settings(self) -> dict[str, Any]:
        return {
            "prompts": "none: it is unconditional" if self.classes is None else f"one of {self.classes.count} classes"
        }
