"""Which of two captions fits each picture better: a table, a record and a page of maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mmg_diffusers.checks import needs, shown
from mmg_diffusers.commands.answers import Answer, Grid, of_record
from mmg_diffusers.commands.figures import check_plotting, plot_maps, save_figure
from mmg_diffusers.commands.networks import Networks, within
from mmg_diffusers.commands.questions import refuse_unreadable
from mmg_diffusers.commands.texts import error_of
from mmg_diffusers.files.text import read_lines
from mmg_diffusers.files.whole import check_writable, write_whole
from mmg_diffusers.pairs.images import ImageLike, read_picture
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.tables import PairTable, check_words, read_pairs, read_pictures
from mmg_diffusers.pairs.videos import read_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pictures in the figure.
MOST = 12


@dataclass(frozen=True)
class Question:
    """Which captions.

    Args:
        source: an image, a folder or a table.
        a: a caption of all images, or a file with one a line, one for each; those of the source by default.
        b: the other, alike.
    """

    source: Path
    a: str | None
    b: str

    def read(self) -> tuple[PairTable, list[str], list[str]]:
        """The pictures, and both captions of each.

        Raises:
            ValueError, OSError: for a source or captions that cannot be read.
        """
        pairs = read_pairs(self.source) if self.a is None else read_pictures(self.source)
        count = len(pairs)
        a = list(pairs.prompts) if self.a is None else captions(self.a, count, "--a")
        b = captions(self.b, count, "--b")
        refuse_equal(a, b)
        return pairs, a, b


def captions(text: str, count: int, name: str) -> list[str]:
    """A caption of all images, or the lines of a file.

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for a file with another number of lines than images, or that is no .txt.
    """
    path = Path(text)
    if path.suffix.lower() != ".txt":
        check_words(text, name)
        return [text] * count
    if not path.is_file():
        raise FileNotFoundError(
            f"{name} is {shown(text)}, and there is no such file; expected a caption, or a .txt file of one a line"
        )
    lines = [line.strip() for line in read_lines(path) if line.strip()]
    if len(lines) != count:
        raise ValueError(
            f"{name} is {shown(text)}, with {len(lines)} captions for {count} images; expected one for each"
        )
    return lines


def refuse_equal(a: Sequence[str], b: Sequence[str]) -> None:
    """Refuse two captions of an image that are the same, before a model is loaded.

    Raises:
        ValueError: which says of which image.
    """
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        if one == other:
            raise ValueError(f"both captions of image {place} are {shown(one)}; expected two that differ")


def compare(question: Question, plan: Plan, networks: Networks, output: Path, *, high: float | None = None) -> Answer:
    """Write pairs.csv, maps.png and the record, and tell which caption fits better, and by how much.

    Raises:
        ValueError, TypeError, OSError, ImportError: before anything is measured.
    """
    check_plotting()
    needs("pandas", "data")
    pairs, a, b = question.read()
    check_writable(output)
    refuse_unreadable(pairs)
    pipe = networks.load(high)
    found = pipe.compare(list(pairs.images), a, b, plan=within(replace(plan, keep="pixel"), high, pipe))
    found = replace(found, notes=(*pairs.notes, *found.notes))
    table = found.to_pandas()
    table.insert(1, "image", pairs.names)
    write_whole(output / "pairs.csv", table.to_csv(index=False).encode())
    record = found.save(output / "comparison.safetensors")
    figure = output / "maps.png"
    save_figure(
        _maps(list(pairs.images)[:MOST], found.pixel_map()[0][:MOST], found.nats.tolist(), "frames" in found.settings),
        figure,
    )
    rows = [
        (Path(name).name, "a" if nats > 0 else "b", f"{abs(nats):.3f}", error_of(error))
        for name, nats, error in zip(pairs.names, found.nats.tolist(), found.stderr.tolist(), strict=True)
    ]
    says = [Grid(("image", "fits better", "by nats", "± noise"), rows, 2), found]
    return Answer(of_record(found, table), says, [output / "pairs.csv", figure, record])


def _maps(images: Sequence[ImageLike], maps: Tensor, nats: Sequence[float], videos: bool) -> Figure:
    look = read_video if videos else read_picture
    pictures = [look(image, k).pixels.movedim(-3, -1).numpy() for k, image in enumerate(images)]
    return plot_maps(pictures, maps, titles=[f"a over b: {value:.2f} nats" for value in nats[: len(images)]])
