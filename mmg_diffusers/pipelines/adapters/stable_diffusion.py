"""Stable Diffusion 1.x and 2.x: UNet on VAE latents, CLIP text, epsilon or v-prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import finite, shown
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.pairs.prompts import Masked
from mmg_diffusers.pipelines.adapters.base import Codec, Origin
from mmg_diffusers.pipelines.schedulers import convention_from_config

_DISTILLED = ("turbo", "lightning", "lcm", "hyper-sd")
# Switches of an autoencoder that are no part of its config.
_VAE_SWITCHES = ("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor")
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
# Entries of a UNet's config that are set where it is called with more than a noisy latent, a time and text.
_MORE_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")


class _UNet(nn.Module):
    """The UNet's call, with positional input and time."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        states = encoder_hidden_states.to(x.dtype)
        return self.unet(x, time, encoder_hidden_states=states, return_dict=False)[0]


class StableDiffusionCodec(Codec):
    """VAE latents (posterior mode, scaled) and CLIP token states."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @property
    def native_size(self) -> tuple[int, int]:
        size = self.pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.pipe.vae_scale_factor, width * self.pipe.vae_scale_factor

    @property
    def multiple(self) -> int:
        return self.pipe.vae_scale_factor * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return self.pipe._execution_device

    def origin(self, kind: Literal["image", "prompt"]) -> Origin:
        if kind == "image":
            vae = self.pipe.vae
            switches = {name: getattr(vae, name, None) for name in _VAE_SWITCHES}
            return Origin((vae,), (), {**_shared(vae.config), **switches})
        encoder, tokenizer = self.pipe.text_encoder, self.pipe.tokenizer
        return Origin((encoder,), (tokenizer,), _shared(encoder.config.to_dict()))

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipe.vae
        images = (2 * images - 1).to(self.pipe._execution_device, vae.dtype)
        encoded = vae.encode(images)
        # A tiny autoencoder has no posterior; a Gaussian one is read at its mode, so that x is a function of the image.
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (latents.float() - shift) * vae.config.scaling_factor

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(list(prompts), self.pipe._execution_device, 1, False)
        return {"encoder_hidden_states": states}

    def _masked_tokens(self, prompt: Masked) -> list[slice]:
        """The tokens of the masked words."""
        tokenizer, text = self.pipe.tokenizer, prompt.text
        found: list[slice] = []
        for span in prompt.spans:
            # Tokens before the word, and up to its end, with the opening one and without the closing one.
            first, last = (len(tokenizer(text[:cut], verbose=False).input_ids) - 1 for cut in span)
            if last <= first or last >= tokenizer.model_max_length:
                raise ValueError(
                    f"the text encoder does not see {shown(text[slice(*span)])} in {shown(text)}; there is nothing to mask"
                )
            found.append(slice(first, last))
        return found

    def check_masked(self, prompt: Masked) -> None:
        self._masked_tokens(prompt)

    @torch.inference_mode()
    def encode_masked(self, prompt: Masked) -> dict[str, Tensor]:
        tokenizer, encoder, device = self.pipe.tokenizer, self.pipe.text_encoder, self.pipe._execution_device
        tokens = tokenizer(
            prompt.text,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        ids = tokens.input_ids.clone()
        for masked in self._masked_tokens(prompt):
            ids[:, masked] = tokenizer.pad_token_id
        mask = tokens.attention_mask.to(device) if getattr(encoder.config, "use_attention_mask", False) else None
        return {"encoder_hidden_states": encoder(ids.to(device), attention_mask=mask)[0].to(encoder.dtype)}

    def truncated(self, prompt: str) -> str | None:
        tokenizer = self.pipe.tokenizer
        limit = tokenizer.model_max_length
        tokens = tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(tokens) <= limit:
            return None
        return tokenizer.decode(tokens[limit - 1 : -1])

    def describe(self) -> dict[str, Any]:
        config = self.pipe.vae.config
        height, width = self.native_size
        scale = self.pipe.vae_scale_factor
        return {
            "family": "Stable Diffusion 1.x/2.x",
            "variable": "VAE latent (posterior mode)",
            "latent_shape": [config.latent_channels, height // scale, width // scale],
            "latent_scaling": config.scaling_factor,
            "null": "the encoded empty prompt",
            "dtype": str(self.pipe.unet.dtype).removeprefix("torch."),
        }


def _shared(config: Any) -> dict[str, Any]:
    """A config without where it was loaded from."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def adapt_stable_diffusion(pipe: Any) -> tuple[Adapted, StableDiffusionCodec]:
    """Adapt a Stable Diffusion 1.x or 2.x pipeline. Only the training part of its scheduler's config is read.

    Raises:
        ValueError: for a guidance-distilled UNet, which has no unconditional branch, one whose input is more
            than the noisy latent (inpainting, depth, x4 upscaling), a pipeline that lacks a part, or parts that do not
            fit each other.
    """
    lacking = [name for name in _PARTS if getattr(pipe, name, None) is None]
    if lacking:
        raise ValueError(f"the pipeline has no {lacking[0]}; load it with all of {', '.join(_PARTS)}")
    config = pipe.unet.config
    name = str(getattr(pipe.config, "_name_or_path", "")).rsplit("/", 1)[-1].lower()
    if config.get("time_cond_proj_dim") is not None or any(word in name for word in _DISTILLED):
        raise ValueError(
            f"{name or 'this model'} is guidance-distilled: its network was never trained without a prompt, so its empty "
            "prompt is no marginal. Measure the model that it was distilled from, or compare candidate prompts with "
            "`measure_candidates`, which needs no unconditional branch."
        )
    channels = pipe.vae.config.latent_channels
    if config.in_channels != channels:
        raise ValueError(
            f"the UNet takes {config.in_channels} channels where the latent has {channels}: it is also given an image or "
            "mask (inpainting, depth, upscaling), which is not supported"
        )
    more = {key: config[key] for key in _MORE_INPUTS if config.get(key) is not None}
    if more:
        raise ValueError(
            f"the UNet is given more than a noisy latent, a time and text ({more}), which is not supported"
        )
    if not isinstance(config.sample_size, (int, list, tuple)):
        raise ValueError(
            f"the UNet's config has sample_size {shown(config.sample_size)}; expected the size of its latents"
        )
    if finite(pipe.vae.config.scaling_factor, "the VAE's scaling_factor") <= 0:
        raise ValueError(f"the VAE's scaling_factor is {pipe.vae.config.scaling_factor}; expected a factor above 0")
    width, given = config.cross_attention_dim, pipe.text_encoder.config.hidden_size
    if isinstance(width, int) and width != given:
        raise ValueError(
            f"the UNet takes text of width {width} where the text encoder gives {given}: they are parts of different models"
        )
    known, named = pipe.text_encoder.get_input_embeddings().num_embeddings, len(pipe.tokenizer)
    if named > known:
        raise ValueError(
            f"the tokenizer names {named} tokens where the text encoder knows {known}: its files are of another model"
        )
    tokens, positions = pipe.tokenizer.model_max_length, pipe.text_encoder.config.max_position_embeddings
    if tokens > positions:
        raise ValueError(
            f"the tokenizer allows {tokens} tokens where the text encoder has {positions} positions: its files are missing "
            "or of another model"
        )
    codec = StableDiffusionCodec(pipe)
    null = codec.encode_prompts([""])
    convention = convention_from_config(type(pipe.scheduler).__name__, pipe.scheduler.config)
    return Adapted(_UNet(pipe.unet), convention, null), codec
