"""The table of families: one row a family or variant, each held against its own pipeline by `test_families`."""

from tests.pipelines.families import (
    chroma,
    flux,
    hidream,
    lumina,
    lumina2,
    qwen_image,
    sana,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    z_image,
)

ROWS = [
    *stable_diffusion.ROWS,
    *stable_diffusion_xl.ROWS,
    *stable_diffusion_3.ROWS,
    *flux.ROWS,
    *chroma.ROWS,
    *sana.ROWS,
    *lumina2.ROWS,
    *lumina.ROWS,
    *qwen_image.ROWS,
    *z_image.ROWS,
    *hidream.ROWS,
]
