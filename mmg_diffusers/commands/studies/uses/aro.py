"""The protocols of ARO for copies of its data that lie on this machine: attribution, relation and order of words, by any model.

Yuksekgonul et al. 2023, "When and why vision-language models behave like bags-of-words" (arXiv 2210.01936); the files are those of
github.com/mertyg/vision-language-models-are-bows. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmg_diffusers.checks import shown
from mmg_diffusers.commands.studies.uses.shuffles import plain_caption, shuffles
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.files.text import read_json
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages

# The names that ARO's code gives its files, and what each asks.
FILES: Mapping[str, str] = {
    "visual_genome_attribution.json": "attribution",
    "visual_genome_relation.json": "relation",
    "coco_karpathy_test.json": "order",
}
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
# Fixed before anything was measured: of what there is above chance.
ENOUGH = 0.5
# Cases that are measured at a time.
TOGETHER = 16


@dataclass(frozen=True)
class Case:
    """A picture, the part of it that is looked at, and its texts, of which the first is true.

    Args:
        image: its file.
        texts: two or more.
        box: left, upper, right and lower edge of the part, in pixels; all of it by default.
        group: what cases are averaged by: a relation, two attributes.
    """

    image: Path
    texts: tuple[str, ...]
    box: tuple[int, int, int, int] | None = None
    group: str = ""

    def picture(self) -> Image.Image:
        """The part of the picture, in RGB.

        Raises:
            FileNotFoundError: if the file is not there.
            ValueError: for a box with nothing of the picture in it.
        """
        if not self.image.is_file():
            raise FileNotFoundError(f"there is no picture {self.image}; expected the images of the protocol beside it")
        with Image.open(self.image) as opened:
            whole = opened.convert("RGB")
        if self.box is None:
            return whole
        left, upper, right, lower = self.box
        within = (max(0, left), max(0, upper), min(whole.width, right), min(whole.height, lower))
        if within[0] >= within[2] or within[1] >= within[3]:
            raise ValueError(
                f"the box {self.box} holds nothing of {self.image}, of {whole.width} x {whole.height} pixels"
            )
        return whole.crop(within)


def read_cases(path: Path, seed: int = 0) -> list[Case]:
    """Read the cases of one of ARO's files, by what its items hold.

    Items of attribution and relation have image_path (under images/), a box (bbox_x, bbox_y, bbox_w, bbox_h), true_caption and
    false_caption. Items of order have image (beside the file) and caption, a list of texts, each a case with its words in other
    orders; or caption_options, a list that begins with the true one, as ARO's code makes it with a tagger's help. Without that, the two
    orders that need to know nouns and adjectives are left out.

    Args:
        path: of the file.
        seed: of the orders.

    Raises:
        ValueError: for a file of another form; says which item and what it lacks.
        OSError: when it cannot be read.
    """
    items = read_json(path)
    if not isinstance(items, list) or not items:
        raise ValueError(f"{path} holds {shown(items)}; expected a list of cases")
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    for place, item in enumerate(items):
        try:
            cases += _case(item, path.parent, rng)
        except (KeyError, TypeError, ValueError) as error:
            lacks = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"item {place} of {path} is no case of ARO ({lacks}); expected image_path, {', '.join(BOX)}, true_caption and "
                "false_caption, or image and caption"
            ) from error
    return cases


def _case(item: Mapping[str, Any], folder: Path, rng: np.random.Generator) -> Iterator[Case]:
    if "true_caption" in item:
        left, upper, width, height = (round(float(item[name])) for name in BOX)
        group = item["relation_name"] if "relation_name" in item else "_".join(item.get("attributes", ()))
        texts = (str(item["true_caption"]), str(item["false_caption"]))
        if texts[0] == texts[1]:
            raise ValueError(f"both captions are {shown(texts[0])}")
        yield Case(folder / "images" / item["image_path"], texts, (left, upper, left + width, upper + height), group)
        return
    image = folder / item["image"]
    if "caption_options" in item:
        true, *false = (str(text) for text in item["caption_options"])
        yield from _against(image, true, false)
        return
    captions = item["caption"]
    for caption in [captions] if isinstance(captions, str) else captions:
        true = plain_caption(str(caption))
        yield from _against(image, true, list(shuffles(true, None, rng).values()))


def _against(image: Path, true: str, false: Sequence[str]) -> Iterator[Case]:
    """The case of a caption, if anything else is left of it to choose."""
    others = [text for text in dict.fromkeys(false) if text != true]
    if others:
        yield Case(image, (true, *others))


# ---- what is measured ----


@dataclass(frozen=True)
class Settings:
    """Which copy is measured, how much of it, and how.

    Args:
        folder: with any of the protocol's files in it, and their pictures.
        cases: of each file, evenly over it.
        steps, draws: of each comparison's path.
        seed: of the noise, and of the orders of words.
    """

    folder: str = ""
    cases: int = 500
    steps: int = 24
    draws: int = 2
    seed: int = 61


def aro(pipe: MMGPipeline, stages: Stages, settings: Settings) -> dict[str, Any]:
    """Compare every case's true text with each of the others, some cases at a time; each is kept.

    Raises:
        ValueError: for a folder with none of the files in it, or a file of another form.
        FileNotFoundError: for a picture that is not there.
    """
    folder = Path(settings.folder)
    there = {task: folder / name for name, task in FILES.items() if settings.folder and (folder / name).is_file()}
    if not there:
        raise ValueError(f"{shown(settings.folder)} holds none of {', '.join(FILES)}; give the folder of a copy of ARO")
    found: dict[str, Any] = {}
    for task, path in there.items():
        every = read_cases(path, settings.seed)
        rows = np.unique(np.linspace(0, len(every) - 1, min(settings.cases, len(every))).round().astype(int))
        chosen = [every[k] for k in rows]
        digest = Identity.of_file(path).digest[:8]
        found[task] = [
            stages(
                f"{task}-{digest}-{start:05d}",
                lambda start=start, chosen=chosen: _compared(pipe, chosen[start : start + TOGETHER], start, settings),
            )
            for start in range(0, len(chosen), TOGETHER)
        ]
    return found


def _compared(pipe: MMGPipeline, cases: Sequence[Case], start: int, settings: Settings) -> dict[str, Any]:
    """Of each case, its group and what its true text fits better by than each of the others; and the rows that it took."""
    plan = Plan(levels=settings.steps, draws=settings.draws, seed=settings.seed, resize=True)
    pictures = [case.picture() for case in cases]
    nats: list[list[float]] = [[] for _ in cases]
    rows = 0
    with folded_zeros(pipe.pipe):
        for place in range(1, max(len(case.texts) for case in cases)):
            # The noise is that of the case, the same against each of its texts.
            have = [k for k, case in enumerate(cases) if len(case.texts) > place]
            told = pipe.compare(
                [pictures[k] for k in have],
                [cases[k].texts[0] for k in have],
                [cases[k].texts[place] for k in have],
                plan=plan,
                pair_ids=[start + k for k in have],
            )
            for k, value in zip(have, told.nats.tolist(), strict=True):
                nats[k].append(value)
            rows += told.evaluations
    return {"groups": [case.group for case in cases], "nats": nats, "rows": rows}


# ---- what it says ----


def aro_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: how often the true text fits best, over cases and over groups of them, and whether the bar is met."""
    yield f"| task | cases | chance | the true text fits best | mean over groups | {ENOUGH:.0%} of what is above chance | met | rows a case |"
    yield "|---|--:|--:|--:|--:|--:|---|--:|"
    for task, parts in result.items():
        nats = [own for part in parts for own in part["nats"]]
        groups = [own for part in parts for own in part["groups"]]
        right = torch.tensor([float(min(own) > 0) for own in nats], dtype=torch.float64)
        chance = float(np.mean([1 / (1 + len(own)) for own in nats]))
        each = [float(right[[own == name for own in groups]].mean()) for name in sorted(set(groups))]
        mean = mean_over_pairs(right)
        bar = chance + ENOUGH * (1 - chance)
        rows = sum(part["rows"] for part in parts) / len(nats)
        met = "yes" if mean.value >= bar else "no"
        yield (
            f"| {task} | {len(nats)} | {chance:.3f} | {plus_minus(mean)} | {np.mean(each):.3f} ({len(each)}) | {bar:.3f} | {met} | {rows:.0f} |"
        )
