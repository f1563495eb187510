"""Networks of published sizes, whose weights are random: what a row costs does not ask what they are."""

# diffusers annotates its configs more narrowly than it reads them.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from mmg_diffusers import shapes_model

# Of the text encoders only the widths matter to the network: they have two layers.
_LAYERS = 2


@dataclass(frozen=True)
class Size:
    """A network, and what surrounds it.

    Args:
        kind: class of the network.
        config: of the network, as published.
        texts: widths of CLIP's text encoders; empty if there is no pipeline to run, and rows are only counted.
        tokens, states: of the text that the network is given, and the width of each.
        vae: channels of the autoencoder.
        told: shapes beside the text, which a row is told.
    """

    kind: type[nn.Module]
    config: Mapping[str, Any]
    texts: tuple[int, ...]
    tokens: int
    states: int
    vae: tuple[int, ...] = (128, 256, 512, 512)
    told: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def network(self) -> nn.Module:
        return self.kind(**self.config)


SD15 = Size(
    UNet2DConditionModel,
    {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    (768,),
    77,
    768,
)
SDXL = Size(
    UNet2DConditionModel,
    {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    (768, 1280),
    77,
    2048,
    told={"text_embeds": (1280,), "time_ids": (6,)},
)
SD3 = Size(
    SD3Transformer2DModel,
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    },
    (768, 1280),
    333,
    4096,
    told={"pooled_projections": (2048,)},
)
PIXART = Size(
    PixArtTransformer2DModel,
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 28,
        "attention_head_dim": 72,
        "num_attention_heads": 16,
        "cross_attention_dim": 1152,
        "caption_channels": 4096,
        "interpolation_scale": 2,
        "use_additional_conditions": False,
    },
    (),
    300,
    4096,
)
SIZES = {"sd15": SD15, "sdxl": SDXL, "sd3": SD3}
COUNTED = {**SIZES, "pixart-sigma": PIXART}


def tiny(size: Size) -> Size:
    """The same layout with as little as it can be run with, for tests."""
    least: dict[str, Any] = {"sample_size": 8}
    if size.kind is SD3Transformer2DModel:
        least |= {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 64}
        least |= {"caption_projection_dim": 32, "pooled_projection_dim": 32, "pos_embed_max_size": 8}
        told = {"pooled_projections": (32,)}
        return replace(size, config={**size.config, **least}, texts=(16, 16), states=64, vae=(8,) * 4, told=told)
    blocks, width = len(size.config["block_out_channels"]), 16 * len(size.texts)
    least |= {"block_out_channels": (16, 16, 32, 32)[:blocks], "norm_num_groups": 4, "layers_per_block": 1}
    least |= {"cross_attention_dim": width, "attention_head_dim": 2, "transformer_layers_per_block": 1}
    if size.told:
        least |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 16 + 6 * 8}
    told = {"text_embeds": (16,), "time_ids": (6,)} if size.told else {}
    texts = (16,) * len(size.texts)
    return replace(size, config={**size.config, **least}, texts=texts, states=width, vae=(8,) * 4, told=told)


def pipeline(size: Size, device: torch.device, dtype: torch.dtype) -> DiffusionPipeline:
    """A pipeline of the size's layout, made where it will run, with the Shapes tokenizer."""
    tokenizer = CLIPTokenizer.from_pretrained(shapes_model() / "tokenizer", model_max_length=77)
    plain = len(size.texts) == 1
    latents = size.config.get("in_channels", 4)
    torch.manual_seed(0)
    with torch.device(device):
        texts = [_text_encoder(width, tokenizer, not plain) for width in size.texts]
        vae = AutoencoderKL(
            block_out_channels=size.vae,
            down_block_types=("DownEncoderBlock2D",) * len(size.vae),
            up_block_types=("UpDecoderBlock2D",) * len(size.vae),
            layers_per_block=2,
            latent_channels=latents,
            norm_num_groups=min(32, size.vae[0]),
            shift_factor=0.0609 if size.kind is SD3Transformer2DModel else None,
        )
        network = size.network()
    parts: dict[str, Any] = {"vae": vae, "text_encoder": texts[0], "tokenizer": tokenizer}
    if not plain:
        parts |= {"text_encoder_2": texts[1], "tokenizer_2": tokenizer}
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    if size.kind is SD3Transformer2DModel:
        parts |= {"transformer": network, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)}
        made = StableDiffusion3Pipeline(**parts, text_encoder_3=None, tokenizer_3=None)
    elif plain:
        parts |= {"unet": network, "scheduler": schedule, "safety_checker": None, "feature_extractor": None}
        made = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    else:
        made = StableDiffusionXLPipeline(**parts, unet=network, scheduler=schedule)
    return made.to(device, dtype)


def _text_encoder(width: int, tokenizer: CLIPTokenizer, projected: bool) -> nn.Module:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=4 * width,
        num_hidden_layers=_LAYERS,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


@dataclass(frozen=True)
class Count:
    """FLOP of one row, a multiplication and an addition being two: of the whole, and of the text's keys and values."""

    row: int
    text: int

    @property
    def share(self) -> float:
        """What the text's keys and values are of a row."""
        return self.text / self.row


def count(size: Size) -> Count:
    """Count a row's matrix products and convolutions on tensors that hold no numbers (device ``meta``).

    The text's part is that of the modules of cross attention which make its keys and values, and of the projection of captions before
    them: they depend on the prompt alone. A network whose text takes part in the attention as images do (SD3) has none: there
    they depend on the level.
    """
    counter, text = FlopCounterMode(display=False), 0

    def linear(module: nn.Module, given: tuple[Tensor, ...], _output: object) -> None:
        nonlocal text
        weight = module.weight
        assert isinstance(weight, Tensor)
        text += 2 * given[0].numel() * weight.shape[0]

    with torch.device("meta"):
        network = size.network()
        side = size.config["sample_size"]
        x = torch.empty(1, size.config.get("in_channels", 4), side, side)
        states = torch.empty(1, size.tokens, size.states)
        told = {name: torch.empty(1, *shape) for name, shape in size.told.items()}
        if size.kind is UNet2DConditionModel and told:
            told = {"added_cond_kwargs": told}
        hooks: list[RemovableHandle] = [
            module.register_forward_hook(linear)
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear)
            and (name.endswith(("attn2.to_k", "attn2.to_v")) or name.startswith("caption_projection."))
        ]
        with counter, torch.no_grad():
            network(x, timestep=torch.empty(1), encoder_hidden_states=states, return_dict=False, **told)
    for hook in hooks:
        hook.remove()
    return Count(counter.get_total_flops(), text)
