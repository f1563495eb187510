"""Rows of DiT."""

from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel, DPMSolverMultistepScheduler

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, vp

LABELS = {0: "tench, Tinca tinca", 1: "goldfish", 207: "golden retriever"}


def pipeline(scheduler):
    def make():
        return DiTPipeline(
            transformer=DiTTransformer2DModel(
                sample_size=8,
                num_layers=1,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                attention_bias=True,
                activation_fn="gelu-approximate",
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_zero",
                norm_elementwise_affine=False,
            ),
            vae=parts.vae(),
            scheduler=scheduler(),
            id2label=LABELS,
        )

    return parts.ready(make)


def row(name, scheduler):
    return Row(
        name,
        pipeline(scheduler),
        vp,
        "epsilon",
        branches="cu",
        learned_variance=True,
        prompts=("1", "207"),  # names of classes are not kept by save_pretrained
        asked=lambda pipe, prompts: [int(prompt) for prompt in prompts],
        call={"height": ..., "width": ...},
    )


ROWS = [
    row("dit", lambda: DDIMScheduler(clip_sample=False)),
    row("dit-dpm", DPMSolverMultistepScheduler),
]
