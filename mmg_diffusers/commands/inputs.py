"""What options stand for: images and prompts to look at, and what prompts are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from mmg_diffusers.commands.console import shorten
from mmg_diffusers.commands.questions import refuse_unreadable
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.pairs.images import ImageLike, Images
from mmg_diffusers.pairs.likelihood import Likelihood
from mmg_diffusers.pairs.marginals import Candidates, Marginal, Negatives, NullPrompt
from mmg_diffusers.pairs.tables import read_candidates, read_pairs
from mmg_diffusers.pipelines.fitting import Fitted
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes

# Letters of a user's text that a message repeats.
LONGEST = 120


def best_device() -> str:
    """The fastest device that is there."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def gather(source: str | Path, prompt: str | None, count: int, seed: int) -> tuple[list[ImageLike], list[str]]:
    """Images and prompts to look at: ``shapes``, fresh pairs of the Shapes world, or what `read_pairs` reads.

    Args:
        source: ``shapes``, an image, a folder or a table.
        prompt: of all images, in place of the source's.
        count, seed: of Shapes pairs.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs` does, and for a picture that cannot be read.
    """
    if str(source) == "shapes":
        sample = Shapes("soft").sample(count, seed)
        return Images(list(sample.images)), sample.prompts if prompt is None else [prompt] * count
    pairs = read_pairs(source, prompt)
    refuse_unreadable(pairs)
    return Images(list(pairs.images)), pairs.prompts


def read_compared(text: str, prompts: Sequence[str]) -> Marginal:
    """`read_marginal`, for information alone.

    Raises:
        FileNotFoundError, ValueError: as `read_marginal` does, and for a likelihood.
    """
    if text.partition(":")[0] == "likelihood":
        raise ValueError(
            "--marginal likelihood is for `run`; for a folder or a table use `mmg-diffusers likelihood`, which has no marginal"
        )
    return read_marginal(text, prompts)


def read_marginal(text: str, prompts: Sequence[str]) -> Marginal:
    """What prompts are compared with, as a command line says it.

    Args:
        text: ``null``, the null prompt; ``prompts``, the different prompts of the run, each as probable as it is frequent
            among them; ``negatives`` or ``negatives:COUNT``, prompts sampled from other pairs; ``shapes``, the captions of the
            Shapes world; ``fitted:FOLDER``, what `mmg-diffusers fit` wrote; ``likelihood`` or ``likelihood:FILE``, log p(image | prompt) against N(0, 1) or a saved reference,
            which runs alone can measure; or a file of candidates: text with one a line, or a table (``.csv``, ``.jsonl``,
            ``.parquet``) with a column of prompts and, unless they are equally probable, one named ``prior``.
        prompts: of the run.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for fewer than two candidates, the same one twice, or a prior that is not one.
    """
    kind, _, count = text.partition(":")
    if text == "null":
        return NullPrompt()
    if text == "shapes":
        return Candidates(CAPTIONS)
    if text == "prompts":
        number = Counter(prompts)
        if len(number) < 2:
            same = shorten(repr(prompts[0]), LONGEST)
            raise ValueError(f"all {len(prompts)} prompts are {same}; candidates need others to be compared with")
        return Candidates(tuple(number), tuple(times / len(prompts) for times in number.values()))
    if kind == "negatives":
        if count and not (count.isdecimal() and int(count)):
            raise ValueError(
                f"the marginal is {shorten(repr(text), LONGEST)}; expected negatives, or negatives:15 for as many"
            )
        return Negatives(int(count)) if count else Negatives()
    if kind == "fitted":
        return Fitted(count)
    if kind == "likelihood":
        return Likelihood(GaussianReference.load(count)) if count else Likelihood()
    path = Path(text)
    if not path.is_file():
        raise FileNotFoundError(
            f"the marginal is {shorten(repr(text), LONGEST)}, which is no file; expected null, prompts, negatives:COUNT, "
            "shapes, fitted:FOLDER, likelihood, likelihood:REFERENCE, or a file of candidates"
        )
    return read_candidates(path)
