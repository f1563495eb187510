"""What the codecs of families share: VAE latents, pixels, text encoders, and what these leave unseen of a prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmg_diffusers.internals import execution_device, preprocessed, without_private
from mmg_diffusers.pairs.prompts import Masked
from mmg_diffusers.pipelines.adapters import masking
from mmg_diffusers.pipelines.adapters.base import Codec, Origin
from mmg_diffusers.pipelines.media import Videos

# Switches of an autoencoder that are no part of its config.
_VAE_SWITCHES = (
    *("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor"),
    # Those of videos.
    *("use_framewise_encoding", "num_sample_frames_batch_size", "tile_sample_min_num_frames"),
    *("tile_sample_min_height", "tile_sample_min_width", "tile_sample_stride_height", "tile_sample_stride_width"),
    *("tile_sample_stride_num_frames", "tile_overlap_factor_height", "tile_overlap_factor_width"),
)


class PipelineCodec(Codec):
    """A codec of a pipeline with text encoders. A family writes `encode_prompts`, and `native_size`, `multiple` and
    `encode_images` unless it takes them from `LatentCodec` or `PixelCodec`.

    Args:
        pipe: the pipeline of diffusers.
    """

    denoiser: ClassVar[str] = "transformer"
    """Which component of the pipeline denoises."""
    encoders: ClassVar[Mapping[str, str]] = {"text_encoder": "tokenizer"}
    """Components that encode text, each with its tokenizer. Those that the pipeline does not have are passed over."""
    variable: ClassVar[str]
    """What the information speaks of, for the record."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @property
    def network(self) -> Any:
        """The denoising network of diffusers."""
        return getattr(self.pipe, self.denoiser)

    @property
    def device(self) -> torch.device:
        return execution_device(self.pipe)

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        if kind == "image":
            return None
        encoders = [getattr(self.pipe, name, None) for name in self.encoders]
        tokenizers = [getattr(self.pipe, name, None) for name in self.encoders.values()]
        there = tuple(encoder for encoder in encoders if encoder is not None)
        settings = {str(place): without_private(part.config.to_dict()) for place, part in enumerate(there)}
        return Origin(
            there, tuple(each for each in tokenizers if each is not None), {**settings, **self.text_settings()}
        )

    def text_settings(self) -> dict[str, Any]:
        """What a prompt's encoding depends on beside the encoders and tokenizers; into the record too."""
        return {}

    def rewritten(self, prompt: str) -> str:
        """What the pipeline makes of a prompt before it is tokenized: lower case, an instruction in front."""
        return prompt

    def tokenized(self, prompt: str, name: str) -> str:
        """The text of a prompt that a tokenizer is given: `rewritten`, and with all vectors of tokens of textual inversion.

        Args:
            prompt: text.
            name: of the tokenizer in the pipeline.
        """
        text = self.rewritten(prompt)
        expand = getattr(self.pipe, "maybe_convert_prompt", None)
        return text if expand is None else expand(text, getattr(self.pipe, name))

    def check_masked(self, prompt: Masked) -> None:
        masking.check_masked(self, prompt)

    @torch.inference_mode()
    def encode_masked(self, prompt: Masked) -> dict[str, Tensor]:
        return masking.encode_masked(self, prompt)

    def text_encoders(self) -> dict[str, str]:
        there = {name: getattr(self.pipe, name, None) for name in self.encoders}
        return {name: "missing" if part is None else type(part).__name__ for name, part in there.items()}

    def limits(self) -> dict[str, int]:
        """Tokens that each of the tokenizers lets through, its opening and closing ones among them."""
        there = [name for name in self.encoders.values() if getattr(self.pipe, name, None) is not None]
        return {name: getattr(self.pipe, name).model_max_length for name in there}

    def truncated(self, prompt: str) -> str | None:
        """The part of a prompt that none of the text encoders sees."""
        lost = list(self._lost(prompt).values())
        return min(lost, key=len) or None if lost else None

    def cut(self, prompt: str) -> dict[str, str]:
        limits, called = self.limits(), {tokenizer: encoder for encoder, tokenizer in self.encoders.items()}
        return {
            f"{called.get(name, name)} ({limits[name]} tokens)": end for name, end in self._lost(prompt).items() if end
        }

    def _lost(self, prompt: str) -> dict[str, str]:
        """The end of a prompt that each tokenizer cuts off; empty where it fits."""
        return {
            name: unseen(getattr(self.pipe, name), self.tokenized(prompt, name), most)
            for name, most in self.limits().items()
        }

    @property
    def channels(self) -> int:
        """Channels of the variable."""
        return self.network.config.in_channels

    def describe(self) -> dict[str, Any]:
        height, width = self.native_size
        return {
            "variable": self.variable,
            "latent_shape": [self.channels, height, width],
            **self.text_settings(),
            "dtype": str(self.network.dtype).removeprefix("torch."),
        }


