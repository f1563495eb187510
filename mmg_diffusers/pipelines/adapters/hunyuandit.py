"""HunyuanDiT: transformer on VAE latents with cross attention to a BERT and a T5 encoder, v-prediction with a variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens of the two encoders, and the original size that the pipeline tells of every image.
_TOKENS = {"tokenizer": 77, "tokenizer_2": 256}
_ORIGINAL = (1024, 1024)
# The grid that positions are laid on, in pixels, and the pixels of a latent that it assumes.
_GRID, _SCALE = 512, 8


class _Transformer(Network):
    """The transformer's call, with the rotary grid and the image's size in pixels of x.

    Args:
        module: the transformer of diffusers.
        scale: pixels for one latent.
    """

    def __init__(self, module: Any, scale: int) -> None:
        super().__init__(module)
        self.scale = scale

    def _grid(self, height: int, width: int, device: torch.device) -> Any:
        from diffusers.models.embeddings import get_2d_rotary_pos_embed
        from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

        patch = self.module.config.patch_size
        size = (height // _SCALE // patch, width // _SCALE // patch)
        region = get_resize_crop_region_for_grid(size, _GRID // _SCALE // patch)
        per_head = self.module.inner_dim // self.module.num_heads
        return get_2d_rotary_pos_embed(per_head, region, size, device=device, output_type="pt")

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        encoder_hidden_states: Tensor,
        text_embedding_mask: Tensor,
        encoder_hidden_states_t5: Tensor,
        text_embedding_mask_t5: Tensor,
    ) -> Tensor:
        height, width = (side * self.scale for side in x.shape[-2:])
        return self.module(
            x,
            # The network computes in the dtype of its times.
            time.to(x.dtype),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            text_embedding_mask=text_embedding_mask,
            encoder_hidden_states_t5=encoder_hidden_states_t5.to(x.dtype),
            text_embedding_mask_t5=text_embedding_mask_t5,
            image_meta_size=x.new_tensor([*_ORIGINAL, height, width, 0, 0]).repeat(len(x), 1),
            style=torch.zeros(len(x), dtype=torch.int64, device=x.device),
            image_rotary_emb=self._grid(height, width, x.device),
            return_dict=False,
        )[0]


class HunyuanDiTCodec(LatentCodec):
    """VAE latents; token states of both encoders, with their masks."""

    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}

    def limits(self) -> dict[str, int]:
        return {name: most for name, most in _TOKENS.items() if getattr(self.pipe, name, None) is not None}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        condition: dict[str, Tensor] = {}
        for index, (suffix, most) in enumerate(zip(("", "_t5"), _TOKENS.values(), strict=True)):
            states, _, mask, _ = self.pipe.encode_prompt(
                list(prompts),
                device=self.device,
                dtype=self.network.dtype,
                do_classifier_free_guidance=False,
                max_sequence_length=most,
                text_encoder_index=index,
            )
            condition |= {f"encoder_hidden_states{suffix}": states, f"text_embedding_mask{suffix}": mask}
        return condition


@register
class HunyuanDiT(Family):
    """HunyuanDiT 1.0 to 1.2. No prompt is the encoded empty prompt with its own masks.

    Both branches are told an original of 1024 x 1024 pixels, the image's own size, no crop, and style 0 (versions to 1.1).
    """

    name = "HunyuanDiT"
    pipelines = ("HunyuanDiTPipeline", "HunyuanDiTPAGPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler")

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return bool(self.pipe.transformer.config.learn_sigma)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer, self.codec().scale)

    def codec(self) -> HunyuanDiTCodec:
        return HunyuanDiTCodec(self.pipe)

    def describe(self) -> dict[str, Any]:
        is_told = self.pipe.transformer.config.use_style_cond_and_image_meta_size
        size = f"the image's own, of an original of {_ORIGINAL[0]} x {_ORIGINAL[1]}, told in both branches"
        return {**super().describe(), "size": size if is_told else "not told"}

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
