"""What a reader should make of a number: findings, each with what it is about and what it weighs, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from mmg_diffusers.checks import of_type, shown

Grade = Literal["trust", "with caution", "don't"]
"""How far a number can be believed, in words; later ones outweigh earlier ones."""
GRADES: tuple[Grade, ...] = get_args(Grade)

# What errors, as shares of the answer, make of it: below the first nothing is said, from the second on it is not to be trusted.
# Fixed on the development settings of `mmg_diffusers.commands.studies.honest`, not on those that docs/honest.md reports.
CAUTION, DONT = 0.05, 0.15
# Answers below this, in nats, are held against this.
LEAST = 0.2

_MODES = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
)


class Finding(str):
    """One thing that was found about a number, in a sentence; it is a text, and says what it is about and what it weighs.

    Args:
        text: the sentence.
        about: what was looked at, in a word or two: "ceiling", "certificate", "decay", "audit", "calibration", "range", ...
        grade: what it makes of the number by itself.

    Raises:
        ValueError: for a grade that there is not.
    """

    about: str
    grade: Grade

    def __new__(cls, text: str, about: str = "note", grade: Grade = "with caution") -> Finding:
        if grade not in GRADES:
            raise ValueError(
                f"the grade of a finding is {shown(grade)}; expected one of {', '.join(map(repr, GRADES))}"
            )
        made = super().__new__(cls, text)
        made.about, made.grade = about, grade
        return made

    def __getnewargs__(self) -> tuple[str, str, Grade]:
        return str(self), self.about, self.grade

    @classmethod
    def of(cls, text: str, grade: Grade = "with caution") -> Finding:
        """A text as a finding; one that is a finding already as it is."""
        return text if isinstance(text, Finding) else cls(text, grade=grade)


def weighed(share: float) -> Grade:
    """What an error that is this share of the answer makes of it."""
    return "don't" if share >= DONT else "with caution" if share >= CAUTION else "trust"


def worst(grades: Iterable[Grade]) -> Grade:
    """The grade that outweighs the others; "trust" of none."""
    return GRADES[max((GRADES.index(grade) for grade in grades), default=0)]


@dataclass(frozen=True)
class Verdict:
    """What to make of a number, in words, and why.

    Args:
        findings: all there are, in the order in which they were found.

    It is as bad as the worst of its findings. "trust" says that nothing speaks against the number among what could be looked
    at; a null prompt that is the exact marginal of *other* data than the pairs' has nothing against it but an audit, or a ceiling that it exceeds.
    """

    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, warnings: Sequence[str], notes: Sequence[str] = ()) -> Verdict:
        """Of the warnings of a record. Notes among them that weigh nothing by themselves leave the number as it is."""
        quiet = {str(note) for note in notes if not isinstance(note, Finding)}
        return cls(tuple(Finding.of(said, "trust" if str(said) in quiet else "with caution") for said in warnings))

    @property
    def grade(self) -> Grade:
        """The worst of the findings' grades."""
        return worst(finding.grade for finding in self.findings)

    @property
    def about(self) -> tuple[str, ...]:
        """What the findings that decide the grade are about, each once."""
        if self.grade == "trust":
            return ()
        return tuple(dict.fromkeys(finding.about for finding in self.findings if finding.grade == self.grade))

    @property
    def told(self) -> tuple[Finding, ...]:
        """All findings in the order in which a reader should meet them: the gravest first, and last what weighs nothing."""
        return tuple(sorted(self.findings, key=lambda finding: -GRADES.index(finding.grade)))

    def __str__(self) -> str:
        words = {"trust": "trust", "with caution": "take with caution", "don't": "don't trust"}[self.grade]
        return words + (f" ({', '.join(self.about)})" if self.about else "")


def packed_notes(notes: Sequence[str]) -> list[Any]:
    """Notes as JSON can hold them, with what findings among them are about and weigh."""
    return [[str(note), note.about, note.grade] if isinstance(note, Finding) else note for note in notes]


def unpacked_notes(held: Sequence[Any]) -> tuple[str, ...]:
    """From what `packed_notes` gave."""
    return tuple(note if isinstance(note, str) else Finding(*note) for note in held)


def of_network(network: nn.Module) -> tuple[Finding, ...]:
    """What can be seen of a network before it runs: training mode, and half precision.

    Modules that a plain function hides are not seen.
    """
    of_type(network, nn.Module, "the network", "a torch.nn.Module")
    training = sorted({type(module).__name__ for module in network.modules() if module.training and _noticed(module)})
    found: list[Finding] = []
    if training:
        found.append(
            Finding(
                f"the network is in training mode, with {' and '.join(training)}, so that a prediction depends on chance or on its "
                "batch; call .eval() on it",
                "training mode",
                "don't",
            )
        )
    narrow = sorted({str(weight.dtype).removeprefix("torch.") for weight in network.parameters() if _half(weight)})
    if narrow:
        found.append(
            Finding(
                f"the network computes in {' and '.join(narrow)}, which was not held against float32: rounding alone makes the "
                "branches differ",
                "precision",
            )
        )
    return tuple(found)


def _noticed(module: nn.Module) -> bool:
    return isinstance(module, _MODES) and getattr(module, "p", 1.0) > 0


def _half(weight: nn.Parameter) -> bool:
    return weight.is_floating_point() and weight.dtype.itemsize < 4


def mapping_of(verdict: Verdict) -> Mapping[str, Any]:
    """A verdict as JSON can hold it."""
    return {
        "verdict": str(verdict),
        "findings": [{"about": found.about, "grade": found.grade, "text": str(found)} for found in verdict.findings],
    }