def unseen(tokenizer: Any, text: str, limit: int) -> str:
    """The end of a text that does not fit into `limit` tokens; empty if it fits."""
    tokens = tokenizer(text, truncation=False, verbose=False).input_ids
    closing = int(bool(tokens) and tokens[-1] in tokenizer.all_special_ids)
    return tokenizer.decode(tokens[limit - closing : len(tokens) - closing]) if len(tokens) > limit else ""


def size_of(network: Any, default: Any = None) -> tuple[int, int]:
    """Height and width that a network's config names as its own.

    Args:
        network: of diffusers.
        default: the size if its config names none.
    """
    size = network.config.get("sample_size", default)
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


class CleaningCodec(PipelineCodec):
    """For pipelines that clean prompts of markup and links by default, if bs4 and ftfy are installed, and else make them lower
    case. The record says which. Stands before `LatentCodec` or `PixelCodec` among the bases.
    """

    @property
    def cleans(self) -> bool:
        """What ``clean_caption`` of the pipeline comes to here."""
        from diffusers.utils import is_bs4_available, is_ftfy_available

        return is_bs4_available() and is_ftfy_available()

    def rewritten(self, prompt: str) -> str:
        return preprocessed(self.pipe, prompt, self.cleans)

    def text_settings(self) -> dict[str, Any]:
        cleaned = "cleaned of markup and links, in lower case"
        return {"prompts": cleaned if self.cleans else "in lower case, not cleaned (bs4 or ftfy is not installed)"}


class PixelCodec(PipelineCodec):
    """Pixels in [-1, 1], for networks that denoise these."""

    variable = "pixels in [-1, 1]"

    @property
    def native_size(self) -> tuple[int, int]:
        return size_of(self.network)

    @property
    def multiple(self) -> int:
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def encode_images(self, images: Tensor) -> Tensor:
        return (2 * images - 1).to(self.device)


