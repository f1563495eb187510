"""Records that version 0.1 wrote are read as before, with the numbers that it printed."""

from pathlib import Path

import pytest
import torch

from mmg_diffusers.analysis import Filtered
from mmg_diffusers.arrays import FittedModel
from mmg_diffusers.measure import Estimate
from mmg_diffusers.runs import Outcome

OLD = Path(__file__).parent / "data" / "v0.1"


def test_estimate():
    record = Estimate.load(OLD / "estimate.safetensors")
    assert record.integrand == "auto"
    assert record.evaluations == 108
    assert record.certificate.value == pytest.approx(0.5950, abs=5e-5)
    assert record.mean().value == pytest.approx(0.6148, abs=5e-5)
    # The mean is the one that version 0.1 printed. Its pairs had the weight of the mean; each has its own by now.
    assert record.in_mean().nats.tolist() == pytest.approx([0.3802, 0.6860, 0.3361, 1.8530, -0.1010, 0.5346], abs=5e-5)
    alone = [0.2293, 0.5199, 0.3207, 1.9937, -0.1557, 0.5237]
    assert record.nats.tolist() == pytest.approx(alone, abs=5e-5)


def test_filtered():
    record = Filtered.load(OLD / "filtered.safetensors")
    assert record.nats.tolist() == pytest.approx([0.6931, 0.6818, 0.6523], abs=5e-5)
    assert record.mean().value == pytest.approx(0.6758, abs=5e-5)


def test_fitted():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 1, generator=generator)
    model = FittedModel.load(OLD / "fitted.safetensors")
    found = model.estimate({"x": x.numpy(), "y": x.numpy()})
    assert len(found) == 50
    assert found.logsnr_range == (-8.0, 22.0)


def test_run():
    outcome = Outcome.load(OLD / "run")
    assert outcome.estimate.nats.tolist() == pytest.approx([0.0209, 0.1658, 1.0386], abs=5e-5)
    assert [failure.place for failure in outcome.failures] == [1]
    table = outcome.to_pandas()
    assert table["image"].tolist() == ["in/0.png", "in/1.png", "in/2.png", ""]
    assert table["prompt"].tolist() == ["a", "a", "a", "b"]
    assert table["image_digest"].tolist() == [""] * 4  # which version 0.1 did not know
    assert outcome.clusters() == ["pair 0", "pair 2", "pair 3"]
