"""Rows of HunyuanDiT."""

from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel, BertTokenizer

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp


def bert_tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *parts.LETTERS, *(f"##{each}" for each in parts.LETTERS)]
    return BertTokenizer(vocab={word: place for place, word in enumerate(words)}, model_max_length=77)


def bert():
    config = BertConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=77,
    )
    return BertModel(config)


def pipeline(sizes=True, prediction="v_prediction"):
    """Of version 1.1, or of 1.2, which is not told sizes."""

    def make():
        return HunyuanDiTPipeline(
            transformer=HunyuanDiT2DModel(
                sample_size=8,
                num_layers=2,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                cross_attention_dim=16,
                cross_attention_dim_t5=32,
                pooled_projection_dim=8,
                hidden_size=16,
                activation_fn="gelu-approximate",
                use_style_cond_and_image_meta_size=sizes,
            ),
            vae=parts.vae(scales=4, scaling_factor=0.13025),
            text_encoder=bert(),
            tokenizer=bert_tokenizer(),
            text_encoder_2=parts.t5(),
            tokenizer_2=parts.t5_tokenizer(256),
            scheduler=DDPMScheduler(
                beta_start=0.00085,
                beta_end=0.018,
                beta_schedule="scaled_linear",
                prediction_type=prediction,
                steps_offset=1,
                clip_sample=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    return parts.ready(make)


CALL = {"use_resolution_binning": False}
ROWS = [
    Row("hunyuandit-1.1", pipeline(), vp, "v", call=CALL, learned_variance=True),
    Row("hunyuandit-1.2", pipeline(sizes=False), vp, "v", call=CALL, learned_variance=True),
]
