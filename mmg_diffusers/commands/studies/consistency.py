"""Self-consistency of estimates that have no truth of their own (Song and Ermon 2020, arXiv 1910.06222, section 6.2; as
MINDE, arXiv 2310.09031, and MMG, arXiv 2509.20609, measure it).

With B_r the first r rows of a picture, three ratios are known:

- baseline: I(A; B_r) / I(A; B) rises to 1 with r;
- data processing: I(A; [B_r, B_(r-k)]) / I(A; B_r) is 1, since B_r determines B_(r-k);
- additivity: I([A1, A2]; [B1_r, B2_r]) / I(A1; B1_r) is 2 for independent pairs.

A is the picture itself (`Digits`), or its caption (`ShapesRows`, where I(A; B) is known exactly). A picture determines
its rows, so I(A; B_r) of a continuous A is infinite; all is over the network's finite range of log-SNR, that is, about A
as it is seen at the cleanest level less A at the noisiest.

B_(r-k) is concatenated with B_r along channels. Pairs of pictures lie side by side: stacked along channels they would share
the filters that one picture has for itself. One network serves every r: it is trained on random r, with rows that are not
seen replaced by a learned null beside a plane that says which are. A pixel of A that is seen is known from the start, by
the linear law of pixels (see `ImageNetwork`); the ratios test the rest, that is, the marginal and the rows that are not
seen. Pairs of pictures have a network of their own, so that additivity compares two trainings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.linalg import helmert
from torch import Tensor
from tqdm import tqdm

from mmg_diffusers.arrays.image_networks import ImageNetwork, channel_covariance, in_part
from mmg_diffusers.arrays.networks import Roles
from mmg_diffusers.arrays.trainer import Source, Trainer, TrainSettings, join_processes
from mmg_diffusers.commands.figures import plot_ratios
from mmg_diffusers.files.whole import claim
from mmg_diffusers.measure.estimate import Estimate, Value
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.moments import FORMS, Form
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, caption_words
from mmg_diffusers.worlds.shapes.render import SIZE
from mmg_diffusers.worlds.shapes.world import WORDS

RATIOS = ("baseline", "data processing", "additivity")
# Pictures from which a pixel's linear law is estimated.
LAW_EXAMPLES = 512


# ---- what is measured ----


class World(ABC):
    """Pairs of A and a picture B. Values are standardised, `(N, C, H, W)`; A may be of one pixel.

    `rows` is the picture's height, and `truth` the exact I(A; B) in nats where it is known.
    """

    name: str
    rows: int
    truth: float | None = None

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A and B of training pairs, from the generator's numbers alone."""

    @abstractmethod
    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        """A and B of pairs that `draw` never gives: part 0 to measure, part 1 to watch the training by.

        Raises:
            ValueError: when there are not so many.
        """

    def pair(self, parts: Sequence[Tensor]) -> Tensor:
        """A (or B) of several independent pairs, `(N, C, H, W)` each, as one variable: pictures side by side, and what has one
        pixel along channels.
        """  # fmt: skip
        return torch.cat(list(parts), 1 if parts[0].shape[2:] == (1, 1) else 3)

    def plan(self, quick: bool = False) -> Plan:
        """What one run is made of: the full setting, for a GPU, or one for some minutes of a core."""
        return Plan.quick() if quick else Plan()

    def describe(self) -> dict[str, Any]:
        """What a folder of results is stamped with."""
        return {"world": self.name, "pairs": "side by side"}


