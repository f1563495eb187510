"""Tiny random parts of pipelines, made in memory: nothing is downloaded."""

import torch
from diffusers import AutoencoderKL
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

LETTERS = "abcdefghijklmnopqrstuvwxyz.,-0123456789"
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
"""The noise schedule of Stable Diffusion."""


def clip_tokenizer(tokens=77, pad=None):
    """Of bytes, without merges: a letter is a token."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(words))}
    more = {} if pad is None else {"pad_token": pad}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=tokens, **more)


def clip(width=16, projected=False, tokens=77, layers=2):
    """A CLIP text encoder, with its projection or without."""
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    words = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=tokens,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return kind(config)


def t5_tokenizer(tokens=512):
    """Of letters, as T5 splits text into them: no opening token, one closing."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=[*special, *((letter, -3.0) for letter in LETTERS)], extra_ids=0, model_max_length=tokens)


def t5(width=32):
    """A T5 encoder."""
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config)


def vae(channels=4, scales=2, **config):
    """An autoencoder of 2 pixels a latent, or of more by the number of its scales."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16)[:scales],
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * scales,
        up_block_types=("UpDecoderBlock2D",) * scales,
        norm_num_groups=4,
        latent_channels=channels,
        mid_block_add_attention=False,
        **config,
    )


def ready(make):
    """A builder's pipeline from a fixed seed, in evaluation mode, without a progress bar."""

    def build():
        torch.manual_seed(0)
        pipe = make()
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return build
