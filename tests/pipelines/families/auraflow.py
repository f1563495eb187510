"""Rows of AuraFlow."""

from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline():
    def make():
        return AuraFlowPipeline(
            tokenizer=parts.t5_tokenizer(),
            text_encoder=parts.t5(),
            vae=parts.vae(scaling_factor=0.13025),
            transformer=AuraFlowTransformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_projection_dim=16,
                joint_attention_dim=32,
                out_channels=4,
                pos_embed_max_size=64,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
        )

    return parts.ready(make)


ROWS = [Row("auraflow", pipeline(), flow(1), "flow")]
