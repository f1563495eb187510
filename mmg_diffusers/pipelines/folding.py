"""A Stable Diffusion 3 without T5 in a tenth of the time: the zeros in T5's place as one token of their weight."""

# diffusers annotates its configs and processors more narrowly than it reads them.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional


class JointAttention:
    """Attention of SD3's blocks where the last token of the text stands for `weight` equal ones.

    Tokens that are equal where they enter stay equal in every block, as the text has no places here: one of them, with
    the weight of all, gives the others the same and costs a tenth.
    """

    def __init__(self, weight: int) -> None:
        self.log_weight = math.log(weight)

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> tuple[Tensor, Tensor]:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def joined(own: nn.Module, added: nn.Module, norm: nn.Module | None, norm_added: nn.Module | None) -> Tensor:
            image, text = heads(own(hidden_states)), heads(added(encoder_hidden_states))
            return torch.cat([norm(image) if norm else image, norm_added(text) if norm_added else text], 2)

        query = joined(attn.to_q, attn.add_q_proj, attn.norm_q, attn.norm_added_q)
        key = joined(attn.to_k, attn.add_k_proj, attn.norm_k, attn.norm_added_k)
        value = joined(attn.to_v, attn.add_v_proj, None, None)
        mask = query.new_zeros(key.shape[2])
        mask[-1] = self.log_weight
        out = functional.scaled_dot_product_attention(query, key, value, mask.expand(query.shape[2], -1))
        out = out.transpose(1, 2).flatten(2)
        image, text = out.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], 1)
        project, dropout = cast(nn.ModuleList, attn.to_out)
        image = dropout(project(image))
        return image, text if attn.context_pre_only else cast(nn.Module, attn.to_add_out)(text)


@contextmanager
def folded(transformer: SD3Transformer2DModel, kept: int, weight: int) -> Iterator[None]:
    """Let a transformer see the text's tokens from `kept` on, all equal, as one of them with the weight of all.

    Args:
        transformer: of SD3, without dual attention.
        kept: tokens that differ, at the beginning of the text.
        weight: how many follow.
    """

    def cut(module: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**given, "encoder_hidden_states": given["encoder_hidden_states"][:, : kept + 1]}

    before = transformer.attn_processors
    hook = transformer.register_forward_pre_hook(cut, with_kwargs=True)
    transformer.set_attn_processor(JointAttention(weight))
    try:
        yield
    finally:
        hook.remove()
        transformer.set_attn_processor(before)


@contextmanager
def folded_zeros(pipe: Any) -> Iterator[bool]:
    """While inside, a Stable Diffusion 3 without T5 computes the zeros that stand in T5's place once: the same function, but for
    rounding. Tells whether there was anything to fold; any other pipeline stays as it is.

    Args:
        pipe: a pipeline of diffusers.
    """
    transformer = getattr(pipe, "transformer", None)
    absent = getattr(pipe, "text_encoder_3", ...) is None
    if not (absent and isinstance(transformer, SD3Transformer2DModel)) or transformer.config.dual_attention_layers:
        yield False
        return
    with torch.no_grad():
        states = pipe.encode_prompt("", None, None, do_classifier_free_guidance=False)[0]
    zeros = int((states[0] == 0).all(1).flip(0).cumprod(0).sum())
    with folded(transformer, states.shape[1] - zeros, zeros):
        yield True
