"""What to make of the nats of words: a verdict for each, and what all of them come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmg_diffusers.measure.verdict import DONT, LEAST, Finding, Verdict, unpacked_notes

# How a word is taken out among candidates, where a verdict is that of the candidates' posterior.
AMONG = "replaced by what other candidates say in its place"


def verdict_of(nats: float, difference: float, stderr: float, beyond: float) -> Verdict:
    """How far the nats of a word that was taken out can be believed: with caution, or not.

    No check tells whether the network takes what is left for a prompt: gap - orthogonal is 0 in the mean for an ideal network
    whatever it is compared with. What shows is a network that is not ideal, and a curve that does not end.

    Args:
        nats: of the word.
        difference: gap - orthogonal.
        stderr: of the difference.
        beyond: what is estimated to lie beyond the clean end.
    """
    scale = max(abs(nats), LEAST)
    found = [Finding("what is left need not be a prompt that the network knows, and no check tells", "context")]
    if (abs(difference) - 2 * stderr) / scale >= DONT:
        found.append(Finding(f"gap - orthogonal = {difference:.3f} +- {stderr:.3f} nats", "certificate", "don't"))
    if abs(beyond) / scale >= DONT:
        found.append(
            Finding(f"{beyond:.3f} nats lie beyond the clean end, where the curve has not ended", "decay", "don't")
        )
    return Verdict(tuple(found))


def verdicts_in(record: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """From a record; those of before had the grades alone."""
    if "verdicts" not in record:
        return tuple(Verdict((Finding("as it was kept", grade=grade),)) for grade in record["grades"])
    return tuple(Verdict(tuple(map(Finding.of, unpacked_notes(held)))) for held in record["verdicts"])


def doubts(labels: Sequence[str], verdicts: Sequence[Verdict], how: str) -> list[Finding]:
    """What the verdicts of words come to, with the labels of the words and how they were taken out."""
    said: list[Finding] = []
    doubted = [k for k, verdict in enumerate(verdicts) if verdict.grade == "don't"]
    if doubted:
        names = ", ".join(list(dict.fromkeys(labels[k] for k in doubted))[:4])
        about = ", ".join(dict.fromkeys(name for k in doubted for name in verdicts[k].about))
        remedy = (
            "`verdicts` says what was found; take more steps and paths (levels, draws), and more pairs"
            if how == AMONG
            else "replace words by others (Candidates.vary), along a path that ends where its posterior stands still"
        )
        said.append(
            Finding(
                f"{len(doubted)} of {len(verdicts)} words are not to be trusted ({about}), such as {names}; {remedy}",
                "words",
            )
        )
    if how != AMONG and all(verdict.grade != "trust" for verdict in verdicts):
        said.append(
            Finding(
                f"words were {how}: what is left need not be a prompt that the network knows, and no check tells; words that are "
                "held against others in their place (Candidates.vary) have a bound",
                "words",
            )
        )
    return said
