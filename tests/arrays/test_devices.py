"""Devices without float64, as Apple's GPUs: the meta device stands for one, and refuses every tensor of 64-bit floats."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmg_diffusers.arrays import base
from mmg_diffusers.arrays.base import levels_on
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.losses import losses, paired, shown_of
from mmg_diffusers.arrays.networks import VectorNetwork

META = torch.device("meta")


class NoFloat64(TorchDispatchMode):
    """Raises where an operation takes or makes float64 on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor) and leaf.device == META and leaf.dtype == torch.float64:
                raise TypeError(f"Cannot convert a tensor to float64 in {func}; the device has none")
        return out


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(base, "_NO_FLOAT64", {"meta"})
    with NoFloat64():
        yield META


def test_the_stand_in_refuses(device):
    for wrong in (lambda: torch.zeros(2, device=device).double(), lambda: torch.zeros(2).double().to(device)):
        with pytest.raises(TypeError, match="the device has none"):
            wrong()


def test_levels_are_of_32_bits_there_alone(device):
    levels = torch.linspace(-8, 8, 5, dtype=torch.float64)
    assert levels_on(levels, device).dtype == torch.float32
    assert levels_on(levels, torch.device("cpu")) is levels


LAW = torch.tensor([[1.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
NETWORKS = {
    "vectors": lambda: (VectorNetwork({"x": 1, "y": 1}, LAW, width=4), (1,), (1,)),
    "pictures": lambda: (ImageNetwork({"x": (1, 4, 4), "y": (1, 4, 4)}, LAW, widths=(8, 8)), (1, 4, 4), (1, 4, 4)),
    "a label": lambda: (ImageNetwork({"x": (1, 1, 1), "y": (1, 4, 4)}, LAW, widths=(8, 8)), (1, 1, 1), (1, 4, 4)),
    "in part": lambda: (
        ImageNetwork({"x": (1, 4, 4), "y": (1, 4, 4)}, LAW, parts=["y"], widths=(8, 8)),
        (1, 4, 4),
        (2, 4, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_and_measure_without_float64(device, name):
    network, x, y = NETWORKS[name]()
    network = network.to(device)
    assert not any(t.dtype == torch.float64 for t in (*network.parameters(), *network.buffers()))
    assert network.covariance.device.type == "cpu"
    assert torch.equal(network.covariance.squeeze(), LAW)
    data = {"x": torch.randn(6, *x, device=device), "y": torch.randn(6, *y, device=device)}
    logsnr = levels_on(torch.linspace(-5, 5, 6, dtype=torch.float64), device)
    eps = {"x": torch.randn(6, *x, device=device)}
    errors, differ = losses(network, data, paired("x", ["y"]), logsnr, eps)
    errors.mean().backward()
    assert errors.shape == (2, 6)
    assert differ.shape == (6,)
    assert network.view("x")(data["x"], logsnr, {"y": data["y"]}).shape == data["x"].shape


def test_the_covariance_travels_in_the_state_and_keeps_its_digits():
    law = torch.tensor([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]], dtype=torch.float64)
    network = VectorNetwork({"x": 1, "y": 1}, law, width=4)
    state = network.half().state_dict()
    assert torch.equal(state["covariance"], law[None])
    other = VectorNetwork({"x": 1, "y": 1}, torch.eye(2), width=4)
    z, logsnr = torch.randn(3, 1), torch.zeros(3, dtype=torch.float64)
    before = other.view("x")(z, logsnr, {"y": z})
    other.load_state_dict(VectorNetwork({"x": 1, "y": 1}, law, width=4).state_dict())
    assert torch.equal(other.covariance, law[None])
    # What was computed from the covariance before is not used.
    assert float((other.view("x")(z, logsnr, {"y": z}) - before).detach().abs().max()) > 0.1
    assert set(shown_of(other, {"x": z, "y": z})) == {"x", "y", "covariance"}
    with pytest.raises(RuntimeError, match=r"Missing key.*covariance"):
        other.load_state_dict({key: value for key, value in state.items() if key != "covariance"})
    with pytest.raises(RuntimeError, match=r"covariance has shape \(1, 3, 3\); expected that of this network"):
        other.load_state_dict({**other.state_dict(), "covariance": torch.eye(3)[None]})
