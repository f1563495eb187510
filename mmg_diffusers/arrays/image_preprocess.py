"""Variables made ready for an `ImageNetwork`: images standardised by channel, everything else laid on one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmg_diffusers.arrays.image_networks import channel_covariance
from mmg_diffusers.arrays.preprocess import Preprocessing, as_array
from mmg_diffusers.checks import shown
from mmg_diffusers.files.records import within


def is_image(values: ArrayLike | Tensor) -> bool:
    """Whether values are pictures, `(N, H, W)`, `(N, H, W, C)` or a tensor `(N, C, H, W)`; else they are vectors or labels."""
    return (values.ndim if isinstance(values, (Tensor, np.ndarray)) else np.ndim(values)) > 2


def as_pictures(values: ArrayLike | Tensor, name: str) -> Tensor:
    """Pictures as `(N, C, H, W)` float32; bytes are divided by 255.

    Args:
        values: an array `(N, H, W)` or `(N, H, W, C)`, or a tensor `(N, C, H, W)`.
        name: how the user knows them.

    Raises:
        ValueError: for other shapes and dtypes, or values that are not finite.
    """
    if isinstance(values, Tensor):
        found = values.detach().cpu()
        if found.ndim != 4 or not found.numel():
            raise ValueError(f"{name} is a tensor of shape {tuple(values.shape)}; expected (N, C, H, W)")
    else:
        array: NDArray[Any] = np.asarray(values)
        if array.dtype.kind not in "buf":
            raise ValueError(f"{name} has dtype {array.dtype}; expected uint8, or floats")
        array = array[..., None] if array.ndim == 3 else array
        if array.ndim != 4 or not array.size:
            raise ValueError(f"{name} is an array of shape {np.shape(values)}; expected (N, H, W) or (N, H, W, C)")
        found = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
    if found.dtype == torch.uint8:
        return found.float() / 255
    found = found.float()
    bad = (~found.isfinite().flatten(1).all(1)).nonzero().flatten()
    if len(bad):
        raise ValueError(f"{name} has NaN or infinite values in rows {bad[:10].tolist()}; remove or repair these pairs")
    return found


@dataclass(frozen=True)
class Picture:
    """How one image variable is standardised: mean and deviation of each channel, and the shape that was seen."""

    mean: Tensor
    deviation: Tensor
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class ImagePreprocessing:
    """Maps that keep mutual information, fitted on the training part alone, and the law of the channels of a pixel.

    Args:
        pictures: by name.
        vectors: of the variables that are vectors or labels, by name; each becomes an image of one pixel.
        covariance: of all channels at one pixel; see `ImageNetwork`.
    """

    pictures: Mapping[str, Picture]
    vectors: Mapping[str, Preprocessing]
    covariance: Tensor
    order: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of the fit."""
        return self.order

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(channels, height, width) of each variable, as the network sees it."""
        return {
            name: self.pictures[name].shape if name in self.pictures else (self.vectors[name].sizes[name], 1, 1)
            for name in self.order
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return tuple(note for vector in self.vectors.values() for note in vector.notes)

    @staticmethod
    def fit(data: Mapping[str, ArrayLike | Tensor]) -> ImagePreprocessing:
        """Fit to the training part: pictures (see `as_pictures`), vectors and labels (see `as_array`) by name.

        Raises:
            ValueError: for a channel that is constant, and as those do.
        """
        pictures: dict[str, Picture] = {}
        vectors: dict[str, Preprocessing] = {}
        for name, values in data.items():
            if not is_image(values):
                vectors[name] = Preprocessing.fit({name: as_array(values, name)})
                continue
            found = as_pictures(values, name)
            deviation, mean = torch.std_mean(found.double(), (0, 2, 3))
            flat = (deviation <= 1e-9).nonzero().flatten().tolist()
            if flat:
                raise ValueError(f"{name} has constant channels {flat}, which carry no information; remove them")
            channels, height, width = found.shape[1:]
            pictures[name] = Picture(mean, deviation, (channels, height, width))
        draft = ImagePreprocessing(pictures, vectors, torch.zeros(0), tuple(data))
        few = {name: values[:2000] for name, values in draft(data).items()}
        return ImagePreprocessing(pictures, vectors, channel_covariance(few), tuple(data))

    def __call__(self, data: Mapping[str, ArrayLike | Tensor]) -> dict[str, Tensor]:
        """Raw values made ready, `(N, C, H, W)` float32.

        Raises:
            ValueError: for a variable that was not fitted, or pictures of another shape.
        """
        return {name: self._one(name, values) for name, values in data.items()}

    def _one(self, name: str, values: ArrayLike | Tensor) -> Tensor:
        if name in self.vectors:
            return self.vectors[name]({name: values})[name].float()[:, :, None, None]
        if name not in self.pictures:
            raise ValueError(f"no variable {shown(name)}; fitted were {', '.join(self.order)}")
        known, found = self.pictures[name], as_pictures(values, name)
        if found.shape[1:] != known.shape:
            raise ValueError(f"{name} has pictures of shape {tuple(found.shape[1:])}; fitted were {known.shape}")
        mean, deviation = (part.float().view(1, -1, 1, 1) for part in (known.mean, known.deviation))
        return (found - mean) / deviation

    # ---- as a file keeps it ----

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Everything in it: what JSON can hold, and tensors by name."""
        record: dict[str, Any] = {"order": list(self.order), "pictures": {}, "vectors": {}}
        tensors = {"covariance": self.covariance}
        for name, picture in self.pictures.items():
            record["pictures"][name] = list(picture.shape)
            tensors |= {f"{name}/mean": picture.mean, f"{name}/deviation": picture.deviation}
        for name, vector in self.vectors.items():
            record["vectors"][name], own = vector.state()
            tensors |= {f"{name}/{key}": value for key, value in own.items()}
        return record, tensors

    @staticmethod
    def from_state(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ImagePreprocessing:
        """What `state` described.

        Raises:
            KeyError: for what is missing.
        """
        pictures: dict[str, Picture] = {}
        for name, (channels, height, width) in record["pictures"].items():
            shape = (channels, height, width)
            pictures[name] = Picture(tensors[f"{name}/mean"], tensors[f"{name}/deviation"], shape)
        vectors: dict[str, Preprocessing] = {}
        for name, kept in record["vectors"].items():
            vectors[name] = Preprocessing.from_state(kept, within(tensors, name))
        return ImagePreprocessing(pictures, vectors, tensors["covariance"], tuple(record["order"]))
