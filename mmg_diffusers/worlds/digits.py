"""Digits: MNIST and its kin, pictures with labels, and the exact ceiling of what a picture can tell of its label.

digits = Digits.read("mnist", part="test")
digits.entropy()  # nats; I(picture; label) is at most this, and is this if every picture determines its label
few = digits.sample(200, seed=0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import file_path, of_type, whole
from mmg_diffusers.files.idx import read_idx

Part = Literal["train", "test", "both"]
# Beginnings of the names of MNIST's own files.
_NAMES = {"train": ("train",), "test": ("t10k",), "both": ("train", "t10k")}


@dataclass(frozen=True)
class Digits:
    """Pictures and their labels; the law is that of drawing one of these pairs.

    Args:
        images: `(N, H, W)` uint8.
        labels: `(N,)` integers.

    Raises:
        TypeError: for anything but arrays.
        ValueError: for other shapes or dtypes, or if there are no pairs.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            of_type(getattr(self, name), np.ndarray, name, "an array")
        if self.images.ndim != 3 or self.images.dtype != np.uint8 or not self.images.size:
            raise ValueError(
                f"images have shape {self.images.shape} and dtype {self.images.dtype}; expected (N, H, W) of uint8"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels have shape {self.labels.shape} and dtype {self.labels.dtype}; expected {len(self.images)} integers"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def read(cls, folder: str | Path, part: Part = "train") -> Digits:
        """Read MNIST's own files (``train-images-idx3-ubyte`` and so on), gzipped or not, or those of another set so named.

        Raises:
            FileNotFoundError: if one is missing.
            ValueError: for another part, or a file that is damaged or holds something else.
        """
        if part not in get_args(Part):
            raise ValueError(f"there is no such part; expected one of {', '.join(get_args(Part))}")
        folder = file_path(folder, "the folder of digits")
        images, labels = (
            np.concatenate([_read(folder, f"{name}-{kind}") for name in _NAMES[part]])
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        return cls(images, labels.astype(np.int64))

    # ---- truths ----

    def probability(self) -> dict[int, float]:
        """The share of each label."""
        classes, counts = np.unique(self.labels, return_counts=True)
        return {int(label): float(count) / len(self) for label, count in zip(classes, counts, strict=True)}

    def entropy(self) -> float:
        """H(label) in nats, the ceiling of I(picture; label)."""
        return -sum(share * math.log(share) for share in self.probability().values())

    def mutual_information(self) -> float:
        """Count I(picture; label) in nats, of a pair drawn from these.

        H(label), less what pictures leave open that stand here several times with different labels.
        """
        by_picture: dict[bytes, list[int]] = {}
        for image, label in zip(self.images, self.labels, strict=True):
            by_picture.setdefault(image.tobytes(), []).append(int(label))
        left = sum(_spread(labels) * len(labels) for labels in by_picture.values()) / len(self)
        return self.entropy() - left

    # ---- drawing ----

    def of(self, labels: Sequence[int]) -> Digits:
        """Keep the pairs of these labels.

        Raises:
            ValueError: if there are none.
        """
        return self._rows(np.flatnonzero(np.isin(self.labels, [whole(label, "a label", 0) for label in labels])))

    def sample(self, count: int, seed: int = 0) -> Digits:
        """Draw different pairs, in random order.

        Raises:
            ValueError: for more than there are.
        """
        if whole(count, "count", 1, " pair") > len(self):
            raise ValueError(f"count is {count}; expected at most {len(self)}, as many as there are")
        return self._rows(np.random.default_rng(whole(seed, "seed", 0)).permutation(len(self))[:count])

    def _rows(self, rows: NDArray[np.int64]) -> Digits:
        return Digits(self.images[rows], self.labels[rows])


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return read_idx(path)
    raise FileNotFoundError(f"there is no {name} in {folder}, gzipped or not; fetch MNIST's four files")


def _spread(labels: list[int]) -> float:
    """Entropy, in nats, of a label drawn from a list."""
    counts = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(counts * np.log(counts)).sum())
