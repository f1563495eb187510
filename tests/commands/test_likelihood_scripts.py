"""The scripts that measure likelihoods, with small arguments: tables whose numbers are checked as far as they are known."""

import re
import runpy
import sys

import numpy as np
import pytest
import torch

from mmg_diffusers.denoisers import GaussianReference
from mmg_diffusers.measure import LogLikelihood
from tests.commands.calling import ROOT, run

SCRIPTS = ROOT / "scripts"


@pytest.fixture
def mnist(tmp_path):
    """A folder with test files of MNIST's kind: 60 digits, most of whose pixels are black."""
    made = np.random.default_rng(0)
    images = (made.integers(1, 256, (60, 28, 28)) * (made.random((60, 28, 28)) < 0.1)).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", made.integers(0, 10, 60).astype(np.uint8))):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (tmp_path / f"t10k-{name}-ubyte").write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
    return tmp_path


def cells(said, name):
    """The cells of the row of a table that begins so."""
    row = next(line for line in said.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.split("|")[1:-1]]


def number(text):
    return float(re.match(r"[-+]?[\d.,]+", text).group().replace(",", ""))


def test_digits(mnist, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mnist_likelihood

    from mmg_diffusers.arrays.image_networks import ImageNetwork

    for name, value in (("MEASURED", 6), ("WATCHED", 6), ("PILOT", 8)):
        monkeypatch.setattr(mnist_likelihood, name, value)
    monkeypatch.setattr(
        mnist_likelihood,
        "untrained",
        lambda seed: ImageNetwork({"x": (1, 28, 28)}, logsnr_range=mnist_likelihood.RANGE, widths=(8, 8), seed=seed),
    )
    options = {"batch": 2, "save_every": 1, "count": 3, "levels": 8}
    mnist_likelihood.main(mnist, tmp_path / "out", steps=2, **options)
    said = capsys.readouterr().out
    assert re.search(r"[\d,]+ parameters, 2 of 2 steps of 2 digits", said)
    # The head starts from the shares of independent pixels, and two steps have hardly moved it: both readings are near to that.
    alone = number(said.split("independent, of 6 digits: ")[1])
    for name in ("discrete", "dequantised"):
        row = cells(said, name)
        assert number(row[1]) == 3
        error = float(row[4].split("+-")[1]) + float(row[5])
        assert abs(number(row[4]) - alone) < max(4 * error, 0.3)
    kept = LogLikelihood.load(tmp_path / "out" / "dequantised.safetensors")
    assert kept.logsnr_range[1] > 20
    # The same command goes on from its checkpoint, and measures it without a step.
    mnist_likelihood.main(mnist, tmp_path / "out", steps=2, train=False, **options)
    assert cells(capsys.readouterr().out, "discrete") == cells(said, "discrete")


def test_what_the_shipped_models_find_likely(mnist, tmp_path, capsys):
    small = ["--fresh", 3, "--few", 2, "--others", 40, "--pilot", 8, "--levels", 6]
    run(SCRIPTS / "measure_likelihood.py", "shapes-plain", mnist, tmp_path / "out", *small)
    said = capsys.readouterr().out
    fresh, noise = cells(said, "fresh pictures"), cells(said, "uniform noise")
    assert number(fresh[1]) == 3
    assert number(noise[2]) < number(fresh[2]) - 200
    assert noise[6] == "100%"
    assert "log p(x | caption) - log p(x): " in said
    assert "12 evaluations of each picture" in said
    reference = GaussianReference.load(tmp_path / "out" / "reference.safetensors")
    assert len(reference.pilot.rows) == 8
    assert len(reference.fitted.rows) == 40
    # What is there is read back, and the same table is printed.
    run(SCRIPTS / "measure_likelihood.py", "shapes-plain", mnist, tmp_path / "out", *small)
    again = capsys.readouterr().out
    assert "done" not in again
    assert cells(again, "MNIST digits") == cells(said, "MNIST digits")


def test_calls_of_a_density_beside_the_ode(capsys):
    script = SCRIPTS / "benchmarks" / "density_calls.py"
    run(script, "--sizes", 2, "--calls", 64, "--seeds", 1, "--count", 100)
    row = cells(capsys.readouterr().out, "2")
    here, ode = number(row[2]), number(row[5])
    assert 0 < here < 0.6
    assert here < 0.7 * ode
    assert number(row[7]) == pytest.approx((ode / here) ** 2, rel=0.02)


def test_densities_against_known_ones(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["measure_density.py", "gaussian"])
    threads = torch.get_num_threads()
    runpy.run_path(str(SCRIPTS / "measure_density.py"), run_name="__main__")
    torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert float(said.split("at most ")[1].split(" nats")[0]) < 1e-6
    assert number(cells(said, "Gaussian, d = 64, fitted")[2]) < 0.006