class LatentCodec(PipelineCodec):
    """VAE latents: the posterior's mode, shifted and scaled as the pipeline does it.

    A family whose VAE works otherwise overrides `scale` (pixels for one latent), `patch` (latents for one token), `read` (the
    unscaled latents of images) or `normalised`.
    """

    variable = "VAE latent (posterior mode)"
    normalised: ClassVar[bool] = False
    """Whether the pipeline heeds ``latents_mean`` and ``latents_std`` in the VAE's config."""
    packed: ClassVar[int | None] = None
    """Latents along either axis that the pipeline packs into one token before the network gets them; ``None`` if it does not."""

    @property
    def autoencoder(self) -> Any:
        """The component that makes latents of images."""
        return self.pipe.vae

    @property
    def scale(self) -> int:
        """Pixels of an image for one of its latent, along either axis."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    @property
    def patch(self) -> int:
        """Latents that the network takes together, along either axis."""
        config = self.network.config
        if self.packed is not None:
            return self.packed
        return 2 ** (len(config.block_out_channels) - 1) if "block_out_channels" in config else config.patch_size

    @property
    def channels(self) -> int:
        return super().channels // (self.packed or 1) ** 2

    @property
    def native_size(self) -> tuple[int, int]:
        # 128 latents, if the network's config says nothing, are what the pipelines of packed tokens take.
        height, width = size_of(self.network, getattr(self.pipe, "default_sample_size", 128))
        return height * self.scale, width * self.scale

    @property
    def multiple(self) -> int:
        return self.scale * self.patch

    @property
    def tokens(self) -> int:
        """Image tokens of the native size, which dynamic shifts of flow times depend on."""
        height, width = self.native_size
        return (height // self.multiple) * (width // self.multiple)

    @property
    def places(self) -> int | None:
        """Tokens along either axis that the network has positions for; ``None`` if for any number, or if the family says so
        otherwise.
        """  # fmt: skip
        return None

    def check_size(self, height: int, width: int) -> None:
        if self.places is not None and max(height, width) > self.places * self.multiple:
            raise ValueError(
                f"an image of {height} x {width} is larger than the {self.places * self.multiple} pixels that the transformer has "
                "positions for; crop it, or pass resize=True"
            )

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        if kind == "prompt":
            return super().origin(kind)
        vae = self.autoencoder
        switches = {name: getattr(vae, name, None) for name in _VAE_SWITCHES}
        return Origin((vae,), (), {**without_private(vae.config), **switches})

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        with wide_enough(self.autoencoder) as vae:
            latents = self.read((2 * images - 1).to(self.device, vae.dtype)).float()
        mean, std, shift, factor = self.scaling()
        if mean is not None and std is not None:
            axes = (1, -1, *(1,) * (latents.ndim - 2))
            latents = (latents - latents.new_tensor(mean).view(axes)) / latents.new_tensor(std).view(axes)
        return (latents - shift) * factor

    def read(self, images: Tensor) -> Tensor:
        """The VAE's latents of images in [-1, 1], neither shifted nor scaled."""
        encoded = self.autoencoder.encode(images)
        # A tiny autoencoder has no posterior; a Gaussian one is read at its mode, so that x is a function of the image.
        if hasattr(encoded, "latent_dist"):
            return encoded.latent_dist.mode()
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent

    def scaling(self) -> tuple[Any, Any, float, float]:
        """Mean and deviation per channel, shift and factor: x = ((latent - mean) / deviation - shift) factor."""
        config = self.autoencoder.config
        mean, std = (config.get(name) if self.normalised else None for name in ("latents_mean", "latents_std"))
        factor = config.get("scaling_factor")
        return mean, std, config.get("shift_factor") or 0.0, 1.0 if factor is None else factor

    def describe(self) -> dict[str, Any]:
        mean, std, shift, factor = self.scaling()
        height, width = self.native_size
        said = super().describe()
        said["latent_shape"] = [said["latent_shape"][0], height // self.scale, width // self.scale]
        more = {"latent_shift": shift or None, "latent_mean": mean and list(mean), "latent_std": std and list(std)}
        return {**said, "latent_scaling": factor, **{key: value for key, value in more.items() if value is not None}}


class VideoCodec(LatentCodec):
    """VAE latents `(C, T, h, w)` of a video; an image is one of one frame, as networks for video were trained on images too.

    A family says `native_frames`, and `group` unless its VAE's config has it as most do.
    """

    @property
    def group(self) -> int:
        """Pictures that a latent after the first is made of."""
        config = self.autoencoder.config
        return config.get("scale_factor_temporal") or config.temporal_compression_ratio

    @property
    def taken(self) -> int:
        """Latents along time that the network takes together."""
        return 1

    @property
    def medium(self) -> Videos:
        return Videos(self.group, self.taken)

    @property
    @abstractmethod
    def native_frames(self) -> int:
        """Frames of the videos that the model was trained on, or that its pipeline makes unless it is told otherwise."""

    @property
    def tokens(self) -> int:
        return super().tokens * len(self.medium.pictures(self.native_frames)) // self.taken

    def read(self, images: Tensor) -> Tensor:
        # Pipelines have the channels before the frames.
        return super().read(images.transpose(1, 2))

    def describe(self) -> dict[str, Any]:
        said, latents = super().describe(), len(self.medium.pictures(self.native_frames))
        channels, *size = said["latent_shape"]
        return {
            **said,
            "frames": self.medium.said,
            "native_frames": self.native_frames,
            "latent_shape": [channels, latents, *size],
        }


@contextmanager
def wide_enough(vae: Any) -> Iterator[Any]:
    """A VAE in float32, if it is in float16 and its config says that it overflows there; afterwards as it was."""
    narrow = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
    if narrow:
        vae.to(torch.float32)
    try:
        yield vae
    finally:
        if narrow:
            vae.to(torch.float16)
