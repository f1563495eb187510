"""What options of the command line stand for: images and prompts to look at, and what prompts are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmg_diffusers.checks import shown
from mmg_diffusers.pairs.images import ImageLike
from mmg_diffusers.pairs.marginals import Candidates, Marginal, Negatives, NullPrompt
from mmg_diffusers.pairs.tables import read_candidates, read_pairs
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes


def gather(source: str | Path, prompt: str | None, count: int, seed: int) -> tuple[list[ImageLike], list[str]]:
    """Images and prompts to look at: ``shapes``, fresh pairs of the Shapes world, or what `read_pairs` reads.

    Args:
        source: ``shapes``, an image, a folder or a table.
        prompt: of all images, in place of their own.
        count, seed: of Shapes pairs.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does.
    """
    if str(source) == "shapes":
        sample = Shapes("soft").sample(count, seed)
        return list(sample.images), sample.prompts if prompt is None else [prompt] * count
    pairs = read_pairs(source, prompt)
    return list(pairs.images), pairs.prompts


def read_marginal(told: str, prompts: Sequence[str]) -> Marginal:
    """What prompts are compared with, as it is told on a command line.

    Args:
        told: ``null``, the null prompt; ``prompts``, the run's own different prompts, each as probable as it is frequent
            among them; ``negatives`` or ``negatives:COUNT``, prompts sampled from other pairs; ``shapes``, the captions of the
            Shapes world; or a file of candidates: text with one a line, or a table (``.csv``, ``.jsonl``, ``.parquet``) with a
            column of prompts and, where they are not equally probable, one named ``prior``.
        prompts: of the run.

    Raises:
        FileNotFoundError: for a file that there is not.
        ValueError: for fewer than two candidates, the same one twice, or a prior that is none.
    """
    kind, _, count = told.partition(":")
    if told == "null":
        return NullPrompt()
    if told == "shapes":
        return Candidates(CAPTIONS)
    if told == "prompts":
        number = Counter(prompts)
        if len(number) < 2:
            raise ValueError(
                f"all {len(prompts)} prompts are {shown(prompts[0])}; candidates need others to be compared with"
            )
        return Candidates(tuple(number), tuple(times / len(prompts) for times in number.values()))
    if kind == "negatives":
        if count and not count.isdecimal():
            raise ValueError(f"the marginal is {shown(told)}; expected negatives, or negatives:15 for as many")
        return Negatives(int(count)) if count else Negatives()
    path = Path(told)
    if not path.is_file():
        raise FileNotFoundError(
            f"the marginal is {shown(told)}, which is no file; expected null, prompts, negatives:COUNT, shapes, or a file of candidates"
        )
    return read_candidates(path)
