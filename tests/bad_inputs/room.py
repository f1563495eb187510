"""What a malformed call is made with, and how its error is judged."""

import json
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan, UNet2DConditionModel, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import mmg_diffusers
from mmg_diffusers import MMG, Estimate, MMGPipeline, shapes_model
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.commands.app import app
from mmg_diffusers.denoisers.exact import GaussianDenoiser, MixtureDenoiser
from mmg_diffusers.measure.quadrature import Trapezoid

PACKAGE = Path(mmg_diffusers.__file__).parent
RANGE = (-8.0, 8.0)
IMAGE = np.full((32, 32, 3), 0.5, dtype=np.float32)
QUICK = FitSettings(steps=2, pilot=1, batch=8)
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """A malformed input.

    Args:
        entry: what is called, as a user writes it.
        wrong: what is wrong with the call.
        call: makes it.
        error: what it must raise.
        says: a regular expression that the message must match.
    """

    entry: str
    wrong: str
    call: Callable[["Room"], object]
    error: type[Exception]
    says: str


Case = tuple[str, Callable[["Room"], object], type[Exception], str]


def rows(entry: str, *cases: Case) -> tuple[Bad, ...]:
    """Malformed inputs of one entry point."""
    return tuple(Bad(entry, *case) for case in cases)


class CommandFailed(Exception):  # noqa: N818
    """A command ended with status 2 and this message."""


class Untouched(GaussianDenoiser):
    """A denoiser that must not be run."""

    def forward(self, *_args: object) -> torch.Tensor:
        raise AssertionError("the network was run")


class Room:
    """A folder of one's own, the shipped model, and small exact denoisers with pairs of their law."""

    def __init__(self, pipe: MMGPipeline, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder

    # ---- files ----

    def file(self, name: str, content: str | bytes = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def picture(self, name: str = "0.png") -> Path:
        Image.fromarray((IMAGE * 255).astype(np.uint8)).save(self.folder / name)
        return self.folder / name

    def table(self, content: str | bytes, suffix: str = ".csv") -> Path:
        self.picture()
        return self.file(f"pairs{suffix}", content)

    def model(self, change: Change, name: str = "model") -> Path:
        """The shipped model with one thing changed."""
        folder = shutil.copytree(shapes_model(), self.folder / name)
        change(folder)
        return folder

    def load(self, change: Change, name: str = "model") -> MMGPipeline:
        return MMGPipeline.from_pretrained(self.model(change, name))

    def record(self, change: Callable[[dict[str, torch.Tensor], dict], object]) -> Path:
        """A saved estimate whose tensors or header were changed."""
        path = self.estimate.save(self.folder / "estimate.safetensors")
        body = path.read_bytes()
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        tensors, record = load_file(path), json.loads(header["__metadata__"]["record"])
        change(tensors, record)
        save_file(tensors, path, metadata={"record": json.dumps(record)})
        return path

    def command(self, *arguments: object) -> str:
        """The output of a command that succeeded.

        Raises:
            CommandFailed: with what it said, where it ended with status 2 as a command should; what else it raised.
        """
        env = {"COLUMNS": "250", "TERMINAL_WIDTH": "250", "NO_COLOR": "1"}
        done = CliRunner().invoke(app, [str(part) for part in arguments], env=env)
        if done.exit_code == 0:
            return done.output
        if not isinstance(done.exception, SystemExit) or done.exit_code != 2 or "Traceback" in done.output:
            raise done.exception or AssertionError(f"ended with status {done.exit_code}")
        said = re.sub(r"[─│╭╮╰╯\s]+", " ", re.split(r"error:| Error ", done.output)[-1])
        raise CommandFailed(said.strip())

    # ---- exact denoisers ----

    covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)[:, None]
    y = x.flip(0)

    @property
    def untouched(self) -> Untouched:
        return Untouched(self.covariance, 1)

    @property
    def gaussian(self) -> GaussianDenoiser:
        return GaussianDenoiser(self.covariance, 1)

    @property
    def mixture(self) -> MixtureDenoiser:
        return MixtureDenoiser(torch.ones(2), torch.tensor([[0.0], [3.0]]), torch.ones(2))

    @property
    def network(self) -> VectorNetwork:
        return VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)

    @cached_property
    def estimate(self) -> Estimate:
        return MMG("gap", Trapezoid(4))(self.gaussian, self.x, {"y": self.y}, logsnr_range=RANGE)


def json_change(name: str, **entries: object) -> Change:
    """Entries of a JSON file of a model folder, set."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def weights_change(part: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Tensors of one part of a model, changed."""

    def rewrite(folder: Path) -> None:
        path = next((folder / part).glob("*.safetensors"))
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return rewrite


def pickled(part: str) -> Change:
    """The weights of one part of a model, pickled, and not there as safetensors."""

    def change(folder: Path) -> None:
        path = next((folder / part).glob("*.safetensors"))
        name = "pytorch_model.bin" if part == "text_encoder" else path.with_suffix(".bin").name
        torch.save(load_file(path), path.with_name(name))
        path.unlink()

    return change


# ---- judgement ----


@contextmanager
def no_network() -> Iterator[None]:
    """While this lasts, an image encoder, a UNet or a small network that is run says so."""
    ran = AssertionError("a network was run")
    with ExitStack() as stack:
        for owner, name in (
            (UNet2DConditionModel, "forward"),
            (AutoencoderKL, "encode"),
            (WanTransformer3DModel, "forward"),
            (AutoencoderKLWan, "encode"),
            (VectorNetwork, "stacked"),
        ):
            stack.enter_context(mock.patch.object(owner, name, side_effect=ran))
        yield


def raised_by_the_package(error: BaseException) -> bool:
    """Whether the last frame of the traceback lies in the package, and not deep in a dependency.

    A keyword that there is not is refused by Python, in the frame of the call.
    """
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    by_python = isinstance(error, TypeError) and "unexpected keyword argument" in str(error)
    return last.is_relative_to(PACKAGE) or isinstance(error, CommandFailed) or by_python
