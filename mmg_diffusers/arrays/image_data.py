"""Image data sets as people keep them: MNIST's own files, parquet, folders of pictures, ids on the hub."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mmg_diffusers.arrays.values import named
from mmg_diffusers.checks import needs, reason, shown, somebody_looks
from mmg_diffusers.files.hub import check_data_set, kept_if_away
from mmg_diffusers.files.idx import read_idx
from mmg_diffusers.pairs.images import load_image

__all__ = ["ImageSet", "read_idx", "read_images"]


@dataclass(frozen=True)
class ImageSet:
    """`images` is `(N, H, W)` or `(N, H, W, C)` uint8; `labels` `(N,)` int64, or nothing."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


def read_images(source: str | Path, image: str = "image", label: str = "label", split: str = "train") -> ImageSet:
    """Read a whole image data set.

    Args:
        source: a folder with idx files (``train-images-idx3-ubyte``, gzipped or not, with their labels), whose parts are
            joined; a parquet file or a folder of them; a folder of pictures; or an id on the hub. Hidden files, whose names
            begin with a dot, are left out.
        image, label: columns; a label is not needed.
        split: of a data set on the hub.

    Pictures are turned upright and laid on white as `mmg_diffusers.pairs.images` does; grey ones stay grey.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: for files that are truncated or of another kind, and pictures that differ in size; for an id that the hub does not
            have.
        ConnectionError: when the hub is needed, and does not answer.
    """
    path = Path(source)
    if path.is_dir():
        idx = sorted(part for part in _seen(path.iterdir(), path) if "-images" in part.name and "ubyte" in part.name)
        if idx:
            return _read_idx_pairs(idx)
        tables = sorted(_seen(path.rglob("*.parquet"), path))
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
    check_data_set(str(source))
    with kept_if_away(str(source)):
        return _read_datasets(image, label, path=str(source), split=split)


def _seen(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The paths that are not hidden, nor in a hidden folder: a Mac leaves a ``._name`` beside every file it copies."""
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


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
    for package in ("pandas", "pyarrow"):
        needs(package, "data")
    import pandas

    try:
        table = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {reason(error)}") from error
    if image not in table.columns:
        raise ValueError(f"{path} has the columns {named(table.columns)}; expected {shown(image)} among them")
    labels = table[label].to_numpy() if label in table.columns else None
    return _decoded(table[image], labels, str(path))


def _read_datasets(image: str, label: str, **arguments: Any) -> ImageSet:
    needs("datasets", "data")
    import datasets

    try:
        rows = datasets.load_dataset(**arguments)
    except (OSError, ValueError) as error:  # of a folder without pictures, an id that is not known, a hub that is away
        raise ValueError(f"{arguments} cannot be read as an image data set: {reason(error)}") from error
    columns = rows.column_names
    if image not in columns:
        raise ValueError(f"{arguments} has the columns {named(columns)}; expected {shown(image)} among them")
    labels = np.asarray(rows[label]) if label in columns else None
    return _decoded(
        tqdm(rows[image], desc="reading images", unit="image", disable=not somebody_looks()), labels, str(arguments)
    )


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """The same picture as any other way of passing it gives, in bytes: `(H, W, 3)`, or `(H, W)` of a grey one."""
    pixels = (load_image(picture).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    grey = picture.mode in ("1", "L") and "transparency" not in picture.info
    return pixels[..., 0] if grey else pixels


def _decoded(cells: Iterable[Any], labels: NDArray[Any] | None, where: str) -> ImageSet:
    pictures: list[NDArray[np.uint8]] = []
    for row, cell in enumerate(cells):
        try:
            pictures.append(_pixels(cell if isinstance(cell, Image.Image) else Image.open(io.BytesIO(cell["bytes"]))))
        except (OSError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{where}: row {row} holds no picture ({reason(error)}); repair it or leave it out"
            ) from error
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
        shapes = shown(sorted({part.images.shape[1:] for part in parts}))
        raise ValueError(f"{where} holds pictures of the shapes {shapes}; use one size")
    labels = [part.labels for part in parts if part.labels is not None]
    return ImageSet(
        np.concatenate([part.images for part in parts]), np.concatenate(labels) if len(labels) == len(parts) else None
    )