class Digits(World):
    """A = B: a picture of a set such as MNIST, shifted at random, which makes more of them.

    Args:
        images: `(N, H, W)` or `(N, H, W, C)` uint8.
        shift: greatest shift in pixels, down and across; what enters is the darkest value.
        kept_back: share that is never trained on; half of it is measured, half watches the training.

    Raises:
        ValueError: for fewer than 20 pictures.
    """

    name = "digits"

    def __init__(self, images: NDArray[np.uint8], *, shift: int = 4, kept_back: float = 0.2) -> None:
        if len(images) < 20:
            raise ValueError(f"got {len(images)} pictures; expected at least 20, of which a part is held out")
        pixels = torch.from_numpy(images if images.ndim == 4 else images[..., None]).permute(0, 3, 1, 2).float() / 255
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(pixels)))
        kept = max(2, round(kept_back * len(pixels)))
        train = pixels[order[kept:]]
        self._centre, self._deviation = float(train.mean()), float(train.std())
        self._train = train
        self._kept = [pixels[order[: kept // 2]], pixels[order[kept // 2 : kept]]]
        self.shift, self.rows = shift, pixels.shape[2]
        self._pixels = len(pixels)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "images": self._pixels, "shift": self.shift}

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self._train), (count,), generator=generator)
        picture = self._shifted(self._train[rows], generator)
        return picture, picture

    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        kept = self._kept[part]
        if count > len(kept):
            raise ValueError(f"{count} held-out pictures were asked for; there are {len(kept)}. Measure fewer")
        picture = self._shifted(kept[:count], torch.Generator().manual_seed(part))
        return picture, picture

    def _shifted(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = pictures.shape
        s = self.shift
        padded = torch.nn.functional.pad(pictures, (s, s, s, s), value=float(self._train.min()))
        down, across = torch.randint(2 * s + 1, (2, count), generator=generator)
        where = (
            torch.arange(count)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            (down[:, None] + torch.arange(height))[:, None, :, None],
            (across[:, None] + torch.arange(width))[:, None, None, :],
        )
        return (padded[where] - self._centre) / self._deviation


class ShapesRows(World):
    """A: the caption of a Shapes picture, as a code of seven uncorrelated coordinates; B: the picture.

    I(A; B) is exact, about 3.17 nats, and so is that of every pair. The caption is what is diffused, since it is smaller
    and its information is finite.
    """

    name = "shapes"
    rows = SIZE

    def __init__(self) -> None:
        self.shapes = Shapes("soft")
        self.truth = self.shapes.mutual_information()
        # The corners of a simplex for every kind of word: no word is nearer to one than to another.
        words = caption_words(np.arange(len(CAPTIONS)))
        codes = [
            np.sqrt(len(known)) * helmert(len(known))[:, words[:, kind]] for kind, known in enumerate(WORDS.values())
        ]
        self.codes = torch.from_numpy(np.concatenate(codes).T).float()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # Seeds below 2**32 are for measuring.
        return self._pairs(count, 2**32 + int(torch.randint(2**60, (1,), generator=generator)))

    def held_out(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        return self._pairs(count, part)

    def plan(self, quick: bool = False) -> Plan:
        """Many levels of each picture's caption: to read a picture costs far more than to denoise seven coordinates. And
        the noisy ones count, where only the picture tells the caption. Pictures are endless, so that nothing is
        over-fitted, and a plateau is not the end: words are learnt one after the other.
        """
        plan = super().plan(quick)
        train = replace(plan.train, batch=8 * plan.train.batch, draws=8, lr=1e-3, weighting="v", patience=1000)
        return replace(plan, train=train)

    def exact(self, count: int) -> Tensor:
        """`(count,)` exact i(a; b) of the pairs to measure, in nats."""
        caption, factors = self.shapes.sample_factors(count, 0)
        return torch.from_numpy(self.shapes.pointwise(factors, caption))

    def _pairs(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        sample = self.shapes.sample(count, seed)
        picture = (torch.from_numpy(sample.images).permute(0, 3, 1, 2) - 0.5) / 0.25
        return self.codes[torch.from_numpy(sample.caption)][:, :, None, None], picture


def first_rows(picture: Tensor, rows: int | Tensor) -> Tensor:
    """The first rows of pictures, `(B, C, H, W)`, as a network is given them: `(B, C + 1, H, W)`, see `in_part`.

    Args:
        picture: all rows.
        rows: how many are seen, of all or of each, `(B,)`.
    """
    seen = torch.arange(picture.shape[2]) < torch.as_tensor(rows).reshape(-1, 1)
    return in_part(picture, seen[:, None, :, None].expand(-1, 1, -1, picture.shape[3]))


@dataclass(frozen=True)
class Task:
    """What one network learns: A given B_r for any r, of one pair or of two side by side.

    Args:
        world: of the pairs.
        copies: 1, with a second view C of fewer rows, for data processing; or 2, for additivity.
    """

    world: World
    copies: int

    @property
    def name(self) -> str:
        """In file names."""
        return {1: "single", 2: "pair"}[self.copies]

    @property
    def assignments(self) -> tuple[Roles, ...]:
        """Roles to train."""
        known = ((), ("b",), ("b", "c")) if self.copies == 1 else ((), ("b",))
        return tuple(Roles(("a",), given) for given in known)

    def source(self) -> Source:
        """Training examples with rows drawn at random, C showing fewer of them than B."""

        def draw(count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
            return self._examples(*self._drawn(count, [generator] * self.copies), generator)

        return draw

    def held_out(self, count: int) -> Mapping[str, Tensor]:
        """Examples by which the training is watched."""
        a, picture = (self.dealt(x) for x in self.world.held_out(count * self.copies, 1))
        return self._examples(a, picture, torch.Generator().manual_seed(0))

    def dealt(self, values: Tensor) -> Tensor:
        """A (or B) of several pairs `(N, ...)` as that of copies, `(N // copies, ...)`; what is left over is dropped."""
        count = len(values) - len(values) % self.copies
        return self.world.pair([values[k : count : self.copies] for k in range(self.copies)])

    def _drawn(self, count: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        drawn = [self.world.draw(count, generator) for generator in generators]
        a, picture = (self.world.pair(parts) for parts in zip(*drawn, strict=True))
        return a, picture

    def _examples(self, a: Tensor, picture: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(1, self.world.rows + 1, (len(a),), generator=generator)
        found = {"a": a, "b": first_rows(picture, rows)}
        if self.copies == 1:
            fewer = (torch.rand(len(a), generator=generator) * rows).long()
            found["c"] = first_rows(picture, fewer)
        return found

    def network(self, logsnr_range: tuple[float, float], widths: Sequence[int], layers: int) -> ImageNetwork:
        """A new network, with the linear law of pixels that are seen."""
        seeds = [torch.Generator().manual_seed(k) for k in range(self.copies)]
        a, picture = self._drawn(LAW_EXAMPLES, seeds)
        whole = first_rows(picture, self.world.rows)
        examples = {"a": a, "b": whole} | ({"c": whole} if self.copies == 1 else {})
        shapes = {name: (x.shape[1] - (name != "a"), *x.shape[2:]) for name, x in examples.items()}
        return ImageNetwork(
            shapes,
            channel_covariance(examples, ("b", "c")),
            parts=[name for name in examples if name != "a"],
            logsnr_range=logsnr_range,
            widths=widths,
            layers=layers,
        )


# ---- how ----


@dataclass(frozen=True)
class Plan:
    """What one run is made of; files of another plan are not mixed in.

    Args:
        train: of each of the two networks.
        widths, layers: of the U-Nets.
        logsnr_range: all information is over this range.
        held_out: pairs to measure; half as many pairs of pairs.
        watched: pairs by which the training is watched.
        shares: r, as shares of all rows; the last is 1.
        fewer: k, rows by which B_(r-k) is shorter than B_r.
        nodes: noise levels.
        batch_size: rows per forward pass of a measurement.
    """

    train: TrainSettings = field(default_factory=lambda: TrainSettings(steps=20_000, batch=128, check_every=1000))
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = 2
    logsnr_range: tuple[float, float] = (-8.0, 6.0)
    held_out: int = 1000
    watched: int = 256
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    fewer: int = 3
    nodes: int = 64
    batch_size: int = 128

    @staticmethod
    def quick() -> Plan:
        """Some twenty minutes of one core for one world and seed."""
        return Plan(
            train=TrainSettings(steps=400, batch=16, lr=2e-3, check_every=100, average=0.99),
            widths=(16, 32, 64),
            layers=1,
            held_out=128,
            watched=32,
            nodes=12,
        )


@dataclass(frozen=True)
class Reading:
    """One ratio, read with one form, of one training seed; `nats` is the numerator's own information."""

    ratio: str
    rows: int
    form: Form
    seed: int
    value: Value
    nats: Value
    certificate: Value


def ratio_of(top: Tensor, bottom: Tensor) -> Value:
    """Mean of `(N,)` over mean of `(N,)`, of the same pairs, with the standard error of their linearised ratio."""
    centre = float(top.mean() / bottom.mean())
    rest = (top - centre * bottom) / float(bottom.mean())
    return Value(centre, float(rest.std()) / len(rest) ** 0.5)


class Run:
    """The networks and measurements of one seed; whatever FOLDER holds already is read back.

    Args:
        world, plan, seed: what and how.
        folder: of checkpoints and records.
        accelerator: of processes and device. All train together; the main one measures.
    """

    def __init__(self, world: World, plan: Plan, seed: int, folder: Path, accelerator: Accelerator) -> None:
        self.world, self.plan, self.seed, self.folder, self.accelerator = world, plan, seed, folder, accelerator

    def rows(self) -> list[int]:
        """r of every measurement."""
        return [max(1, round(share * self.world.rows)) for share in self.plan.shares]

    def train(self, copies: int) -> ImageNetwork:
        """Train one network, or go on with it."""
        task = Task(self.world, copies)
        torch.manual_seed(self.seed)
        network = task.network(self.plan.logsnr_range, self.plan.widths, self.plan.layers)
        trainer = Trainer(
            network,
            task.source(),
            task.held_out(self.plan.watched),
            task.assignments,
            self.plan.train,
            seed=self.seed,
            checkpoint=self.folder / f"{task.name}.{self.seed}.safetensors",
            accelerator=self.accelerator,
            description=f"{self.world.name}, {task.name}, seed {self.seed}",
        )
        trainer.run()
        return network

    def measure(self, single: ImageNetwork, pair: ImageNetwork) -> dict[str, Estimate]:
        """Every information that a ratio is made of, by name."""
        plan = self.plan
        a, picture = self.world.held_out(plan.held_out, 0)
        a_two, picture_two = (Task(self.world, 2).dealt(x) for x in (a, picture))
        jobs: dict[str, tuple[ImageNetwork, Tensor, dict[str, Tensor]]] = {}
        for r in self.rows():
            seen = first_rows(picture, r)
            jobs[f"one.{r}"] = single, a, {"b": seen}
            jobs[f"both.{r}"] = single, a, {"b": seen, "c": first_rows(picture, max(0, r - plan.fewer))}
            jobs[f"two.{r}"] = pair, a_two, {"b": first_rows(picture_two, r)}
        estimator = MMG("balanced", StratifiedUniform(plan.nodes))
        found: dict[str, Estimate] = {}
        total = plan.nodes * sum(len(x) for _, x, _ in jobs.values())
        with tqdm(total=total, desc=f"{self.world.name}, measuring, seed {self.seed}", unit="z", mininterval=1) as bar:
            for name, (network, x, cond) in jobs.items():
                path = self.folder / "estimates" / f"{name}.{self.seed}.safetensors"
                if path.exists():
                    found[name] = Estimate.load(path)
                    bar.update(plan.nodes * len(x))
                    continue
                settings = {"measured": name, "training_seed": self.seed}
                found[name] = estimator(
                    network.view("a"), x, cond, batch_size=plan.batch_size, progress=bar.update, settings=settings
                )
                found[name].save(path)
        return found

    def readings(self, found: Mapping[str, Estimate]) -> Iterator[Reading]:
        """All ratios, with all forms."""
        rows = self.rows()
        for form in FORMS:
            nats = {name: estimate.using(form).in_mean().nats for name, estimate in found.items()}
            for r in rows:
                one = nats[f"one.{r}"]
                half = len(nats[f"two.{r}"])
                each = one[: 2 * half].view(half, 2).mean(1)
                values = {
                    "baseline": (f"one.{r}", ratio_of(one, nats[f"one.{rows[-1]}"])),
                    "data processing": (f"both.{r}", ratio_of(nats[f"both.{r}"], one)),
                    "additivity": (f"two.{r}", ratio_of(nats[f"two.{r}"], each)),
                }
                for ratio, (name, value) in values.items():
                    estimate = found[name].using(form)
                    yield Reading(ratio, r, form, self.seed, value, estimate.mean(), estimate.certificate)


def run(world: World, plan: Plan, seeds: Sequence[int], folder: Path) -> list[Reading] | None:
    """Train and measure with every seed; on the main process, all readings.

    Raises:
        ValueError: when FOLDER belongs to another plan.
    """
    accelerator = join_processes()
    claim(folder, {**world.describe(), **asdict(plan)})
    readings: list[Reading] = []
    for seed in seeds:
        one = Run(world, plan, seed, folder, accelerator)
        single, pair = one.train(1), one.train(2)
        if accelerator.is_main_process:
            readings += one.readings(one.measure(single, pair))
        accelerator.wait_for_everyone()
    return readings if accelerator.is_main_process else None


# ---- what is said ----


def frame(readings: Sequence[Reading]) -> pandas.DataFrame:
    """One row a reading."""
    return pandas.DataFrame(
        {
            "ratio": reading.ratio,
            "rows": reading.rows,
            "form": reading.form,
            "seed": reading.seed,
            "value": reading.value.value,
            "stderr": reading.value.stderr,
            "nats": reading.nats.value,
            "nats_stderr": reading.nats.stderr,
            "certificate": reading.certificate.value,
            "certificate_stderr": reading.certificate.stderr,
        }
        for reading in readings
    )


def over_seeds(readings: Sequence[Reading], form: Form) -> pandas.DataFrame:
    """Ratios and nats of one form averaged over seeds, by ratio and rows.

    The error joins the held-out pairs, which all seeds share, and the scatter of the seeds' means.
    """
    table = frame([reading for reading in readings if reading.form == form])

    def joined(group: pandas.DataFrame) -> pandas.Series:
        values = group["value"].to_numpy()
        scatter = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
        return pandas.Series(
            {
                "value": values.mean(),
                "error": float(np.sqrt((group["stderr"] ** 2).mean() + scatter)),
                "nats": group["nats"].mean(),
                "nats_error": float(np.sqrt((group["nats_stderr"] ** 2).mean())),
            }
        )

    found = table.groupby(["ratio", "rows"])[["value", "stderr", "nats", "nats_stderr"]].apply(joined)
    assert isinstance(found, pandas.DataFrame)
    return found


def write(world: World, plan: Plan, readings: Sequence[Reading], folder: Path, form: Form = "balanced") -> str:
    """Write table.csv (all forms and seeds), table.md and figure.png; returns the table."""
    frame(readings).to_csv(folder / "table.csv", index=False)
    table = over_seeds(readings, form)
    low, high = plan.logsnr_range
    seeds = len({reading.seed for reading in readings})
    lines = [
        f"{world.name}: {form}, log-SNR {low:g} to {high:g}, {plan.held_out} held-out pairs, {seeds} training"
        f"{'s' if seeds > 1 else ''}; data processing with k = {plan.fewer}",
        "",
        "| r | I(A; B_r) in nats | baseline, to 1 | data processing, 1 | additivity, 2 |",
        "|--:|--:|--:|--:|--:|",
    ]
    for r in table.loc["baseline"].index:
        nats, error = table.loc[("baseline", r), ["nats", "nats_error"]]
        cells = [f"{table.loc[(ratio, r), 'value']:.3f} ± {table.loc[(ratio, r), 'error']:.3f}" for ratio in RATIOS]
        lines.append(f"| {r} | {nats:.2f} ± {error:.2f} | {' | '.join(cells)} |")
    if isinstance(world, ShapesRows):
        exact = world.exact(plan.held_out)
        lines += ["", f"exact I(A; B): {world.truth:.3f} nats, over these pairs {float(exact.mean()):.3f}"]
    text = "\n".join(lines)
    (folder / "table.md").write_text(text + "\n")
    drawn = {
        ratio: (
            table.loc[ratio].index.to_numpy(),
            table.loc[ratio]["value"].to_numpy(),
            table.loc[ratio]["error"].to_numpy(),
        )
        for ratio in RATIOS
    }
    targets = {"baseline": (1.0, 0.0), "data processing": (1.0, 0.05), "additivity": (2.0, 0.1)}
    plot_ratios(drawn, targets, title=world.name).savefig(folder / "figure.png", dpi=110)
    return text
