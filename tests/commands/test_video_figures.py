"""Videos in figures and pages: some of their frames, each beside its own map."""

import numpy as np
import pytest
import torch

from mmg_diffusers.commands.figures import plot_map_grid, plot_maps, strip
from mmg_diffusers.commands.report import build_report
from mmg_diffusers.pairs.tables import PairTable
from mmg_diffusers.pairs.videos import list_videos
from tests.pipelines.families import parity, wan


def frames(count=9, size=(4, 6)):
    """Frames that are told apart by their shade."""
    return np.broadcast_to(np.linspace(0, 1, count)[:, None, None, None], (count, *size, 3)).astype(np.float32)


def test_a_strip_shows_frames_beside_their_maps():
    video = frames()
    maps = np.broadcast_to(np.arange(9.0)[:, None, None], (9, 2, 3))
    image, values = strip(video, maps)
    assert image.shape == (4, 30, 3)
    assert values.shape == (2, 15)
    assert values[0, ::3].tolist() == [0, 2, 4, 6, 8]
    assert image[0, ::6, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    # Of latents the last picture that each was made of: 0, 4 and 8 of 9.
    image, values = strip(video, maps[:3])
    assert values[0, ::3].tolist() == [0, 1, 2]
    assert image[0, ::6, 0].tolist() == pytest.approx([0, 0.5, 1])
    # A video of one frame.
    assert strip(video[:1], maps[:1])[0].shape == (4, 6, 3)


def test_maps_of_videos_are_drawn():
    videos, maps = np.stack([frames(), frames()]), torch.rand(2, 9, 4, 6, dtype=torch.float64)
    figure = plot_maps(list(videos), maps, titles=["a", "b"])
    drawn = [ax.images[0].get_array().shape for ax in figure.axes[:4]]
    assert drawn == [(4, 30, 3)] * 4
    figure = plot_map_grid(videos, {"one": maps, "other": -maps})
    assert [ax.images[0].get_array().shape for ax in figure.axes[:4]] == [(4, 30, 3)] * 4
    assert len(figure.axes[2].images) == 2


def test_a_report_of_videos():
    row = wan.ROWS[0]
    model = parity.model_of(row, row.build())
    videos = torch.from_numpy(np.random.default_rng(0).random((2, 5, 3, 16, 32), dtype=np.float32))
    result = model(videos, ["a dot", "a square"], levels=3, keep="pixel")
    page = build_report(result, list(videos), ["a dot", "a square"], convention=model.denoiser.convention)
    assert page.count('<figure class="view"') == 2
    assert page.count('class="thumb"') == 2
    assert page.count('class="over"') == 2


def test_pictures_of_a_table_are_a_pair_each():
    table = PairTable(["a.png", "b.png", "c.png"], ["x", "y", "z"])
    assert list_videos(table.images) == ["a.png", "b.png", "c.png"]
    assert list_videos(table.images[:2]) == ["a.png", "b.png"]
