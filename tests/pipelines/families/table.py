"""The table of families: one row a family or variant, each held against its own pipeline by `test_families`."""

from tests.pipelines.families import (
    auraflow,
    cogvideox,
    cogview4,
    deepfloyd_if,
    dit,
    hunyuandit,
    kandinsky3,
    kolors,
    pixart,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    wan,
)

ROWS = [
    *stable_diffusion.ROWS,
    *stable_diffusion_xl.ROWS,
    *stable_diffusion_3.ROWS,
    *pixart.ROWS,
    *dit.ROWS,
    *auraflow.ROWS,
    *hunyuandit.ROWS,
    *deepfloyd_if.ROWS,
    *kandinsky3.ROWS,
    *kolors.ROWS,
    *cogview4.ROWS,
    *wan.ROWS,
    *cogvideox.ROWS,
]
