"""Stable Diffusion 1.x and 2.x: UNet on VAE latents, CLIP text, epsilon or v-prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import finite
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.internals import execution_device, loaded_from, without_private
from mmg_diffusers.pairs.prompts import Masked
from mmg_diffusers.pipelines.adapters.base import Codec, Family, Origin, register
from mmg_diffusers.pipelines.schedulers import convention_from_config

_DISTILLED = ("turbo", "lightning", "lcm", "hyper-sd")
# Switches of an autoencoder that are no part of its config.
_VAE_SWITCHES = ("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor")
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
    def scale(self) -> int:
        """Pixels of an image for one of its latent, along either axis."""
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    @property
    def native_size(self) -> tuple[int, int]:
        size = self.pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.scale, width * self.scale

    @property
    def multiple(self) -> int:
        return self.scale * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return execution_device(self.pipe)

    def origin(self, kind: Literal["image", "prompt"]) -> Origin:
        if kind == "image":
            vae = self.pipe.vae
            switches = {name: getattr(vae, name, None) for name in _VAE_SWITCHES}
            return Origin((vae,), (), {**without_private(vae.config), **switches})
        encoder, tokenizer = self.pipe.text_encoder, self.pipe.tokenizer
        return Origin((encoder,), (tokenizer,), without_private(encoder.config.to_dict()))

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipe.vae
        images = (2 * images - 1).to(execution_device(self.pipe), vae.dtype)
        encoded = vae.encode(images)
        # A tiny autoencoder has no posterior; a Gaussian one is read at its mode, so that x is a function of the image.
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (latents.float() - shift) * vae.config.scaling_factor

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(list(prompts), execution_device(self.pipe), 1, False)
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
                    f"the text encoder does not see {text[slice(*span)]!r} in {text!r}; there is nothing to mask"
                )
            found.append(slice(first, last))
        return found

    def check_masked(self, prompt: Masked) -> None:
        self._masked_tokens(prompt)

    @torch.inference_mode()
    def encode_masked(self, prompt: Masked) -> dict[str, Tensor]:
        tokenizer, encoder, device = self.pipe.tokenizer, self.pipe.text_encoder, execution_device(self.pipe)
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
        return {
            "family": StableDiffusion.name,
            "variable": "VAE latent (posterior mode)",
            "latent_shape": [config.latent_channels, height // self.scale, width // self.scale],
            "latent_scaling": config.scaling_factor,
            "null": "the encoded empty prompt",
            "dtype": str(self.pipe.unet.dtype).removeprefix("torch."),
        }


@register
class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x. Only the training part of the scheduler's config is read.

    Refused are guidance-distilled UNets, which have no unconditional branch, those whose input is more than the noisy latent
    (inpainting, depth, x4 upscaling), and parts that do not fit each other.
    """

    name = "Stable Diffusion 1.x/2.x"
    pipelines = ("StableDiffusionPipeline",)
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet)

    def codec(self) -> StableDiffusionCodec:
        return StableDiffusionCodec(self.pipe)

    def convention(self) -> Convention:
        scheduler = self.pipe.scheduler
        return convention_from_config(type(scheduler).__name__, scheduler.config)

    def refusal(self) -> str | None:
        pipe = self.pipe
        config = pipe.unet.config
        name = loaded_from(pipe).rsplit("/", 1)[-1].lower()
        if config.get("time_cond_proj_dim") is not None or any(word in name for word in _DISTILLED):
            return (
                f"{name or 'this model'} is guidance-distilled: its network was never trained without a prompt, so its empty "
                "prompt is no marginal. Measure the model that it was distilled from, or compare candidate prompts with "
                "`measure_candidates`, which needs no unconditional branch."
            )
        channels = pipe.vae.config.latent_channels
        if config.in_channels != channels:
            return (
                f"the UNet takes {config.in_channels} channels where the latent has {channels}: it is also given an image or "
                "mask (inpainting, depth, upscaling), which is not supported"
            )
        more = {key: config[key] for key in _MORE_INPUTS if config.get(key) is not None}
        if more:
            return f"the UNet is given more than a noisy latent, a time and text ({more}), which is not supported"
        if not isinstance(config.sample_size, (int, list, tuple)):
            return f"the UNet's config has sample_size {config.sample_size!r}; expected the size of its latents"
        if finite(pipe.vae.config.scaling_factor, "the VAE's scaling_factor") <= 0:
            return f"the VAE's scaling_factor is {pipe.vae.config.scaling_factor}; expected a factor above 0"
        return None if pipe.text_encoder is None else self._text_refusal()

    def _text_refusal(self) -> str | None:
        """Why the text encoder fits neither the UNet nor the tokenizer."""
        pipe = self.pipe
        width, given = pipe.unet.config.cross_attention_dim, pipe.text_encoder.config.hidden_size
        if isinstance(width, int) and width != given:
            return f"the UNet takes text of width {width} where the text encoder gives {given}: they are parts of different models"
        known, named = pipe.text_encoder.get_input_embeddings().num_embeddings, len(pipe.tokenizer)
        if named > known:
            return f"the tokenizer names {named} tokens where the text encoder knows {known}: its files are of another model"
        tokens, positions = pipe.tokenizer.model_max_length, pipe.text_encoder.config.max_position_embeddings
        if tokens > positions:
            return (
                f"the tokenizer allows {tokens} tokens where the text encoder has {positions} positions: its files are missing "
                "or of another model"
            )
        return None
