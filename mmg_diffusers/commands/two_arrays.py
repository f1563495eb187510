"""Two arrays, or columns of a table, for a command: the estimate with its verdict, and a record."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmg_diffusers.arrays.estimate import estimate_mi
from mmg_diffusers.arrays.variables import read_variables
from mmg_diffusers.checks import reason, shown
from mmg_diffusers.commands.answers import Answer, of_record
from mmg_diffusers.files.whole import check_writable

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Question:
    """Which variables.

    Args:
        source: what `read_variables` reads, or x as a ``.npy``.
        other: y as a ``.npy``, beside x.
        x, y: names of arrays or columns.
        given: of a third variable, or its ``.npy``.
    """

    source: str
    other: str | None = None
    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    def read(self) -> tuple[Array, Array, Array | None]:
        """x, y, and what is given, if anything.

        Raises:
            FileNotFoundError, ValueError: as `read_variables` does, and for names beside two files, which have none.
        """
        if self.other is None:
            data = read_variables(self.source, self.x, self.y)
            given = read_variables(self.source, self.given, self.given)["x"] if self.given else None
            return data["x"], data["y"], given
        if self.x or self.y:
            raise ValueError(
                f"--x and --y name parts of one file, and there are two, {self.source} and {self.other}; leave them out"
            )
        if len(self.given) > 1:
            raise ValueError(f"--given names {len(self.given)} files; expected one .npy")
        files = (self.source, self.other, *self.given)
        for file in files:
            if Path(file).suffix.lower() != ".npy":
                raise ValueError(
                    f"x and y in two files are .npy each, and one is {shown(file)}; of one table name columns, --x a,b --y c"
                )
        x, y, *given = map(read_array, files)
        return x, y, given[0] if given else None


@dataclass(frozen=True)
class How:
    """What `estimate_mi` is asked for besides: `test_share`, `folds`, `workers` and `seed`, as it takes them."""

    test_share: float | None = None
    folds: int | None = None
    workers: int = 1
    seed: int = 0


def read_array(source: str) -> Array:
    """The array of a ``.npy``.

    Raises:
        FileNotFoundError, ValueError: for what is none.
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; expected a .npy")
    try:
        # Arrays of objects are pickles, and reading one runs what it holds.
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}") from error


def estimate(question: Question, how: How, output: Path, quiet: bool) -> Answer:
    """Estimate the information of two variables, and write the record.

    Raises:
        ValueError, OSError: for files that cannot be read, and as `estimate_mi` does.
    """
    x, y, given = question.read()
    check_writable(output)
    with tqdm(desc="training", unit="step", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
        found = estimate_mi(x, y, given=given, progress=bar.update, **vars(how))
    record = found.save(output / "estimate.safetensors")
    return Answer(of_record(found), [found], [record])
