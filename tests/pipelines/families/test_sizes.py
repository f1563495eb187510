"""Parity at sizes that are not the native one: what depends on an image's size is built from it, height before width."""

from dataclasses import replace

import pytest
from diffusers import FluxPipeline

from tests.pipelines.families import chroma, flux, hidream, lumina, lumina2, parity, qwen_image, sana, z_image

PACKED = (flux.ROWS[0], chroma.ROWS[0], qwen_image.ROWS[0])
WHOLE = (z_image.ROWS[0], hidream.ROWS[0])
CASES = [
    *((row, (height, width)) for row in (*PACKED, *WHOLE) for height, width in [(32, 8), (8, 32)]),
    *((row, size) for row in (lumina.ROWS[0], lumina2.ROWS[0]) for size in [(64, 32), (16, 64)]),
    (sana.ROWS[0], (64, 32)),
]


@pytest.mark.parametrize(("row", "size"), CASES, ids=lambda each: getattr(each, "name", None))
def test_parity_at_another_size(row, size):
    pipe = row.build()
    model = parity.model_of(row, pipe)
    if row.event is flux.unpacked:
        row = replace(row, event=lambda pipe, x: FluxPipeline._unpack_latents(x, *size, pipe.vae_scale_factor))
    run = parity.run_pipeline(row, pipe, row.prompts[:1], size)
    condition = model.encoder.condition(list(row.prompts[:1]))
    for moment in run.moments:
        assert moment.x.shape[-2] * size[1] == moment.x.shape[-1] * size[0]
        parity.hold(moment, model.denoiser, condition, getattr(pipe, row.network))


@pytest.mark.parametrize("row", [lumina.ROWS[0], lumina2.ROWS[0], z_image.ROWS[0]], ids=lambda row: row.name)
def test_sizes_without_positions_are_refused_in_words(row):
    pipe = row.build()
    codec = parity.model_of(row, pipe).codec
    side = codec.places * codec.multiple
    codec.check_size(side, codec.multiple)
    with pytest.raises(ValueError, match=f"is larger than the {side} pixels that the transformer has positions for"):
        codec.check_size(codec.multiple, side + codec.multiple)
