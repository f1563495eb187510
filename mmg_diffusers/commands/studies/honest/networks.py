"""Small networks that are trained in seconds: as they should be, and as they should not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmg_diffusers.commands.studies.honest.worlds import Labels
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import RectifiedFlow

# Times of training, as a flow's share of noise: log-SNR -8 to 8 or so.
TIMES = torch.linspace(0.018, 0.982, 400, dtype=torch.float64)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        prediction: ``"flow_prediction"`` or ``"epsilon"``, on (1 - t) x + t eps.
        loss: ``"l2"`` or ``"l1"``.
        normalise: whether hidden layers have batch normalisation.
        dropout: how often the label is replaced by none.
        steps, batch, width: how long, and how wide.
        seed: of weights and noise.
    """

    prediction: str = "flow_prediction"
    loss: str = "l2"
    normalise: bool = False
    dropout: float = 0.5
    steps: int = 600
    batch: int = 256
    width: int = 96
    seed: int = 0


class Network(nn.Module):
    """Hidden layers over the noisy x, its time and its label; the last label is none."""

    def __init__(self, world: Labels, recipe: Recipe) -> None:
        super().__init__()
        self.embed = nn.Embedding(world.count + 1, 16)
        inner = recipe.width
        norm = nn.BatchNorm1d(inner) if recipe.normalise else nn.Identity()
        again = nn.BatchNorm1d(inner) if recipe.normalise else nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(world.size + 5 + 16, inner),
            norm,
            nn.SiLU(),
            nn.Linear(inner, inner),
            again,
            nn.SiLU(),
            nn.Linear(inner, world.size),
        )

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Predict at flow time `(B,)` in 0 to 1."""
        t = time.to(noisy)[:, None]
        clock = torch.cat([t, (3.14 * t).sin(), (3.14 * t).cos(), (6.28 * t).sin(), (6.28 * t).cos()], 1)
        return self.layers(torch.cat([noisy, clock, self.embed(label)], 1))


def train(world: Labels, recipe: Recipe) -> Adapted:
    """A network of the world's data, in evaluation mode, in its own convention."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(world, recipe)
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=recipe.steps)
        means, deviation = world.means.float(), world.variance**0.5
        for _ in range(recipe.steps):
            label = torch.randint(world.count, (recipe.batch,))
            x = means[label] + deviation * torch.randn(recipe.batch, world.size)
            eps, t = torch.randn_like(x), torch.rand(recipe.batch) * 0.964 + 0.018
            noisy = (1 - t)[:, None] * x + t[:, None] * eps
            told = torch.where(torch.rand(recipe.batch) < recipe.dropout, world.count, label)
            target = eps - x if recipe.prediction == "flow_prediction" else eps
            error = network(noisy, t, told) - target
            loss = error.abs().mean() if recipe.loss == "l1" else error.square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    convention = RectifiedFlow(recipe.prediction, TIMES, time_scale=1.0)
    return Adapted(network.eval(), convention, null={"label": torch.tensor([world.count])})
