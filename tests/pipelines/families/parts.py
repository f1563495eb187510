"""Tiny random parts of pipelines, made in memory: nothing is downloaded."""

import torch
from diffusers import AutoencoderKL
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
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


def gemma_tokenizer(tokens=2048):
    """Of letters and words without merges: a letter is a token, after an opening one."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n"]
    letters = [*LETTERS, *LETTERS.upper(), *"<>:;'()[]*"]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys([*special, *letters]))}
    return GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True, model_max_length=tokens)


def gemma(width=16):
    """A Gemma 2 language model without its head."""
    config = Gemma2Config(
        vocab_size=96,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return Gemma2Model(config)


def qwen_tokenizer(tokens=4096):
    """Of bytes, without merges; it knows the tokens of Qwen's chats, and how a prompt is put into one."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {word: place for place, word in enumerate([*special, *bytes_to_unicode().values()])}
    words = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=tokens)
    words.add_special_tokens({"additional_special_tokens": special[1:]})
    words.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    )
    return words


_QWEN = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
}


def qwen():
    """A Qwen 3 language model without its head."""
    return Qwen3Model(Qwen3Config(**_QWEN))


def qwen_vl():
    """A Qwen 2.5 model of text and images."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(text_config={**_QWEN, "rope_parameters": rope}, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)


def llama():
    """A Llama model with its head."""
    config = LlamaConfig(**{**_QWEN, "eos_token_id": 0, "bos_token_id": 0})
    return LlamaForCausalLM(config)


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
