"""Parity at a height that is not the width, so that what depends on an image's size is not turned by 90 degrees."""

from dataclasses import replace

import pytest

from tests.pipelines.families import cogvideox, cogview4, hunyuandit, kandinsky3, kolors, parity, wan

CASES = [
    (hunyuandit.ROWS[0], (64, 32)),
    (kolors.ROWS[0], (16, 8)),
    (wan.ROWS[0], (32, 16)),
    (cogvideox.ROWS[1], (64, 32)),
    (kandinsky3.ROWS[0], (128, 64)),
    # Its told time depends on the number of tokens.
    (replace(cogview4.ROWS[0], level=cogview4.unshifted(32)), (32, 16)),
]


@pytest.mark.parametrize(("row", "size"), CASES, ids=[row.name for row, _ in CASES])
def test_parity_of_oblong_images(row, size):
    pipe = row.build()
    model, network = parity.model_of(row, pipe), getattr(pipe, row.network)
    run = parity.run_pipeline(row, pipe, row.prompts[:1], size)
    condition = model.encoder.condition(list(row.prompts[:1]))
    for moment in run.moments:
        assert moment.x.shape[-2] / moment.x.shape[-1] == size[0] / size[1]
        parity.hold(moment, model.denoiser, condition, network)
