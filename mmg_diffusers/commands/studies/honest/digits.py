"""Candidates of small networks of digits that were trained in seconds with a weak null: what is believed of their evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.analysis.calibration import cross_fitted, even_edges, fit_trust, in_bands, posterior_of
from mmg_diffusers.arrays.labels import filter_labels
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import DiscreteVP, RectifiedFlow
from mmg_diffusers.measure.candidates import NoisePath
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.worlds.digits import Digits

# Trained on all but the last, of digits in an order by lot; of those, so many are measured.
HELD, MEASURED, LOT = 1500, 400, 0
STEPS, BATCH, NULL, SIDE, SEED = 6000, 128, 0.1, 14, 3
# Paths that evidence is averaged over, bands that it is believed by (0 as it stands), and steps.
PATHS, BANDS, NODES = (1, 2, 4), (0, 1, 4, 8), 33


class Network(nn.Module):
    """Hidden layers over a picture of 14 x 14, its time in 0 to 1 and its label; the last label is none."""

    def __init__(self, width: int = 320) -> None:
        super().__init__()
        size, told = SIDE * SIDE, 5 + 32
        self.embed = nn.Embedding(11, 32)
        self.first = nn.Linear(size + told, width)
        self.hidden = nn.ModuleList(nn.Linear(width + told, width) for _ in range(2))
        self.last = nn.Linear(width, size)

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Predict, `(B, 196)`."""
        t = time.to(noisy)[:, None]
        clock = [t, (3.14 * t).sin(), (3.14 * t).cos(), (6.28 * t).sin(), (6.28 * t).cos()]
        told = torch.cat([*clock, self.embed(label)], 1)
        inner = nn.functional.silu(self.first(torch.cat([noisy, told], 1)))
        for layer in self.hidden:
            inner = inner + nn.functional.silu(layer(torch.cat([inner, told], 1)))
        return self.last(inner)


class _Timesteps(nn.Module):
    """A network that is told the index of a timestep, of 1000."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
        return self.network(noisy, time.double() / 1000, label)


def _train(x: Tensor, label: Tensor, prediction: str, steps: int, seed: int) -> Adapted:
    """On (1 - t) x + t eps, or on the variance-preserving z at log-SNR 8 to -8; a label in ten is left out."""
    torch.manual_seed(seed)
    network, levels = Network(), torch.linspace(8, -8, 1000, dtype=torch.float64)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    flow = prediction == "flow_prediction"
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,))
        clean, eps = x[rows], torch.randn(BATCH, x.shape[1])
        told = torch.where(torch.rand(BATCH) < NULL, 10, label[rows])
        if flow:
            time = torch.rand(BATCH) * 0.98 + 0.01
            noisy, target = (1 - time)[:, None] * clean + time[:, None] * eps, eps - clean
        else:
            step = torch.randint(1000, (BATCH,))
            level = levels[step].float()[:, None]
            noisy = torch.sigmoid(level).sqrt() * clean + torch.sigmoid(-level).sqrt() * eps
            time, target = step / 1000, eps
        loss = (network(noisy, time, told) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    null = {"label": torch.tensor([10])}
    if flow:
        times = torch.linspace(0.01, 0.99, 500, dtype=torch.float64)
        return Adapted(network.eval(), RectifiedFlow(prediction, times, 1.0), null=null)
    return Adapted(_Timesteps(network.eval()), DiscreteVP("epsilon", levels, torch.arange(1000)), null=null)


def _regressed(x: Tensor, label: Tensor, fresh: Tensor) -> Tensor:
    """log q `(N, 10)` of fresh digits by a logistic regression of the pixels: what can be said of a classifier that is as often right."""
    weight = torch.zeros(x.shape[1] + 1, 10, requires_grad=True)
    inputs, told = (torch.nn.functional.pad(part, (0, 1), value=1.0) for part in (x, fresh))
    optimiser = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(inputs @ weight, label) + 1e-3 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return torch.log_softmax(told @ weight.detach(), 1).double()


def digits(folder: Path) -> dict[str, Any]:
    """The bound as it stands, by a temperature and by bands, each cross-fitted, of two networks on fresh digits."""
    read = Digits.read(folder, part="test")
    order = torch.randperm(len(read.labels), generator=torch.Generator().manual_seed(LOT))
    pictures = torch.from_numpy(read.images).float()[order, None] / 127.5 - 1
    x = nn.functional.avg_pool2d(pictures, 2).flatten(1)
    label = torch.from_numpy(read.labels).long()[order]
    rows: list[dict[str, Any]] = []
    fresh, truth = x[-HELD:][:MEASURED], label[-HELD:][:MEASURED]

    def add(prediction: str, paths: int, bands: int, log_q: Tensor, trust: list[float]) -> None:
        bound = mean_over_pairs(log_q[torch.arange(len(truth)), truth])
        right = float((log_q.argmax(1) == truth).double().mean())
        told = {"bound": Value(math.log(10) + bound.value, bound.stderr), "right": right, "trust": trust}
        rows.append({"prediction": prediction, "paths": paths, "bands": bands, **told})

    add("logistic regression of the pixels", 0, -1, _regressed(x[:-HELD], label[:-HELD], fresh), [])
    for prediction in ("flow_prediction", "epsilon"):
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            denoiser = _train(x[:-HELD], label[:-HELD], prediction, STEPS, SEED)
        path = NoisePath(Trapezoid(NODES), draws=max(PATHS))
        made = filter_labels(denoiser, fresh, {"label": torch.arange(10)}, truth, path=path)
        null = made.mixture.log_prior
        low, high = float(made.logsnr[0]), float(made.logsnr[-1])
        for draws in PATHS:
            score = made.evidence.score[:, :draws].mean(1)
            for bands in BANDS:
                evidence = in_bands(score, made.logsnr[:-1], even_edges(low, high, max(1, bands)))
                trust = torch.ones(evidence.shape[:2]).double() if bands == 0 else cross_fitted(evidence, null, truth)
                told = [] if bands == 0 else fit_trust(evidence, null, truth).tolist()
                add(prediction, draws, bands, posterior_of(evidence, null, trust), told)
    return {"rows": rows}


def digits_lines(found: dict[str, Any]) -> Iterator[str]:
    """A row for each network, number of paths and way to read."""
    yield "| network | paths | evidence | right | bound, nats | share of ln 10 | trust, noisy to clean |"
    yield "|---|--:|---|--:|--:|--:|---|"
    names = {-1: "", 0: "as it stands", 1: "a temperature", 4: "four bands (default)", 8: "eight bands"}
    for row in found["rows"]:
        trust = ", ".join(f"{value:.2f}" for value in row["trust"])
        yield (
            f"| {row['prediction']} | {row['paths']} | {names[row['bands']]} | {row['right']:.1%} | {plus_minus(row['bound'])} | "
            f"{row['bound'][0] / math.log(10):.1%} | {trust} |"
        )
