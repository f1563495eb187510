"""Rows of Lumina 2."""

from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow


def pipeline():
    def make():
        return Lumina2Pipeline(
            transformer=Lumina2Transformer2DModel(
                sample_size=4,
                patch_size=2,
                in_channels=4,
                hidden_size=24,
                num_layers=1,
                num_refiner_layers=1,
                num_attention_heads=3,
                num_kv_heads=1,
                multiple_of=16,
                axes_dim_rope=(4, 2, 2),
                axes_lens=(300, 16, 16),
                cap_feat_dim=16,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
            vae=parts.vae(scales=4, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=parts.gemma(),
            tokenizer=parts.gemma_tokenizer(),
        )

    return parts.ready(make)


ROWS = [
    Row(
        "lumina2",
        pipeline(),
        flow(1, signal=True),
        "-flow",
        sign=-1,
        branches="c,u",
        call={"cfg_normalization": False},
    )
]
