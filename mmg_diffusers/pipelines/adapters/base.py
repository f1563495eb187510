"""What a family of pipelines gives: its network and convention as a denoiser, and a codec for images and prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Adapted, Condition
from mmg_diffusers.denoisers.conventions import Convention, RectifiedFlow
from mmg_diffusers.pairs.classes import ClassNumber
from mmg_diffusers.pairs.prompts import Masked, Prompt
from mmg_diffusers.pipelines.adapters.refusals import sign_of_distillation
from mmg_diffusers.pipelines.media import Medium, Stills
from mmg_diffusers.pipelines.schedulers import convention_from_config

if TYPE_CHECKING:
    from mmg_diffusers.pipelines.adapters.classes import Classes


class Origin(NamedTuple):
    """What encodings are a function of, beside what is encoded.

    `settings` holds everything that a change of would change them, as JSON can hold it: the networks' configs, and switches.
    """

    networks: tuple[nn.Module, ...]
    tokenizers: tuple[Any, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Null:
    """No prompt, as a model was trained to have none: it is encoded, cached and kept as prompts are.

    Args:
        kind: one of `Family.nulls`.
    """

    kind: str


Encode = Callable[[Sequence["Prompt | Null"]], Condition]
"""Encodes prompts, or the null, with one codec, or finds them in a cache."""


def stack(encodings: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Conditions of one row each as one of many. Those of unequal length (axis 1) are filled up with zeros at the end.

    Raises:
        ValueError: for unequal lengths without a mask (a key that ends in "mask") that tells what was filled up.
    """
    stacked: dict[str, Tensor] = {}
    for key in encodings[0]:
        parts = [encoding[key] for encoding in encodings]
        longest = max(part.shape[1] if part.ndim > 1 else 0 for part in parts)
        if any(part.ndim > 1 and part.shape[1] < longest for part in parts):
            if not any(name.endswith("mask") for name in encodings[0]):
                raise ValueError(
                    f"{key} differs in length between prompts, and there is no mask among {list(encodings[0])}"
                )
            parts = [_longer(part, longest) for part in parts]
        stacked[key] = torch.cat(parts)
    return stacked


def _longer(part: Tensor, length: int) -> Tensor:
    rest = part.new_zeros(part.shape[0], length - part.shape[1], *part.shape[2:])
    return torch.cat([part, rest], 1)


