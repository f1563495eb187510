"""Rows of HiDream-I1."""

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    UniPCMultistepScheduler,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline(scheduler):
    def make():
        pipe = HiDreamImagePipeline(
            transformer=HiDreamImageTransformer2DModel(
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_channels=[32, 16],
                text_emb_dim=32,
                num_routed_experts=2,
                num_activated_experts=1,
                axes_dims_rope=(4, 2, 2),
                max_resolution=(8, 8),
                llama_layers=[0, 1],
            ),
            scheduler=scheduler(),
            vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.clip(projected=True, tokens=128),
            tokenizer=parts.clip_tokenizer(tokens=128),
            text_encoder_2=parts.clip(projected=True, tokens=128),
            tokenizer_2=parts.clip_tokenizer(tokens=128),
            text_encoder_3=parts.t5(),
            tokenizer_3=parts.t5_tokenizer(),
            text_encoder_4=parts.llama(),
            tokenizer_4=parts.qwen_tokenizer(),
        )
        pipe.default_sample_size = 8
        return pipe

    return parts.ready(make)


def unipc():
    return UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")


def dynamic():
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


COMMON = {"time": "timesteps", "sign": -1, "axes": {"encoder_hidden_states_llama3": 1}}
ROWS = [
    Row("hidream-unipc", pipeline(unipc), flow(1000), "-flow", **COMMON),
    Row("hidream-dynamic", pipeline(dynamic), flow(1000), "-flow", **COMMON),
]
