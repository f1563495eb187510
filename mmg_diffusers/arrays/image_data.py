"""Image data sets as people keep them: MNIST's own files, parquet, folders of pictures, ids on the hub."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from mmg_diffusers.checks import shown

# The third byte of an idx file names its numbers, the fourth counts its axes (LeCun, Cortes and Burges).
_UBYTE = 8


@dataclass(frozen=True)
class ImageSet:
    """`images` is `(N, H, W)` or `(N, H, W, C)` uint8; `labels` `(N,)` int64, where there are some."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


def read_images(source: str | Path, image: str = "image", label: str = "label", split: str = "train") -> ImageSet:
    """Read a whole image data set.

    Args:
        source: a folder with idx files (``train-images-idx3-ubyte``, gzipped or not, with their labels), whose parts are
            joined; a parquet file or a folder of them; a folder of pictures; or an id on the hub.
        image, label: columns; a label is not needed.
        split: of a data set on the hub.

    Raises:
        FileNotFoundError: when a path does not exist.
        ValueError: for files that are truncated or of another kind, and pictures that differ in size.
    """
    path = Path(source)
    if path.is_dir():
        idx = sorted(part for part in path.iterdir() if "-images" in part.name and "ubyte" in part.name)
        if idx:
            return _read_idx_pairs(idx)
        tables = sorted(path.rglob("*.parquet"))
        if tables:
            return _join([_read_parquet(table, image, label) for table in tables], path)
        return _read_datasets(image, label, path="imagefolder", data_dir=str(path), split="train")
    if path.suffix == ".parquet":
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; expected a parquet file of images")
        return _read_parquet(path, image, label)
    if path.exists() or path.is_absolute() or str(source).startswith("."):
        raise FileNotFoundError(
            f"{path} is no image data set; expected a folder (idx files, parquet, pictures) or a parquet file"
        )
    return _read_datasets(image, label, path=str(source), split=split)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """One idx file of bytes, gzipped or not.

    Raises:
        ValueError: when it is truncated, or no idx file of bytes.
    """
    body = path.read_bytes()
    try:
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file: {error}. Fetch it again") from error
    if len(body) < 4 or body[:2] != b"\0\0" or body[2] != _UBYTE:
        raise ValueError(f"{path} begins with {shown(body[:4])}; expected an idx file of unsigned bytes")
    axes = body[3]
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(body[k : k + 4], "big") for k in range(4, start, 4))
    if len(body) - start != math.prod(shape):
        raise ValueError(f"{path} says shape {shape} and holds {len(body) - start} values; fetch it again")
    return np.frombuffer(body, dtype=np.uint8, offset=start).reshape(shape)


def _read_idx_pairs(paths: list[Path]) -> ImageSet:
    parts: list[ImageSet] = []
    for path in paths:
        images, beside = read_idx(path), path.with_name(path.name.replace("-images", "-labels").replace("idx3", "idx1"))
        labels = read_idx(beside).astype(np.int64) if beside.is_file() else None
        if images.ndim != 3 or (labels is not None and labels.shape != (len(images),)):
            raise ValueError(
                f"{path} holds shape {images.shape}; expected (N, H, W) and as many labels in {beside.name}"
            )
        parts.append(ImageSet(images, labels))
    return _join(parts, paths[0].parent)


def _read_parquet(path: Path, image: str, label: str) -> ImageSet:
    import pandas

    try:
        table = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    if image not in table.columns:
        raise ValueError(f"{path} has the columns {shown(list(table.columns))}; expected {shown(image)} among them")
    labels = table[label].to_numpy() if label in table.columns else None
    return _decoded(table[image], labels, str(path))


def _read_datasets(image: str, label: str, **arguments: Any) -> ImageSet:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"reading {arguments} needs the package `datasets`: pip install 'mmg-diffusers[data]'"
        ) from error
    found = datasets.load_dataset(**arguments)
    columns = found.column_names
    if image not in columns:
        raise ValueError(f"{arguments} has the columns {shown(columns)}; expected {shown(image)} among them")
    labels = np.asarray(found[label]) if label in columns else None
    return _decoded(tqdm(found[image], desc="reading images", unit="image"), labels, str(arguments))


def _decoded(cells: Iterable[Any], labels: NDArray[Any] | None, where: str) -> ImageSet:
    pictures: list[NDArray[np.uint8]] = []
    for row, cell in enumerate(cells):
        try:
            picture = cell if isinstance(cell, Image.Image) else Image.open(io.BytesIO(cell["bytes"]))
            picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
        except (UnidentifiedImageError, OSError, TypeError, KeyError) as error:
            raise ValueError(f"{where}: row {row} holds no picture ({error}); repair it or leave it out") from error
        pictures.append(np.asarray(picture))
        if pictures[-1].shape != pictures[0].shape:
            raise ValueError(
                f"{where}: row {row} has shape {pictures[-1].shape}, row 0 {pictures[0].shape}; use one size"
            )
    if not pictures:
        raise ValueError(f"{where} holds no picture")
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{where}: labels have dtype {labels.dtype}; expected integers")
    return ImageSet(np.stack(pictures), None if labels is None else labels.astype(np.int64))


def _join(parts: list[ImageSet], where: Path) -> ImageSet:
    if len({part.images.shape[1:] for part in parts}) > 1:
        raise ValueError(f"{where} holds pictures of shapes {[part.images.shape[1:] for part in parts]}; use one size")
    labels = [part.labels for part in parts if part.labels is not None]
    return ImageSet(
        np.concatenate([part.images for part in parts]), np.concatenate(labels) if len(labels) == len(parts) else None
    )
