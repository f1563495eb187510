"""How rows go through a network: fewer where memory runs out, and never so few that rounding changes."""

import pytest
import torch

from mmg_diffusers import MMG, Denoiser, Estimate
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import DiscreteVP
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.quadrature import Trapezoid

RANGE = (-8.0, 8.0)
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)


class Small(Denoiser):
    """An exact denoiser on a device that holds few rows."""

    logsnr_range = RANGE

    def __init__(self, oracle, holds, error=CUDA):
        super().__init__()
        self.oracle, self.holds, self.error = oracle, holds, error
        self.rows: list[int] = []
        self.failed = 0

    def forward(self, z, logsnr, cond=None):
        self.rows.append(len(z))
        if len(z) > self.holds:
            self.failed += 1
            raise self.error
        return self.oracle(z, logsnr, cond)

    def branches(self, z, logsnr, conds):
        """Both in one pass, as a network does it."""
        if len(z) * len(conds) > self.holds:
            self.rows.append(len(z) * len(conds))
            self.failed += 1
            raise self.error
        return super().branches(z, logsnr, conds)


@pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize("holds", [40, 7, 1])
def test_batches_shrink_until_they_fit(mixture, holds, error):
    oracle, x, cond = mixture
    x, cond = x[:4], {"label": cond["label"][:4]}

    def measure(denoiser, seed=0, ids=None):
        return MMG("gap", Trapezoid(5), draws=2)(denoiser, x, cond, seed=seed, pair_ids=ids, batch_size=64)

    expected = measure(Small(oracle, 64))
    small = Small(oracle, holds, error)
    found = measure(small)
    assert small.failed > 0
    torch.testing.assert_close(found.nats, expected.nats, rtol=1e-12, atol=1e-12)
    assert found.evaluations == expected.evaluations
    assert any("memory ran out" in note for note in found.warnings())
    assert not any("memory ran out" in note for note in expected.warnings())
    # What fits is remembered, and said again.
    small.failed = 0
    again = measure(small, seed=1)
    assert small.failed == 0
    assert again.notes == found.notes
    merged = Estimate.merge([found, measure(small, ids=torch.arange(4, 8))])
    assert merged.notes == found.notes


def test_candidates_shrink_their_batches_too(mixture):
    oracle, x, _ = mixture
    labels = {"label": torch.arange(3)}
    pairs, path = Pairs.of(x[:30]), NoisePath(Trapezoid(9))
    expected = measure_candidates(Small(oracle, 10**9), pairs, labels, path)
    small = Small(oracle, 11)
    found = measure_candidates(small, pairs, labels, path)
    assert small.failed > 0
    torch.testing.assert_close(found.score, expected.score, rtol=1e-12, atol=1e-12)


def test_a_row_that_does_not_fit_is_said_with_the_remedy(mixture):
    oracle, x, cond = mixture
    with pytest.raises(RuntimeError, match=r"single row of \(2,\).*enable_model_cpu_offload"):
        MMG("gap", Trapezoid(4))(Small(oracle, 0), x[:3], {"label": cond["label"][:3]})


def test_other_errors_pass(mixture):
    oracle, x, cond = mixture
    small = Small(oracle, 3, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        MMG("gap", Trapezoid(4))(small, x[:3], {"label": cond["label"][:3]})
    assert small.failed == 1


class Counting(Denoiser):
    """Says what depends on a row alone, and counts rows."""

    logsnr_range = RANGE

    def __init__(self):
        super().__init__()
        self.rows: list[int] = []

    def forward(self, z, logsnr, cond=None):
        self.rows.append(len(z))
        return z * logsnr.view(-1, *(1,) * (z.ndim - 1)).to(z.dtype)


@pytest.mark.parametrize(
    ("event", "asked", "rows"), [((4, 8, 8), 1, 16), ((4, 8, 8), 20, 20), ((4, 64, 64), 1, 1), ((4, 64, 64), 3, 3)]
)
def test_rows_per_pass(event, asked, rows):
    """Small events in batches of 16 or more, filled up with copies; large ones as asked."""
    counting = Counting()
    forwards = Forwards(counting, torch.Size(event), torch.device("cpu"), asked)
    assert forwards.rows == rows
    z, logsnr = torch.randn(23, *event), torch.linspace(-3, 3, 23).double()
    assert torch.equal(forwards(z, logsnr, None), counting(z, logsnr))
    least = 16 if rows >= 16 else 1
    assert all(least <= count <= rows for count in counting.rows[:-1])
    two = forwards.branches(z, logsnr, [None, {"y": torch.zeros(23)}])
    assert all(torch.equal(branch, counting(z, logsnr)) for branch in two)


def test_hooks_that_offload_say_where_a_network_runs():
    network = torch.nn.Linear(2, 2)
    network._hf_hook = type("Hook", (), {"execution_device": "meta"})()

    class Wrapping(Counting):
        def __init__(self):
            super().__init__()
            self.network = network

    assert device_of(Wrapping(), torch.zeros(1)) == torch.device("meta")
    del network._hf_hook
    assert device_of(Wrapping(), torch.zeros(1)) == torch.device("cpu")
    assert device_of(Counting(), torch.zeros(1, device="meta")) == torch.device("meta")


def test_the_null_as_condition_tells_exactly_nothing_however_rows_are_rounded():
    """A batched product may round a row by its place in the batch, as float32 on a network of some hundred channels does."""
    convention = DiscreteVP.from_alphas(torch.linspace(0.999, 0.01, 50, dtype=torch.float64), "epsilon")

    def rounding(x, time, y):
        place = torch.arange(len(x)).view(-1, *(1,) * (x.ndim - 1))
        return x * y.view(-1, *(1,) * (x.ndim - 1)) + 1e-3 * place

    adapted = Adapted(rounding, convention, {"y": torch.tensor([0.5])})
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0.5, 0.4, 0.5])
    nats = MMG("gap", Trapezoid(4))(adapted, x, {"y": y}).nats
    assert (nats == 0).tolist() == [True, False, True]
