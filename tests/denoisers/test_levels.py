"""The one coordinate, and the reference that is exact for its own variance."""

import pytest
import torch

from mmg_diffusers.denoisers import GaussianDenoiser, GaussianReference


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_the_reference_is_the_exact_denoiser_of_its_variance(sigma):
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(7, 1, generator=generator, dtype=torch.float64)
    logsnr = torch.linspace(-6, 8, 7, dtype=torch.float64)
    exact = GaussianDenoiser(torch.diag(torch.tensor([sigma**2, 1.0], dtype=torch.float64)), 1)
    torch.testing.assert_close(GaussianReference(sigma)(z, logsnr), exact(z, logsnr), rtol=1e-9, atol=1e-12)
