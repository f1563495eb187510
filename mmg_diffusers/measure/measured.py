"""What every result can do: be kept in a file, joined with those of other pairs, and read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, needs, of_type
from mmg_diffusers.files.records import pack, read_record, unpack
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.value import Labels, Value
from mmg_diffusers.measure.verdict import GRADES, Finding, Verdict
from mmg_diffusers.measure.weighing import Contributions

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Self

    from mmg_diffusers.denoisers.conventions import Convention
    from mmg_diffusers.measure.influence import Influence


_NUMBER = re.compile(r"-?\d[\d.,]*")
# Warnings that a notebook shows of a result, and letters of each.
_LINES, _LONGEST_LINE = 3, 160


class Record(ABC):
    """Something that is kept in one safetensors file: tensors, and everything else as JSON in its header."""

    FORMAT: ClassVar[str]
    """What the file says of its kind, and the version of its layout."""
    KIND: ClassVar[str]
    """The noun by which messages call it."""

    @abstractmethod
    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""

    @classmethod
    @abstractmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Self:
        """From what `packed` gave."""

    def to_bytes(self) -> bytes:
        """A safetensors file: tensors, and everything else as JSON in its header."""
        tensors, record = self.packed()
        return pack(tensors, record | {"format": self.FORMAT})

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Read what `to_bytes` gave.

        Raises:
            ValueError: if it is truncated, or of another kind.
        """
        try:
            return cls.unpacked(*unpack(body, cls.FORMAT))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no complete {cls.KIND} of this library: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, see `to_bytes`. It appears only when it is complete."""
        path = file_path(path, f"the path of the {self.KIND}")
        write_whole(path, self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, or of another kind.
        """
        body = read_record(path, cls.KIND)
        try:
            return cls.from_bytes(body)
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from error


class Measured(Record):
    """A result: nats of every pair, with what is needed to believe them.

    A subclass has `nats`, `stderr` and `pair_ids`, `warnings`, and what `Record` asks for; the rest, its `verdict` too, follows, or is
    refused with words if it makes no sense of it.
    """

    @property
    @abstractmethod
    def nats(self) -> Tensor:
        """`(N,)` nats of every pair."""

    @property
    @abstractmethod
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws."""

    @property
    @abstractmethod
    def pair_ids(self) -> Tensor:
        """`(N,)` int64, which name the pairs and their noise."""

    @abstractmethod
    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""

    def __len__(self) -> int:
        return len(self.pair_ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mean()}, {len(self)} pair{'s' * (len(self) > 1)}, {self.verdict})"

    @property
    def verdict(self) -> Verdict:
        """What to make of these numbers: trust, with caution, or don't, and what that was found by."""
        return Verdict.of(self.warnings(), getattr(self, "notes", ()))

    def _repr_html_(self) -> str:
        """What a notebook shows: the mean with its verdict, and below it what a reader should know first, the first few shortened."""
        said = self.verdict.told
        lines = [text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 4]} ..." for text in said[:_LINES]]
        more = [f"and {len(said) - _LINES} more: print it"] if len(said) > _LINES else []
        listed = "".join(f"<li>{escape(line)}</li>" for line in (*lines, *more))
        return (
            f"<div><b>{escape(str(self.mean()))}</b>, {self.KIND} of {len(self)} pair{'s' * (len(self) > 1)}: "
            f"{escape(str(self.verdict))}{f'<ul>{listed}</ul>' if listed else ''}</div>"
        )

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each pair adds to the mean: its nats, unless a result says otherwise."""
        return Contributions.of(self.nats)

    def mean(self, cluster: Labels | None = None) -> Value:
        """Mean over pairs, with its standard error over pairs; of a single pair, with the pair's own.

        Args:
            cluster: one label a pair, the same for pairs that are not independent, such as several captions of one
                image; see `mmg_diffusers.measure.value.stderr_over_pairs`.
        """
        return self.in_mean(cluster).mean(self.stderr, cluster)

    def bits(self) -> Tensor:
        """`nats` in bits."""
        return self.nats / torch.tensor(2.0, dtype=torch.float64).log()

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, nats, stderr."""
        needs("pandas", "data")
        import pandas

        columns = {"pair": self.pair_ids, "nats": self.nats, "stderr": self.stderr}
        return pandas.DataFrame({name: values.numpy() for name, values in columns.items()})

    def influence(self, convention: Convention | None = None) -> Influence:
        """What the condition still adds at each noise level.

        Args:
            convention: the network's, to tell timesteps by.

        Raises:
            TypeError: for a result that is not known level by level.
        """
        raise TypeError(
            f"this {self.KIND} is not known level by level; read the influence off the estimates it is made of"
        )

    def pixel_map(self, *of: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """Information per pixel and its standard error, `(N, *pixels)` nats each; arguments as in `Estimate.pixel_map`.

        Raises:
            TypeError: for a result that is not known pixel by pixel.
        """
        raise TypeError(f"this {self.KIND} is not known pixel by pixel; read maps off the estimates it is made of")


class Provenance(Protocol):
    """What says how a result was made."""

    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


R = TypeVar("R", bound=Record)
P = TypeVar("P", bound=Provenance)


def to_merge(parts: Sequence[R], kind: type[R]) -> R:
    """The first of what is merged.

    Raises:
        TypeError: for something else than a list of records of one kind.
        ValueError: for none.
    """
    of_type(parts, Sequence, "what is merged", f"a list of {kind.KIND}s")
    if not parts:
        raise ValueError(f"there is no {kind.KIND} to merge; expected at least one")
    for part in parts:
        of_type(part, kind, "a part of what is merged", f"a {kind.__name__}")
    return parts[0]


def same_origin(parts: Sequence[P], kind: str) -> tuple[str, ...]:
    """The notes of all parts, each once.

    Raises:
        ValueError: if they were measured with different settings, or by different versions of anything but Python:
            numbers of two versions are not known to mean the same, so that a mean over both would be of neither.
    """
    first = parts[0]
    for other in parts:
        if dict(other.settings) != dict(first.settings):
            raise ValueError(
                f"{kind}s were measured with different settings: {dict(first.settings)} and {dict(other.settings)}; measure all "
                "shards alike"
            )
        for package in sorted({*first.versions, *other.versions} - {"python"}):
            one, another = first.versions.get(package, "none"), other.versions.get(package, "none")
            if one != another:
                raise ValueError(
                    f"{kind}s were measured with two versions of {package}, {one} and {another}; measure all shards with one"
                )
    return told_once(dict.fromkeys(note for part in parts for note in part.notes))


def told_once(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes, and of findings about levels that differ in their numbers alone, as chunks of pairs give them, the one that weighs most."""
    kept: dict[tuple[str, str], str] = {}
    for note in notes:
        if not isinstance(note, Finding) or note.about != "range":
            kept[note, ""] = note
            continue
        alike = (_NUMBER.sub("", note), note.about)
        other = kept.get(alike)
        if not isinstance(other, Finding) or GRADES.index(note.grade) > GRADES.index(other.grade):
            kept[alike] = note
    return tuple(kept.values())


def prefixed(room: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a part, by names that `mmg_diffusers.files.records.within` finds."""
    return {f"{room}/{name}": value for name, value in tensors.items()}
