"""What commands are asked about: pairs, and what their prompts are compared with. Imports nothing heavy until it reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from mmg_diffusers.commands.options import (
    CaptionsOption,
    EntropyOption,
    Given,
    MarginalOption,
    PairsSource,
    Prompt,
    RunSource,
)
from mmg_diffusers.commands.signature import PAIRS, RUN

if TYPE_CHECKING:
    from mmg_diffusers.pairs.marginals import Marginal
    from mmg_diffusers.pairs.plan import Plan
    from mmg_diffusers.pairs.sources import Source
    from mmg_diffusers.pairs.tables import PairTable


@dataclass(frozen=True)
class Question:
    """What is measured, as a command line says it.

    Args:
        source: an image, a folder or a table.
        prompt, given: prompt and context of all images, in place of the table's.
        marginal: as `read_compared` takes it; the null prompt by default.
        entropy: H(Y) of prompts that are labels, nats, if it is known.
        captions: of a picture that has several, as `Captions.parse` takes it.
    """

    HEADING: ClassVar[str] = PAIRS

    source: PairsSource
    prompt: Prompt = None
    given: Given = None
    marginal: MarginalOption = None
    entropy: EntropyOption = None
    captions: CaptionsOption = "first"

    def read(self, usual: str = "null") -> tuple[PairTable, Marginal]:
        """The pairs, with their contexts, and what their prompts are compared with.

        Args:
            usual: the marginal if none was named.

        Raises:
            ValueError, OSError: as `read_pairs` and `read_compared` do, or when the context is named twice.
        """
        from mmg_diffusers.commands.inputs import read_compared
        from mmg_diffusers.pairs.captions import Captions
        from mmg_diffusers.pairs.tables import read_pairs

        pairs = read_pairs(self.source, self.prompt, Captions.parse(self.captions))
        if self.given is not None:
            if pairs.given is not None:
                raise ValueError(f"{self.source} has a column 'given', and --given was set; leave one of them out")
            pairs = replace(pairs, given=[self.given] * len(pairs.prompts))
        marginal = read_compared(self.marginal or usual, pairs.prompts)
        return pairs, marginal if self.entropy is None else marginal.stating(self.entropy)


@dataclass(frozen=True)
class RunQuestion(Question):
    """The same of a run, which takes webdataset shards as well, and measures the good pairs if some are bad."""

    source: RunSource  # pyright: ignore[reportGeneralTypeIssues]

    def pairs(self) -> Source:
        """Its rows.

        Raises:
            ValueError, TypeError, OSError: as `Source` does.
        """
        from mmg_diffusers.pairs.captions import Captions
        from mmg_diffusers.pairs.sources import Source

        return Source(self.source, self.prompt, captions=Captions.parse(self.captions), given=self.given)

    def read_marginal(self, limit: int | None) -> Marginal:
        """What prompts are compared with; "prompts" are those of the pairs that are measured.

        Raises:
            ValueError, OSError: as `read_marginal` does.
        """
        from mmg_diffusers.commands.inputs import read_marginal

        asked = self.marginal or "null"
        marginal = read_marginal(asked, self.pairs().prompts(limit).prompts if asked == "prompts" else ())
        return marginal if self.entropy is None else marginal.stating(self.entropy)


@dataclass(frozen=True)
class Going:
    """How a run goes through a data set.

    Args:
        limit: only the first pairs.
        no_truncate: whether prompts that are too long are bad pairs, and not cut.
        strict: whether to stop at the first bad pair.
        cache: a folder that keeps encoded images and prompts.
        part: of a run that several launches share, such as ``3/16``.
    """

    HEADING: ClassVar[str] = RUN

    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pairs.")] = None
    no_truncate: Annotated[bool, typer.Option("--no-truncate", help="Prompts that are too long are bad pairs.")] = False
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad pair.")] = False
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps encoded images and prompts, for runs with other settings.")
    ] = None
    part: Annotated[
        str | None,
        typer.Option(help="A part of all pairs, such as 3/16: for job arrays, which share OUTPUT; then `collect` it."),
    ] = None


def refuse(pairs: PairTable, marginal: Marginal, plan: Plan) -> None:
    """Refuse, before a model is loaded, what no model could measure: pictures that cannot be read, prompts that cannot be compared.

    Raises:
        ValueError, OSError: which says which, and why.
    """
    import torch

    from mmg_diffusers.pairs.image_pairs import ImagePairs

    check_options(marginal, plan, pairs.given is not None)
    count = len(pairs.prompts)
    marginal.check(ImagePairs(list(pairs.images), list(pairs.prompts), pairs.given, torch.arange(count)))
    refuse_unreadable(pairs)


def refuse_unreadable(pairs: PairTable) -> None:
    """Refuse pictures that cannot be read.

    Raises:
        ValueError, OSError: as `read_picture` does.
    """
    from mmg_diffusers.pairs.images import read_picture

    for place, image in enumerate(pairs.images):
        if not (isinstance(image, Path) and image.is_dir()):  # the frames of a video
            read_picture(image, place)


def check_options(marginal: Marginal, plan: Plan, given: bool = False) -> None:
    """Refuse options of the null prompt against candidates, and of candidates with the null prompt, by the names that they have here.

    Raises:
        ValueError: which says what to leave out.
    """
    for name, set_ in (("given", given), ("tolerance", plan.tolerance is not None)):
        if set_ and marginal.candidates is not None:
            raise ValueError(f"--{name} belongs to the null prompt; leave it out, or set --marginal null")
    if plan.audit and marginal.candidates is None:
        raise ValueError(
            "--audit holds the null branch against a mixture of candidates; give --marginal prompts, negatives:15 or a file of "
            "candidates, or leave it out"
        )
