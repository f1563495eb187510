"""Both branches of guidance are seen in every family, and what they differ by is what its own scheduler makes of them."""

import pytest
import torch

from tests.pipelines.families import parity
from tests.pipelines.families.table import ROWS


def first_of_each():
    """One row a family, and the one whose network is told a time for every token."""
    found = {row.name: row for row in ROWS if "by-token" in row.name}
    for row in ROWS:
        found.setdefault(row.name.split("-")[0], row)
    return list(found.values())


def channels(row, pipe):
    """Of the latents."""
    return getattr(pipe, row.network).config.in_channels


@pytest.mark.parametrize("row", first_of_each(), ids=lambda row: row.name)
def test_what_guidance_sees(row):
    pipe = row.build()
    model = parity.model_of(row, pipe)
    size = row.size or model.codec.native_size
    with model.watch() as seen:
        run = parity.run_pipeline(row, pipe, (row.prompts[0],), size)
    found = seen.read()
    expected, levels = [], []
    for moment in run.moments:
        if float(moment.logsnr[0]) == float("-inf"):
            continue
        conditional, null = (moment.reading(call.raw).double() for call in (moment.prompt, moment.null))
        expected.append(float((conditional - null).square().sum()))
        levels.append(float(moment.logsnr[0]))
    torch.testing.assert_close(found.logsnr, torch.tensor(levels, dtype=torch.float64), atol=1e-4, rtol=1e-4)
    if row.name == "cogview4":
        with pytest.raises(ValueError, match="asks its scheduler for steps in a way of its own"):
            model.sampler(row.steps)
    else:
        own = torch.tensor([float(moment.logsnr[0]) for moment in run.moments], dtype=torch.float64)
        torch.testing.assert_close(model.sampler(row.steps), own, atol=1e-4, rtol=1e-4)
    # The scheduler gives x, in float32, from which the noise at the clean end is what is left.
    torch.testing.assert_close(found.square[0], torch.tensor(expected, dtype=torch.float64), rtol=2e-2, atol=1e-6)
    assert found.missed == len(run.moments) - len(levels)
    assert found.moved
    assert float(found.nats) > 0
    if run.moments[0].prompt.raw.ndim > 3:
        # Channels are summed over, whichever axis they are; tokens stay what they are.
        assert found.maps[0, 0].numel() * channels(row, pipe) == run.latents[0].numel()
    torch.testing.assert_close(found.pixel_map().flatten(1).sum(1), found.nats, rtol=1e-4, atol=1e-9)
