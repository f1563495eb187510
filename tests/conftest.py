import pytest
import torch

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.denoisers.exact import GaussianDenoiser, MixtureDenoiser

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipe():
    """The shipped model, without a progress bar."""
    pipe = MMGPipeline.from_pretrained(shapes_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def joint(*rhos: float) -> torch.Tensor:
    """Covariance of (x, y) with corr(x_i, y_i) = rho_i and unit variances."""
    d = len(rhos)
    cov = torch.eye(2 * d, dtype=torch.float64)
    for i, rho in enumerate(rhos):
        cov[i, d + i] = cov[d + i, i] = rho
    return cov


@pytest.fixture
def gaussian():
    """An exact denoiser of two correlated coordinates, with 1,000 pairs drawn from its law."""
    cov = joint(0.9, 0.5)
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randn(1000, 4, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T
    return GaussianDenoiser(cov, 2), pairs[:, :2], {"y": pairs[:, 2:]}


@pytest.fixture
def mixture():
    """An exact denoiser of three labelled blobs in two dimensions, with 1,000 pairs."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    variances = torch.tensor([1.0, 0.5, 1.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    label = torch.multinomial(weights, 1000, replacement=True, generator=generator)
    noise = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    x = means[label] + variances[label].sqrt()[:, None] * noise
    return MixtureDenoiser(weights, means, variances), x, {"label": label}
