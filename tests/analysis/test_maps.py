"""Maps keep their totals, and the area under the curve is what it is defined to be."""

import pytest
import torch

from mmg_diffusers.analysis.maps import auroc, dilate, to_pixels


@pytest.mark.parametrize("spread", ["linear", "even"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (20, 30), (8, 8), (5, 3)])
def test_totals_are_kept(size, spread):
    maps = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = to_pixels(maps, size, spread)
    assert spread.shape == (3, *size)
    torch.testing.assert_close(spread.sum((1, 2)), maps.sum((1, 2)))


def test_places_are_kept():
    maps = torch.zeros(4, 8)
    maps[1, 6] = 12.0
    spread = to_pixels(maps, (12, 16), "even")
    assert torch.equal(spread.nonzero(), torch.tensor([[r, c] for r in (3, 4, 5) for c in (12, 13)]))
    assert float(spread[4, 12]) == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_linear_spreading_is_interpolation(factor):
    """By whole factors: what torch interpolates between the cells' centres, as density."""
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    size = (5 * factor, 7 * factor)
    theirs = torch.nn.functional.interpolate(maps[None], size, mode="bilinear")[0] / factor**2
    torch.testing.assert_close(to_pixels(maps, size), theirs)
    assert float(to_pixels(maps, (11, 13)).min()) >= 0


def test_auroc_by_counting():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 4, (5, 4, 4), generator=generator).double()
    mask = torch.rand(5, 4, 4, generator=generator) > 0.6
    for own, where, found in zip(maps, mask, auroc(maps, mask), strict=True):
        inside, outside = own[where][:, None], own[~where][None]
        wins = (inside > outside).double() + 0.5 * (inside == outside).double()
        assert float(found) == pytest.approx(float(wins.mean()))
    assert float(auroc(mask.double(), mask).min()) == 1.0
    assert float(auroc(torch.ones(5, 4, 4), mask).max()) == 0.5


def test_dilation():
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    mask[0, 0, 2] = True
    grown = dilate(mask, 1)
    assert grown[0, :2, 1:4].all()
    assert int(grown.sum()) == 6
    assert torch.equal(dilate(mask, 0), mask)