class Codec(ABC):
    """Turns images and prompts into what the denoiser takes."""

    @property
    def device(self) -> torch.device:
        """Where encodings are made, and wanted."""
        return torch.device("cpu")

    @property
    def medium(self) -> Medium:
        """What stands beside a prompt: images, unless a family says that it is videos."""
        return Stills()

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

    def check_size(self, height: int, width: int) -> None:
        """Raise a ValueError for an image, of a good multiple, that the network cannot take all the same."""
        return None

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Images `(N, 3, H, W)`, or videos `(N, F, 3, H, W)`, in [0, 1] to the variable that is denoised, `(N, *event)` float32.
        Deterministic.
        """

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Prompts to a condition with one row each, of tensors whose first axis counts the prompts.

        A text's encoding must not depend on the others. Of texts that differ in length see `stack`.
        """

    def encode_null(self, kind: str) -> dict[str, Tensor]:
        """The condition that stands for no prompt, one row. Families with other nulls than these two override this.

        Args:
            kind: ``"empty"``, or ``"zeros"`` in place of every tensor.

        Raises:
            ValueError: for a kind that is not known.
        """
        empty = self.encode_prompts([""])
        if kind == "empty":
            return empty
        if kind == "zeros":
            return {key: torch.zeros_like(value) for key, value in empty.items()}
        raise ValueError(f"{type(self).__name__} knows no null {shown(kind)}")

    def check_masked(self, prompt: Masked) -> None:
        """Find out whether `encode_masked` can mask the word, without running the text encoder.

        Raises:
            ValueError: unless it can. Codecs that override `encode_masked` override this, as `PipelineCodec` does.
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

    def encode(self, prompt: Prompt | Null) -> dict[str, Tensor]:
        """Whatever may be told to the network, as a condition of one row.

        Raises:
            ValueError: as the method for its kind does.
        """
        if isinstance(prompt, Null):
            return self.encode_null(prompt.kind)
        return self.encode_masked(prompt) if isinstance(prompt, Masked) else self.encode_prompts([prompt])

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that cannot be encoded, such as a class that there is not.

        Raises:
            TypeError: for the number of a class, where text is encoded.
            ValueError: for what there is not.
        """
        if isinstance(prompt, ClassNumber):
            raise TypeError(
                f"a prompt is the number {prompt}, and this model is told text and no classes; expected text, such as "
                f"{shown(prompt.name) if prompt.name else 'the name of the class'}"
            )

    def check_different(self, prompts: Sequence[str]) -> None:
        """Raise a ValueError for different candidates that are one thing to the model, such as two names of a class."""
        return None

    def asked(self, prompts: Sequence[str]) -> dict[str, Any]:
        """What the pipeline is called with to draw images of these prompts.

        Raises:
            ValueError: if it draws none of them.
        """
        return {"prompt": list(prompts)}

    @property
    def classes(self) -> Classes | None:
        """The classes that prompts are; ``None`` for text."""
        return None

    @abstractmethod
    def truncated(self, prompt: str) -> str | None:
        """The part of a prompt that the text encoder will not see, or ``None``."""

    def cut(self, prompt: str) -> dict[str, str]:
        """The end of a prompt that single text encoders do not see, by what a reader calls each; none of those that see all of it."""
        return {}

    def limits(self) -> dict[str, int]:
        """Tokens that each of the tokenizers lets through; none for a codec without text."""
        return {}

    def text_encoders(self) -> dict[str, str]:
        """Components that encode text, with the names of their classes, or "missing"."""
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What belongs into a record: networks, dtypes, what the information speaks of."""


class Family(ABC):
    """A family of pipelines: what is its network, its convention, its codec and its null condition, and what it refuses.

    A subclass stands in a file of its own, decorated with `register`. Everything is read from `pipe` when it is asked for, so
    that a part that is replaced or changed after wrapping is the one that is measured.

    Args:
        pipe: the pipeline of diffusers.
        null: which of `nulls` stands for no prompt; by default the first.
    """

    name: ClassVar[str]
    """What records call it."""
    pipelines: ClassVar[tuple[str, ...]]
    """Names of the pipeline classes that belong to it; their subclasses do too."""
    parts: ClassVar[tuple[str, ...]]
    """Components of the pipeline that a measurement needs."""
    flow: ClassVar[Mapping[str, Any] | None] = None
    """For families of flows: how the network is told its level and what it predicts, if not as the scheduler has it; fields of
    `RectifiedFlow`. A scheduler that is set for other noise is refused. ``None`` for other families."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Names of pipeline classes that are kin to these and cannot be measured, with the reason and what still works."""
    distilled_names: ClassVar[str | None] = None
    """A pattern of names (`refusals.model_name`) that in this family alone say that a model was distilled."""
    learned_variance: bool = False
    """Whether the network returns twice the channels of its input, of which the second half is a variance."""

    def __init__(self, pipe: Any, null: str | None = None) -> None:
        self.pipe, self.chosen = pipe, null

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
        self.check_chosen(self.nulls())
        for encoder, tokenizer in self.encoders().items():
            if getattr(self.pipe, encoder, None) is not None and getattr(self.pipe, tokenizer, None) is None:
                raise ValueError(f"the pipeline has a {encoder} and no {tokenizer}; load it with both, or with neither")
        reason = self.refusal()
        if reason is not None:
            raise ValueError(reason)

    def check_chosen(self, nulls: Mapping[str, str]) -> None:
        """Refuse a null that is not among those there are.

        Raises:
            ValueError: says which there are.
        """
        if self.chosen is not None and self.chosen not in nulls:
            kinds = " or ".join(repr(kind) for kind in nulls) or "none at all: it has no unconditional branch"
            raise ValueError(f"null is {shown(self.chosen)}; expected, for {self.name}, {kinds}")

    def refusal(self) -> str | None:
        """Why this pipeline cannot be measured, and what still works; ``None`` if it can. All of `parts` are there then, but
        those that were released.
        """
        return None

    def encoders(self) -> Mapping[str, str]:
        """Components that encode text, each with its tokenizer, whether the pipeline has them or not."""
        return getattr(self.codec(), "encoders", {})

    @abstractmethod
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that denoise, whose weights decide a number."""

    def named_networks(self) -> dict[str, nn.Module]:
        """`networks`, by what the pipeline calls them."""
        parts: dict[str, Any] = self.pipe.components
        named: dict[str, nn.Module] = {}
        for number, network in enumerate(self.networks()):
            named[next((name for name, part in parts.items() if part is network), f"network_{number}")] = network
        return named

    @abstractmethod
    def network(self) -> Callable[..., Tensor]:
        """The denoising network, called as ``network(x, time, **condition)``."""

    @abstractmethod
    def codec(self) -> Codec:
        """Turns images and prompts into what the network takes."""

    def convention(self) -> Convention:
        """What the network is told about noise, and what it predicts; from configs, never from mutable state."""
        scheduler = self.pipe.scheduler
        tokens = getattr(self.codec(), "tokens", None)
        convention = convention_from_config(type(scheduler).__name__, scheduler.config, tokens=tokens)
        if self.flow is None:
            return convention
        if not isinstance(convention, RectifiedFlow):
            raise ValueError(
                f"{self.name} is a flow, and the pipeline's scheduler, {type(scheduler).__name__}, is set for another kind of "
                "noise; replace it by the one that the model was published with, such as FlowMatchEulerDiscreteScheduler"
            )
        if "prediction" in self.flow and (convention.prediction, convention.told) != ("flow_prediction", "noise"):
            raise ValueError(
                f"{self.name} turns its network's output to the flow eps - x, which the pipeline's scheduler, "
                f"{type(scheduler).__name__}, reads as {shown(convention.prediction)}, told the share of {convention.told}; set "
                "prediction_type='flow_prediction' and invert_sigmas=False"
            )
        if convention.prediction in ("epsilon", "sample"):
            said = f"the scheduler reads the network as {shown(convention.prediction)}; models of {self.name} predict a flow"
            convention = replace(convention, notes=(*convention.notes, said))
        return replace(convention, **self.flow)

    def level_told(self, time: Tensor, x: Tensor) -> Tensor:
        """The log-SNR at which the pipeline's network is, from what it is told and its noisy input as the pipeline gives it.

        That is the convention's, unless `network` tells another time than it is given.
        """
        return self.convention().at_timestep(time)

    def nulls(self) -> Mapping[str, str]:
        """What may stand for no prompt: kinds, as ``MMGPipeline(pipe, null=...)`` takes them, with what a record says of them.
        The default comes first; there are none for a network without an unconditional branch.

        Zeros are among them only if the model was trained with zeros.
        """
        return {"empty": "the encoded empty prompt"}

    def without_null(self) -> str:
        """What to say to a user who compares with the unconditional branch of a network that has none."""
        return (
            f"this {self.name} has no unconditional branch, which is what prompts are compared with unless one says otherwise; compare them "
            "with others, marginal=Candidates([...]) (--marginal prompts, or a file), or classify"
        )

    def null(self, encode: Encode) -> Condition | None:
        """The model's own "no condition", one row; ``None`` for a network that has no unconditional branch.

        Args:
            encode: encodes with this family's codec, or finds in a cache.
        """
        kinds = list(self.nulls())
        return encode([Null(self.chosen or kinds[0])]) if kinds else None

    @property
    def conditional(self) -> bool:
        """Whether the network is told a prompt or a class at all."""
        return True

    def null_training(self) -> str:
        """What the configs tell of whether the network was trained to be without a prompt."""
        if not self.nulls():
            return "no"
        return "no config tells; models of this family are trained with prompts left out"

    def distillation(self) -> str | None:
        """What says that the network was guidance-distilled; ``None`` if nothing does."""
        return sign_of_distillation(self.pipe, self.networks()[0], self.distilled_names)

    def describe(self) -> dict[str, Any]:
        """What belongs into a record, beside what the codec says."""
        nulls = self.nulls()
        said = {"family": self.name, "null": nulls.get(self.chosen or next(iter(nulls), ""), "none")}
        shift = getattr(self.convention(), "shift", 1.0)
        return said if shift == 1 else {**said, "flow_shift": round(shift, 6)}

    def denoiser(self, encode: Encode) -> Adapted:
        """The network as a `Denoiser`."""
        return Adapted(self.network(), self.convention(), self.null(encode), learned_variance=self.learned_variance)
