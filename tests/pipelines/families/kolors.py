"""Rows of Kolors."""

import io
import tempfile
from functools import cache
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, KolorsPipeline
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp
from tests.pipelines.families.stable_diffusion import unet


@cache
def letters():
    """A sentencepiece model of letters; its folder is gone when Python ends."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(parts.LETTERS)] * 8),
        model_writer=model,
        model_type="char",
        vocab_size=len(parts.LETTERS) + 4,
        minloglevel=2,
    )
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "tokenizer.model").write_bytes(model.getvalue())
    return folder


def chatglm():
    """Its own weights are as memory is until they are loaded."""
    model = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=64,
            hidden_size=16,
            ffn_hidden_size=16,
            kv_channels=8,
            num_attention_heads=2,
            seq_length=256,
            multi_query_attention=True,
            multi_query_group_num=1,
            add_qkv_bias=True,
            original_rope=True,
        )
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def pipeline():
    def make():
        return KolorsPipeline(
            vae=parts.vae(scaling_factor=0.13025),
            text_encoder=chatglm(),
            tokenizer=ChatGLMTokenizer(str(Path(letters().name) / "tokenizer.model")),
            unet=unet(
                16,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=16 + 6 * 8,
                use_linear_projection=True,
            ),
            scheduler=EulerDiscreteScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.014,
                num_train_timesteps=1100,
                timestep_spacing="leading",
                steps_offset=1,
            ),
            force_zeros_for_empty_prompt=False,
        )

    return parts.ready(make)


ROWS = [Row("kolors", pipeline(), vp, "epsilon", network="unet")]
