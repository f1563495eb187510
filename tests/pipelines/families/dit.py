"""Rows of DiT, whose prompts are classes."""

from diffusers import DiTPipeline, DiTTransformer2DModel

from tests.pipelines.families import parts
from tests.pipelines.families.pixart import ddim, dpm
from tests.pipelines.families.row import Row, vp


def pipeline(scheduler):
    return parts.ready(
        lambda: DiTPipeline(
            transformer=DiTTransformer2DModel(
                sample_size=8,
                num_layers=2,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                num_embeds_ada_norm=1000,
                norm_elementwise_affine=False,
            ),
            vae=parts.vae(),
            scheduler=scheduler(),
            id2label={"0": "tench, Tinca tinca", "1": "goldfish"},
        )
    )


# The pipeline has no size to ask for.
CALL = {"height": ..., "width": ...}
ROWS = [
    Row(
        f"dit-{scheduler.__name__}",
        pipeline(scheduler),
        vp,
        "epsilon",
        call=CALL,
        branches="cu",
        learned_variance=True,
        prompts=("7", "207"),
        asked=int,
    )
    for scheduler in (ddim, dpm)
]
